import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.evaluation import metrics

INF = np.inf


def naive_rank(row: np.ndarray, target: int, seen: set[int]) -> int:
    """How many other items, not left out, score at least as high; last when a score is no number."""
    if any(np.isnan(s) or s == INF for s in row[1:]):
        return len(row) - 1
    before = 0
    for item in range(1, len(row)):
        masked = item in seen and item != target
        score = -INF if masked else row[item]
        if item != target and score >= row[target]:
            before += 1
    if row[target] == -INF:
        return len(row) - 1
    return before


def test_ranks_by_hand() -> None:
    scores = np.array([[9, 0.1, 0.5, 0.3, 0.5], [9, 4, 3, 2, 1]], dtype=np.float32)
    found = metrics.rank(scores, np.array([2, 4]), k=2, seen=(np.array([1, 1]), np.array([1, 4])))
    # first: item 4 ties with the answer and stands before it. second: item 1 is left out, the answer never is.
    assert found.ranks.tolist() == [1, 2]
    assert found.top[1].tolist() == [2, 3]
    assert found.finite


@given(st.data())
def test_ranks_agree_with_a_naive_loop(data: st.DataObject) -> None:
    n, items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    value = st.sampled_from([-INF, -1.5, 0.0, 0.25, 0.5, 2.0, np.nan, INF])
    scores = np.array([[data.draw(value) for _ in range(items + 1)] for _ in range(n)], dtype=np.float32)
    targets = np.array([data.draw(st.integers(1, items)) for _ in range(n)])
    seen = [data.draw(st.lists(st.integers(1, items), max_size=4)) for _ in range(n)]
    rows = np.repeat(np.arange(n), [len(s) for s in seen])
    flat = np.array([item for s in seen for item in s], dtype=np.int64)
    before = scores.copy()
    found = metrics.rank(scores, targets, 3, (rows, flat))
    assert np.array_equal(scores, before, equal_nan=True), "the scores belong to the caller"
    expected = [naive_rank(scores[i], int(targets[i]), set(seen[i])) for i in range(n)]
    assert found.ranks.tolist() == expected
    assert found.finite == bool((scores[:, 1:] < INF).all())
    for i in range(n):
        recommended = [item for item in found.top[i].tolist() if item]
        assert len(set(recommended)) == len(recommended)
        assert not set(recommended) & (set(seen[i]) - {int(targets[i])}), "a seen item is never recommended"
        assert scores[i, recommended].tolist() == sorted(scores[i, recommended].tolist(), reverse=True)


def test_a_constant_score_is_the_worst_model_and_not_a_perfect_one() -> None:
    found = metrics.rank(np.zeros((3, 11), dtype=np.float32), np.array([1, 5, 10]), k=10)
    assert found.ranks.tolist() == [9, 9, 9]


def test_a_score_that_is_no_number_is_noticed_and_ranks_last() -> None:
    scores = np.array([[0, 1, 2, np.nan], [0, 3, 2, 1]], dtype=np.float32)
    found = metrics.rank(scores, np.array([1, 1]), k=2)
    assert not found.finite
    assert found.ranks.tolist() == [3, 0]
    assert found.top.tolist() == [[0, 0], [1, 2]]


def test_metrics_by_hand() -> None:
    ranks = np.array([0, 1, 9, 10])
    assert metrics.ndcg(ranks, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert metrics.hit_rate(ranks, 10).tolist() == [1, 1, 1, 0]
    assert metrics.reciprocal_rank(ranks, 10) == pytest.approx([1, 1 / 2, 1 / 10, 0])


def test_each_user_weighs_the_same() -> None:
    values, owners = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0, 0, 0, 1])
    assert metrics.user_means(values, owners, 2) == pytest.approx([1 / 3, 1])


@given(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 4)), min_size=1, max_size=40))
def test_the_recall_curve_is_the_hit_rate_at_every_k(cases: list[tuple[int, int]]) -> None:
    ranks = np.array([rank for rank, _ in cases])
    users, owners = np.unique([owner for _, owner in cases], return_inverse=True)
    curve = metrics.recall_curve(ranks, owners, len(users), longest=100)
    for k in (1, 10, 37, 100):
        by_user = metrics.user_means(metrics.hit_rate(ranks, k), owners, len(users))
        assert curve[k - 1] == pytest.approx(by_user.mean())


def test_coverage_and_novelty_by_hand() -> None:
    top = np.array([[1, 2], [1, 0]])  # 0: nothing left to recommend
    assert metrics.coverage(top, 4) == 0.5
    popularity = np.array([0, 5, 1, 0, 2])  # with one added: 6, 2, 1, 3 of 12
    assert metrics.novelty(top, popularity) == pytest.approx((1 + np.log2(6) + 1) / 3)


def test_names_say_protocol_and_filter() -> None:
    assert metrics.metric_name("ndcg", 10, "temporal", True) == "ndcg10_full_temporal_filtered"
    assert metrics.metric_name("hr", 5, "loo", False) == "hr5_full_loo_unfiltered"


def test_chunks_are_bounded() -> None:
    for n_items in (1, 3_416, 62_000, 10_000_000):
        cases = metrics.chunk_cases(n_items)
        assert cases >= 1
        assert cases == 1 or cases * (n_items + 1) * 4 <= metrics.CHUNK_BYTES
