"""NDCG@10 on a few validation cases: what training selects by. Knows no test case and no report.

The full evaluation, with its intervals, is another module's; this one is asked every epoch and must be cheap.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slipway.evaluation.metrics import ndcg
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scorer, Scores

CHUNK = 256  # cases whose scores are held at once
K = 10


@dataclass(frozen=True, eq=False)
class Validation:
    """cases: positions in whole; filter_seen: a user's earlier items are no candidates."""

    whole: Interactions
    cases: IntArray
    filter_seen: bool

    @classmethod
    def draw(cls, whole: Interactions, cases: IntArray, filter_seen: bool, limit: int, seed: int) -> "Validation":
        """At most limit cases, drawn once by seed."""
        if len(cases) > limit:
            cases = np.sort(np.random.default_rng(seed).choice(cases, limit, replace=False))
        return cls(whole, cases, filter_seen)

    def compact(self) -> "Validation":
        """The same cases without the histories of users who have none, and without times: what a worker is given."""
        owners = self.whole.users[self.cases]
        mask = np.isin(self.whole.users, owners)
        kept = self.whole.keep(mask)
        cases = np.cumsum(mask)[self.cases] - 1
        return Validation(replace(kept, times=None), cases, self.filter_seen)

    def share(self, rank: int, world_size: int) -> "Validation":
        return Validation(self.whole, self.cases[rank::world_size], self.filter_seen)

    def chunks(self) -> Iterator["Validation"]:
        for start in range(0, len(self.cases), CHUNK):
            yield Validation(self.whole, self.cases[start : start + CHUNK], self.filter_seen)

    def ranks(self, scores: Scores) -> IntArray:
        """(cases,) 0 = the answer came first; ties and NaN count against the model. Overwrites scores."""
        rows = np.arange(len(self.cases))
        answers = self.whole.items[self.cases]
        wanted = scores[rows, answers]
        if self.filter_seen:
            scores[self.whole.before(self.cases)] = -np.inf
        scores[:, 0] = -np.inf
        scores[rows, answers] = wanted
        ranks: IntArray = (~(scores < wanted[:, None])).sum(axis=1) - 1
        return ranks

    def ndcg(self, scorer: Scorer) -> npt.NDArray[np.float64]:
        """(cases,) NDCG@10."""
        parts = [ndcg(part.ranks(scorer.score(self.whole, part.cases)), K) for part in self.chunks()]
        return np.concatenate([np.empty(0), *parts])
