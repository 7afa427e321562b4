"""Wire values to tensors, for every datatype that a workload may use, not only those of the movies."""

import numpy as np
import pytest

from serving import tensors
from slipway.errors import RequestError
from slipway.package import Signature, TensorSpec


def spec(datatype, shape=(-1,), name="x", optional=False):
    return TensorSpec(name=name, datatype=datatype, shape=shape, optional=optional)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT32", [1, -2]),
        ("INT64", [2**63 - 1, -(2**63)]),
        ("FP32", [1, 0.5]),
        ("FP64", [1e300, 2]),
        ("BYTES", ["é", ""]),
    ],
)
def test_round_trip_of_values_and_bytes(datatype, values):
    tensor = tensors.from_values(spec(datatype), values, (2,))
    assert tensors.to_values(tensor) == values
    again = tensors.from_raw(spec(datatype), tensors.to_raw(tensor), (2,))
    assert (again == tensor).all()
    assert again.dtype == tensor.dtype


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [1]),
        ("INT32", [2**31]),
        ("INT64", [True]),
        ("INT64", [1.0]),
        ("FP32", [float("nan")]),
        ("FP32", [1e39]),
        ("FP64", [float("inf")]),
        ("FP64", [10**400]),
        ("FP64", [False]),
        ("BYTES", [1]),
        ("BYTES", [None]),
    ],
)
def test_nothing_is_converted(datatype, values):
    with pytest.raises(RequestError) as refused:
        tensors.from_values(spec(datatype), values, (1,))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [
        ("INT64", b"1234567"),
        ("FP32", np.float32("nan").tobytes()),
        ("FP64", np.float64("inf").tobytes()),
        ("BOOL", b"\x02"),
        ("BYTES", b""),
        ("BYTES", b"\x05\x00\x00\x00abc"),
        ("BYTES", b"\x01\x00\x00\x00ab"),
        ("BYTES", b"\x01\x00\x00\x00a\x01\x00\x00\x00b"),
    ],
)
def test_bad_bytes(datatype, raw):
    with pytest.raises(RequestError):
        tensors.from_raw(spec(datatype), raw, (1,))


def test_instances_stack_pad_and_agree():
    signature = Signature(
        inputs=(spec("INT64", name="id"), spec("INT64", (-1, -1), "seq", True), spec("INT64", (1,), "k", True)),
        outputs=(),
    )
    found = tensors.from_instances(signature, [{"id": 1, "seq": [5]}, {"id": 2, "seq": [6, 7]}, {"id": 3}])
    assert found["id"].tolist() == [1, 2, 3]
    assert found["seq"].tolist() == [[5, -1], [6, 7], [-1, -1]]
    assert "k" not in found
    assert tensors.from_instances(signature, [{"id": 1, "k": 3}, {"id": 2, "k": 3}])["k"].tolist() == [3]


def test_ragged_floats_are_refused():
    signature = Signature(inputs=(spec("FP32", (-1, -1)),), outputs=())
    with pytest.raises(RequestError, match="differs in length"):
        tensors.from_instances(signature, [{"x": [1.0]}, {"x": [1.0, 2.0]}])
