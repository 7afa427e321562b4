"""What a request may be, tensor by tensor."""

import numpy as np
import pytest

from slipway.errors import RequestError
from slipway.workloads.movies.request import Request


def tensors(**inputs):
    return {name: np.array(value, dtype=np.int64) for name, value in inputs.items()}


def test_defaults_and_forms():
    request = Request.parse(tensors(user_id=[3, 4]))
    assert (request.users.tolist(), request.sessions.shape, request.k) == ([3, 4], (2, 0), 10)
    assert Request.parse(tensors(user_id=[3], session=[5, 6], k=2)).sessions.tolist() == [[5, 6]]
    assert Request.parse(tensors(user_id=[3], session=[[5, -1]], k=[100])).k == 100
    assert Request.parse(tensors(user_id=[0], session=[[-1, -1]])).sessions.tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "user_id is missing"),
        (tensors(user_id=[[1]]), "shape"),
        (tensors(user_id=1), "shape"),
        (tensors(user_id=[]), "shape"),
        (tensors(user_id=[1] * 65), "1..64"),
        (tensors(user_id=[-1]), "negative"),
        ({"user_id": np.array([1.0])}, "send INT64"),
        ({"user_id": np.array([1], dtype=np.int32)}, "send INT64"),
        ({"user_id": np.array(["1"])}, "send INT64"),
        (tensors(user_id=[1], users=[1]), "no input 'users'"),
        (tensors(user_id=[1], k=[0]), "1..100"),
        (tensors(user_id=[1], k=[101]), "1..100"),
        (tensors(user_id=[1], k=[1, 2]), "shape"),
        (tensors(user_id=[1], session=[[-2]]), "item -2"),
        (tensors(user_id=[1], session=[[-1, 5]]), "only at the end"),
        (tensors(user_id=[1], session=[[1], [2]]), "beside 1"),
        (tensors(user_id=[1, 2], session=[1, 2]), "beside 2"),
        (tensors(user_id=[1], session=[[[1]]]), "beside 1"),
        (tensors(user_id=[1], session=[[1] * 1001]), "up to 1000"),
    ],
)
def test_bad_requests_name_the_remedy(inputs, says):
    with pytest.raises(RequestError) as refused:
        Request.parse(inputs)
    assert says in str(refused.value)
    assert refused.value.remedy
