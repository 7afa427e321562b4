import numpy as np

from slipway.workloads.movies.rerank.diversity import mmr

SCORE = np.array([0.5, 3.0, 2.9, 1.0], dtype=np.float32)
VECTORS = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], dtype=np.float32)


def test_without_weight_it_is_the_order_of_the_scores() -> None:
    assert mmr(SCORE, VECTORS, 0.0, 3).tolist() == [1, 2, 3]


def test_with_weight_the_double_of_the_first_falls_behind_what_differs() -> None:
    assert mmr(SCORE, VECTORS, 0.6, 4).tolist() == [1, 3, 2, 0]


def test_a_shorter_order_begins_a_longer_one() -> None:
    rng = np.random.default_rng(0)
    score, vectors = rng.normal(size=40).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = mmr(score, vectors, 0.4, 40)
    assert sorted(whole.tolist()) == list(range(40))
    assert mmr(score, vectors, 0.4, 7).tolist() == whole[:7].tolist()
    assert mmr(np.full(3, 2.0, np.float32), np.zeros((3, 5), np.float32), 0.4, 9).tolist() == [0, 1, 2]
