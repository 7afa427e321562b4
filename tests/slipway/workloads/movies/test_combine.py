from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slipway.errors import PackageError
from slipway.workloads.movies import combine
from slipway.workloads.movies.combine import Combination, CombinedScorer
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.scorer import Scores

LOGITS = np.array([[9, 1, 2, 3], [-np.inf, 0, 0, 0]], dtype=np.float32)
COUNTS = np.array([[7, 2, 0, 6], [5, 0, 0, 0]], dtype=np.float32)


def test_is_the_formula() -> None:
    found = combine.combine(LOGITS, COUNTS, 0.5, 1e-3)
    assert found.dtype == np.float32
    p = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    np.testing.assert_allclose(found[0, 1:], np.log(p) + 0.5 * np.log(1e-3 + np.array([2, 0, 6]) / 8), rtol=1e-5)
    np.testing.assert_allclose(found[1, 1:], np.log(1 / 3) + 0.5 * np.log(1e-3), rtol=1e-5)  # no counts at all
    assert (found[:, 0] == -np.inf).all()


def test_large_logits_do_not_overflow() -> None:
    assert np.isfinite(combine.combine(LOGITS * 1e4, COUNTS, 0.5, 1e-3)[0, 1:]).all()


@dataclass
class Knows:
    """Puts the answer first in the cases that it knows, and is undecided elsewhere."""

    name: str
    share: float
    height: float

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        scores = np.ones((len(positions), whole.n_items + 1), dtype=np.float32)
        known = np.array([np.random.default_rng(int(p)).random() < self.share for p in positions])
        scores[np.flatnonzero(known), whole.items[positions[known]]] = self.height
        return scores


def test_the_fit_takes_the_better_opinion(ring: Interactions) -> None:
    validation = Validation(ring, np.arange(len(ring.items)), filter_seen=False)
    knowing, lost = Knows("knowing", 1.0, 50.0), Knows("lost", 0.0, 50.0)
    for ranker, counts in ((knowing, lost), (lost, knowing)):
        chosen = combine.fit(ranker, counts, validation)
        assert validation.ndcg(CombinedScorer(ranker, counts, chosen)).mean() == 1


def test_the_fit_is_the_best_of_the_grid(ring: Interactions) -> None:
    validation = Validation(ring, np.arange(len(ring.items)), filter_seen=False)
    ranker, counts = Knows("ranker", 0.5, 3.0), Knows("counts", 0.2, 9.0)
    chosen = combine.fit(ranker, counts, validation)

    def value(point: Combination) -> float:
        return float(validation.ndcg(CombinedScorer(ranker, counts, point)).mean())

    grid = [Combination(weight=w, epsilon=e) for w in combine.WEIGHTS for e in combine.EPSILONS]
    assert chosen in grid
    assert value(chosen) == pytest.approx(max(map(value, grid)))


def test_comes_back_from_its_file(tmp_path: Path) -> None:
    point = Combination(weight=0.35, epsilon=1e-4)
    point.save(tmp_path)
    assert Combination.load(tmp_path) == point
    (tmp_path / "combine.json").write_text('{"weight": -1, "epsilon": 0}')
    with pytest.raises(PackageError, match="train the model again"):
        Combination.load(tmp_path)


@pytest.fixture
def ring() -> Interactions:
    items = np.resize(np.arange(1, 13, dtype=np.int32), 120)
    return Interactions(np.arange(0, 121, 20), items, None, np.arange(6), np.arange(-1, 12))
