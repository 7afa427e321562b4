"""The three models in a row: retrieve, order anew, diversify; as scorers, and as the answer to a request. Knows what is
done in which order; knows no wire and no training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway.errors import PackageError
from slipway.workloads.movies.combine import combine, log_softmax
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.rerank.config import RetrievalConfig
from slipway.workloads.movies.rerank.diversity import mmr
from slipway.workloads.movies.rerank.features import Lists, Tables, matrix
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import Reranker, split
from slipway.workloads.movies.rerank.retrieval import Candidates, gather, top
from slipway.workloads.movies.scorer import Scorer, Scores

STAGES = ("retrieval", "reranked", "diverse")
PROBABILITY = "probability"  # beside the stages: what is shown with an answer
CHUNK = 128  # cases whose features are held at once


@dataclass(frozen=True, eq=False)
class Order:
    """One case's candidates, best first. items: (C,) indices; scores: (C,) of the trees; probabilities: (C,)
    calibrated; places: (C,) of each in its row of the candidates.
    """

    items: IntArray
    scores: Scores
    probabilities: Scores
    places: IntArray


def popular(items: ItemTable, times: IntArray | None, n: int) -> Scores:
    """(n, V + 1) float32: each case's popularity as of its time; a day's is computed once."""
    moments = items.moments(times, n)
    if moments is None:
        return np.broadcast_to(items.popular(None), (n, items.n_items + 1))
    return np.stack([items.popular(moment) for moment in moments.tolist()])


def retrieve(
    log_p: Scores, counts: Scores, popularity: Scores, config: RetrievalConfig, seen: tuple[IntArray, IntArray] | None
) -> Candidates:
    """(n, V + 1) scores of the three sources → their union; seen: rows and items that may not come."""
    return gather(
        [top(log_p, config.ranker, seen), top(counts, config.counts, seen), top(popularity, config.popular, seen)]
    )


def arrange(reranker: Reranker, tables: Tables, lists: Lists, depth: int | None = None) -> list[Order]:
    """Each case's candidates by the trees, then by MMR among the best `diversity_depth`; depth: only so many are asked
    for (k of a request: MMR is greedy, so a longer order begins the same).

    Raises RuntimeError where the trees fail; the caller falls back to the linear combination.
    """
    rows = matrix(lists, tables)
    return ordered(reranker, tables, lists, split(reranker.score(rows), rows.sizes), depth)


def ordered(
    reranker: Reranker, tables: Tables, lists: Lists, scored: Sequence[Scores], depth: int | None = None
) -> list[Order]:
    """`arrange` where the scores are there. scored: (C,) of each case."""
    settings = reranker.settings
    found = []
    for row, scores in zip(lists.candidates, scored, strict=True):
        places = by_trees = np.argsort(-scores, kind="stable")  # padding is at the end, so that these are places, too
        if settings.diversity_weight and len(scores) > 1:
            best = by_trees[: settings.diversity_depth]
            limit = len(best) if depth is None else min(depth, len(best))
            chosen = best[mmr(scores[best], tables.vectors[row[best]], settings.diversity_weight, limit)]
            places = chosen
            if depth is None or len(chosen) < depth:
                rest = np.ones(len(scores), dtype=bool)
                rest[chosen] = False
                places = np.concatenate([chosen, by_trees[rest[by_trees]]])
        places = places[:depth]
        found.append(Order(row[places], scores[places], reranker.calibrate(scores, places), places))
    return found


@dataclass(frozen=True, eq=False)
class Cascade:
    """filter_seen: what a user had is no candidate."""

    ranker: Scorer
    counts: Scorer
    reranker: Reranker
    tables: Tables
    filter_seen: bool

    @classmethod
    def load(cls, model: Path, ranker: Scorer, counts: Scorer, items: ItemTable, filter_seen: bool) -> "Cascade":
        """From a trained model folder; items: with every event whose time is asked about (the folder's own knows
        the last days alone). Raises PackageError.
        """
        own = Tables.load(model)
        if own.items.n_items != items.n_items:
            raise PackageError(f"{model} is of {own.items.n_items} items, not {items.n_items}", "train it again")
        tables = Tables(items, own.combination, own.vectors, own.relations)
        return cls(ranker, counts, Reranker.load(model), tables, filter_seen)

    def lists(self, whole: Interactions, positions: IntArray, ranker_scores: Scores, counts_scores: Scores) -> Lists:
        """What is asked of the trees for these cases."""
        log_p = log_softmax(ranker_scores)
        times = None if whole.times is None else whole.times[positions]
        seen = whole.before(positions) if self.filter_seen else None
        popularity = popular(self.tables.items, times, len(positions))
        found = retrieve(log_p, counts_scores, popularity, self.reranker.settings.retrieval, seen)
        starts = whole.indptr[np.searchsorted(whole.indptr, positions, side="right") - 1]
        histories = [whole.items[begin:end] for begin, end in zip(starts.tolist(), positions.tolist(), strict=True)]
        near = np.take_along_axis(log_p, found.items, axis=1)
        return Lists(histories, found.items, found.sources, near, counts_scores, times)

    def scores(
        self,
        whole: Interactions,
        positions: IntArray,
        ranker_scores: Scores | None = None,
        counts_scores: Scores | None = None,
    ) -> Mapping[str, Scores]:
        """By stage: (cases, V + 1) float32. Candidates have positive scores in the stage's order; all others have
        negative ones, in the order of the linear combination. PROBABILITY: calibrated, 0 for what is no candidate.
        Scores of ranker and counts that are there are reused.
        """
        found = {
            stage: np.empty((len(positions), self.tables.items.n_items + 1), np.float32)
            for stage in (*STAGES, PROBABILITY)
        }
        for begin in range(0, len(positions), CHUNK):
            part = slice(begin, begin + CHUNK)
            cases = positions[part]
            raw = self.ranker.score(whole, cases) if ranker_scores is None else ranker_scores[part]
            counted = self.counts.score(whole, cases) if counts_scores is None else counts_scores[part]
            self._score(whole, cases, raw, counted, {stage: scores[part] for stage, scores in found.items()})
        return found

    def _score(
        self, whole: Interactions, cases: IntArray, raw: Scores, counted: Scores, out: Mapping[str, Scores]
    ) -> None:
        lists = self.lists(whole, cases, raw, counted)
        combination = self.tables.combination
        rest = combine(raw, counted, combination.weight, combination.epsilon)
        rest -= rest.max(axis=1, keepdims=True) + 1  # at most -1
        orders = arrange(self.reranker, self.tables, lists)
        for row, order in enumerate(orders):
            by_trees = order.items[np.argsort(-order.scores, kind="stable")]
            retrieved = lists.candidates[row][lists.candidates[row] > 0]
            falling = np.arange(len(retrieved), 0, -1, dtype=np.float32)
            for stage, items in zip(STAGES, (retrieved, by_trees, order.items), strict=True):
                out[stage][row] = rest[row]
                out[stage][row, items] = falling
            out[PROBABILITY][row] = 0
            out[PROBABILITY][row, order.items] = order.probabilities

    def scorer(self, stage: str) -> "Stage":
        return Stage(self, stage)


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of the cascade as a Scorer; name: of STAGES."""

    cascade: Cascade
    name: str = "diverse"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        return self.cascade.scores(whole, positions)[self.name]
