from dataclasses import dataclass

import numpy as np
import pytest

from slipway.evaluation import metrics
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.scorer import Scores


@dataclass
class Random:
    name: str = "random"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        rows = [np.random.default_rng(p).integers(0, 15, whole.n_items + 1) for p in positions]
        return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("filter_seen", [True, False])
def test_agrees_with_the_evaluation(chain: Interactions, filter_seen: bool) -> None:
    cases = np.arange(5, len(chain.items), 3)
    validation = Validation(chain, cases, filter_seen)
    seen = chain.before(cases) if filter_seen else None
    scores = Random().score(chain, cases)
    expected = metrics.rank(scores, chain.items[cases].astype(np.int64), 10, seen).ranks
    np.testing.assert_array_equal(validation.ranks(scores), expected)
    np.testing.assert_allclose(validation.ndcg(Random()), metrics.ndcg(expected, 10))


def test_no_number_ranks_last(chain: Interactions) -> None:
    scores = np.full((1, chain.n_items + 1), np.nan, dtype=np.float32)
    assert Validation(chain, np.array([3]), False).ranks(scores).tolist() == [chain.n_items]


def test_draws_once_and_shares_without_overlap(chain: Interactions) -> None:
    every = np.arange(1, 200)
    drawn = [Validation.draw(chain, every, False, limit=50, seed=seed).cases for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    whole = Validation(chain, drawn[0], False)
    shares = np.concatenate([whole.share(rank, 3).cases for rank in range(3)])
    np.testing.assert_array_equal(np.sort(shares), drawn[0])
