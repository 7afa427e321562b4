import numpy as np
import pytest

from slipway.evaluation.metrics import rank
from slipway.evaluation.sampled import sampled_ranks

CASES, ITEMS = 300, 60


@pytest.fixture
def asked() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """scores, answers, and what was seen: half of the items, the answer sometimes among them."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(CASES, ITEMS + 1)).astype(np.float32)
    scores[:, 0] = 99
    seen = np.nonzero(rng.random((CASES, ITEMS + 1)) < 0.5)
    return scores, rng.integers(1, ITEMS + 1, CASES), seen


def test_the_share_above_is_the_full_ranking_s(asked) -> None:
    scores, answers, seen = asked
    full = rank(scores, answers, 10, seen).ranks
    free = np.ones((CASES, ITEMS + 1), dtype=bool)
    free[:, 0] = free[seen] = False
    free[np.arange(CASES), answers] = False
    found = sampled_ranks(scores, answers, seen, negatives=2000, seed=3)
    np.testing.assert_allclose(found / 2000, full / free.sum(axis=1), atol=0.06)


def test_what_is_seen_is_never_drawn_nor_is_the_answer(asked) -> None:
    scores, answers, seen = asked
    wanted = scores[np.arange(CASES), answers].copy()
    scores[seen] = 50  # would stand before every answer
    scores[np.arange(CASES), answers] = wanted
    loud = sampled_ranks(scores, answers, seen)
    scores[seen] = -50
    scores[np.arange(CASES), answers] = wanted
    np.testing.assert_array_equal(loud, sampled_ranks(scores, answers, seen))
    best = np.full((CASES, ITEMS + 1), -1, dtype=np.float32)
    best[np.arange(CASES), answers] = 1
    assert (sampled_ranks(best, answers, seen) == 0).all()


def test_draws_follow_the_seed(asked) -> None:
    np.testing.assert_array_equal(sampled_ranks(*asked, seed=1), sampled_ranks(*asked, seed=1))
    assert (sampled_ranks(*asked, seed=1) != sampled_ranks(*asked, seed=2)).any()


def test_ties_and_nan_count_against_the_model(asked) -> None:
    scores, answers, seen = asked
    assert (sampled_ranks(np.zeros_like(scores), answers, seen) == 100).all()
    assert (sampled_ranks(np.full_like(scores, np.nan), answers, seen) == 100).all()


def test_a_case_without_any_negative_is_named(asked) -> None:
    scores, answers, _ = asked
    everything = np.nonzero(np.arange(CASES)[:, None] < 2 + np.zeros(ITEMS + 1))
    with pytest.raises(ValueError, match="2 cases have seen every item"):
        sampled_ranks(scores, answers, everything)
