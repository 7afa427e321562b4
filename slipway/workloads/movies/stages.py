"""The models of an evaluation's table, from the simplest to what is served, each asked once per case, and what they
answered. Knows scorers and chunks; computes no mean and judges nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipway.errors import TrainingError
from slipway.evaluation import metrics
from slipway.evaluation.sampled import sampled_ranks
from slipway.workload import Progress
from slipway.workloads.movies.baselines import Counts, Popularity, RepeatLast, markov
from slipway.workloads.movies.cases import Asked
from slipway.workloads.movies.combine import Combination, CombinedScorer, combine
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.scorer import Scorer, Scores

COMBINED = "combined"
NEGATIVES = 100
BASELINES = ("counts", "markov", "popularity", "repeat last")

Floats = npt.NDArray[np.float64]


@dataclass
class Answers:
    """What one model answered, chunk by chunk: in the end an entry per case; sampled: ranks among 100 negatives."""

    ranks: list[IntArray] = field(default_factory=list)
    sampled: list[IntArray] = field(default_factory=list)
    top: list[IntArray] = field(default_factory=list)
    finite: bool = True
    cpu_seconds: float = 0.0

    def add(self, ranking: metrics.Ranking, cpu_seconds: float) -> None:
        self.ranks.append(ranking.ranks)
        self.top.append(ranking.top)
        self.finite &= ranking.finite
        self.cpu_seconds += cpu_seconds

    @property
    def all_ranks(self) -> IntArray:
        return np.concatenate(self.ranks)

    @property
    def all_sampled(self) -> IntArray:
        return np.concatenate(self.sampled)

    @property
    def all_top(self) -> IntArray:
        return np.concatenate(self.top)


@dataclass(frozen=True, eq=False)
class Stages:
    """The scorers of a table, in its order; combined stands after counts and ranker, whose scores it reuses."""

    before: list[Scorer]
    counts: Scorer
    ranker: Scorer
    combination: Combination
    after: list[Scorer]

    @classmethod
    def load(cls, data: Path, model: Path, asked: Asked) -> "Stages":
        """Raises PackageError when a model cannot be read, TrainingError when it is of another catalogue."""
        counts = Counts.load(model / "counts.npz")
        if counts.n_items != asked.whole.n_items:
            raise TrainingError(
                f"the counts are of {counts.n_items} items, the data set has {asked.whole.n_items}",
                "train the model again on this data set",
            )
        after: list[Scorer] = []
        if asked.simulated:
            from slipway.workloads.movies.simulator.oracle import OracleScorer

            after.append(OracleScorer.open(data))
        before: list[Scorer] = [RepeatLast()] if asked.source.repeats else []
        return cls(
            before=[*before, Popularity(asked.popularity), markov(asked.crowd.train)],
            counts=counts,
            ranker=RankerScorer.load(model),
            combination=Combination.load(model),
            after=after,
        )

    @property
    def served(self) -> Scorer:
        """What answers requests, and so what is judged."""
        return CombinedScorer(self.ranker, self.counts, self.combination)

    def scores(self, whole: Interactions, positions: IntArray) -> Iterator[tuple[str, Scores, float]]:
        """(name, (cases, n_items + 1) scores, CPU-seconds) of every model, each asked once."""
        for scorer in self.before:
            yield scorer.name, *_timed(scorer, whole, positions)
        counts, counts_seconds = _timed(self.counts, whole, positions)
        yield self.counts.name, counts, counts_seconds
        ranker, ranker_seconds = _timed(self.ranker, whole, positions)
        yield self.ranker.name, ranker, ranker_seconds
        start = time.process_time()
        combined = combine(ranker, counts, self.combination.weight, self.combination.epsilon)
        yield COMBINED, combined, counts_seconds + ranker_seconds + time.process_time() - start
        for scorer in self.after:
            yield scorer.name, *_timed(scorer, whole, positions)


@dataclass(frozen=True, eq=False)
class Collected:
    """answers: by model, in the table's order; probabilities: (cases, k) of what was served, by the scores shown;
    sampled: whether ranks among negatives were taken, which needs items that each user has not seen.
    """

    answers: dict[str, Answers]
    probabilities: Floats
    sampled: bool


def collect(stages: Stages, asked: Asked, k: int, seed: int, progress: Progress, share: float) -> Collected:
    """Ask every model every case; progress goes from 0 to share. seed: of the negatives, the same for every model."""
    answers: dict[str, Answers] = {}
    shown: list[Floats] = []
    whole, cases = asked.whole, asked.crowd.cases
    history = cases - whole.indptr[asked.crowd.owners]
    sampled = asked.filtered and bool((history + 1 < whole.n_items).all())
    step = metrics.chunk_cases(whole.n_items)
    for begin in range(0, len(cases), step):
        positions = cases[begin : begin + step]
        targets = whole.items[positions].astype(np.int64)
        seen = whole.before(positions) if asked.filtered else None
        for name, scores, seconds in stages.scores(whole, positions):
            ranking = metrics.rank(scores, targets, k, seen)
            given = answers.setdefault(name, Answers())
            given.add(ranking, seconds)
            if sampled and seen is not None:
                given.sampled.append(sampled_ranks(scores, targets, seen, NEGATIVES, [seed, begin]))
            if name == stages.served.name:
                shown.append(probabilities(scores, ranking.top, seen))
        progress("evaluate", share * min(begin + step, len(cases)) / len(cases), {})
    return Collected(answers, np.concatenate(shown), sampled)


def probabilities(scores: Scores, top: IntArray, seen: tuple[IntArray, IntArray] | None) -> Floats:
    """(cases, k) softmax of scores over what may be answered, at top; 0 where nothing was answered."""
    allowed = scores.astype(np.float64)
    if seen is not None:
        allowed[seen] = -np.inf
    allowed[:, 0] = -np.inf
    with np.errstate(invalid="ignore"):  # a row that is not finite is noticed elsewhere
        allowed -= np.nan_to_num(allowed.max(axis=1, keepdims=True), neginf=0, posinf=0)
        share = np.exp(allowed)
        share /= np.maximum(share.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    found: Floats = np.nan_to_num(np.take_along_axis(share, top, axis=1))
    found[top == 0] = 0
    return found


def _timed(scorer: Scorer, whole: Interactions, positions: IntArray) -> tuple[Scores, float]:
    start = time.process_time()
    return scorer.score(whole, positions), time.process_time() - start
