"""The models of an evaluation's table, from the simplest to what is served, each asked once per case, and what they
answered. Knows scorers and chunks; computes no mean and judges nothing.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
from slipway.workloads.movies.rerank.cascade import PROBABILITY, STAGES, Cascade
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import FILE as RERANKER
from slipway.workloads.movies.scorer import Scorer, Scores

log = logging.getLogger(__name__)

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


class Scored(NamedTuple):
    """scores: (cases, n_items + 1); shown: as many probabilities, where the model has some of its own."""

    name: str
    scores: Scores
    cpu_seconds: float
    shown: Scores | None = None


@dataclass(frozen=True, eq=False)
class Stages:
    """The scorers of a table, in its order; combined and the cascade stand after counts and ranker, whose scores they
    reuse. cascade: None where the model has no re-ranker; then the combination is what is served.
    """

    before: list[Scorer]
    counts: Scorer
    ranker: Scorer
    combination: Combination
    cascade: Cascade | None
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
        ranker = RankerScorer.load(model)
        cascade = None
        if (model / RERANKER).exists():
            items = ItemTable.build(data / "items.parquet", asked.whole, asked.crowd.train)
            cascade = Cascade.load(model, ranker, counts, items, asked.filtered)
        return cls(
            before=[*before, Popularity(asked.popularity), markov(asked.crowd.train)],
            counts=counts,
            ranker=ranker,
            combination=Combination.load(model),
            cascade=cascade,
            after=after,
        )

    @property
    def served(self) -> Scorer:
        """What answers requests, and so what is judged."""
        if self.cascade is None:
            return CombinedScorer(self.ranker, self.counts, self.combination)
        return _Served(self.cascade)

    def scores(self, whole: Interactions, positions: IntArray) -> Iterator[Scored]:
        """Of every model, each asked once; the CPU-seconds of a stage are those of everything before it, too."""
        for scorer in self.before:
            yield _timed(scorer, whole, positions)
        counts, ranker = _timed(self.counts, whole, positions), _timed(self.ranker, whole, positions)
        yield counts
        yield ranker
        start = time.process_time()
        combined = combine(ranker.scores, counts.scores, self.combination.weight, self.combination.epsilon)
        seconds = counts.cpu_seconds + ranker.cpu_seconds
        yield Scored(COMBINED, combined, seconds + time.process_time() - start)
        if self.cascade is not None:
            start = time.process_time()
            found = _stages(self.cascade, whole, positions, ranker.scores, counts.scores)
            seconds += time.process_time() - start
            for name in STAGES:
                yield Scored(name, found[name], seconds, found[PROBABILITY] if name == STAGES[-1] else None)
        for scorer in self.after:
            yield _timed(scorer, whole, positions)


@dataclass(frozen=True, eq=False)
class _Served:
    """The last stage as a Scorer, which says NaN where a model fails: a server answers with another model then, and
    nothing good can be said of this one.
    """

    cascade: Cascade
    name: str = STAGES[-1]

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        counts = self.cascade.counts.score(whole, positions)
        return _stages(self.cascade, whole, positions, self.cascade.ranker.score(whole, positions), counts)[self.name]


def _stages(
    cascade: Cascade, whole: Interactions, positions: IntArray, ranker: Scores, counts: Scores
) -> Mapping[str, Scores]:
    if np.isfinite(ranker[:, 1:]).all():
        try:
            return cascade.scores(whole, positions, ranker, counts)
        except RuntimeError as error:
            log.warning("the re-ranker failed: %s", error)
    return dict.fromkeys((*STAGES, PROBABILITY), np.full_like(ranker, np.nan))


@dataclass(frozen=True, eq=False)
class Collected:
    """answers: by model, in the table's order; probabilities: (cases, k) of what was served, by the scores shown;
    sampled: whether ranks among negatives were taken, which needs items that each user has not seen.
    retrieved: (cases,) whether the answer was among the candidates; None without a cascade.
    """

    answers: dict[str, Answers]
    probabilities: Floats
    sampled: bool
    retrieved: npt.NDArray[np.bool_] | None


def collect(stages: Stages, asked: Asked, k: int, seed: int, progress: Progress, share: float) -> Collected:
    """Ask every model every case; progress goes from 0 to share. seed: of the negatives, the same for every model."""
    answers: dict[str, Answers] = {}
    shown: list[Floats] = []
    found: list[npt.NDArray[np.bool_]] = []
    whole, cases = asked.whole, asked.crowd.cases
    history = cases - whole.indptr[asked.crowd.owners]
    sampled = asked.filtered and bool((history + 1 < whole.n_items).all())
    step = metrics.chunk_cases(whole.n_items)
    for begin in range(0, len(cases), step):
        positions = cases[begin : begin + step]
        targets = whole.items[positions].astype(np.int64)
        seen = whole.before(positions) if asked.filtered else None
        for name, scores, seconds, own in stages.scores(whole, positions):
            ranking = metrics.rank(scores, targets, k, seen)
            given = answers.setdefault(name, Answers())
            given.add(ranking, seconds)
            if sampled and seen is not None:
                given.sampled.append(sampled_ranks(scores, targets, seen, NEGATIVES, [seed, begin]))
            if name == stages.served.name:
                shown.append(probabilities(scores, ranking.top, seen) if own is None else at(own, ranking.top))
            if name == STAGES[0]:
                found.append(scores[np.arange(len(targets)), targets] > 0)
        progress("evaluate", share * min(begin + step, len(cases)) / len(cases), {})
    return Collected(answers, np.concatenate(shown), sampled, np.concatenate(found) if found else None)


def at(shares: Scores, top: IntArray) -> Floats:
    """(cases, k) of shares (cases, n_items + 1) at top; 0 where nothing was answered."""
    taken: Floats = np.nan_to_num(np.take_along_axis(shares, top, axis=1).astype(np.float64))
    taken[top == 0] = 0
    return taken


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
    return at(share, top)


def _timed(scorer: Scorer, whole: Interactions, positions: IntArray) -> Scored:
    start = time.process_time()
    return Scored(scorer.name, scorer.score(whole, positions), time.process_time() - start)
