"""Histories → a ranked answer: the three models one after the other, and what is left when one of them fails.

    counts, popular ──► candidates ──► ranker ──► its own candidates, and its opinion of all
                                         └──► features, trees ──► probability ──► diverse order ──► k items

Every stage is the function that offline evaluation calls. A stage that fails or is late costs its part of the answer,
not the answer. Knows index space, models and stages; knows no user id, title, file or wire.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.budget import Bounded, Cause, Clock, Guards, LostError, Part
from slipway.workloads.movies.forest import Forest
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.rerank import retrieval
from slipway.workloads.movies.rerank.cascade import Order, ordered
from slipway.workloads.movies.rerank.features import Lists, Tables
from slipway.workloads.movies.rerank.retrieval import Source
from slipway.workloads.movies.scorer import Scores

LABELS = np.array(
    ["+".join(str(s.name).lower() for s in Source if s & bits) or "none" for bits in range(2 * max(Source))],
    dtype=object,
)
"""What an answer's `source` says, by bits of Source; "none" fills an answer shorter than k."""

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """The last stage that worked."""

    TREES = "trees"
    COMBINATION = "combination"  # the trees are missing: ranker and counts, linearly
    COUNTS = "counts"  # the ranker is missing: counts, then popularity
    POPULARITY = "popularity"  # nothing else is left


@dataclass(frozen=True, eq=False)
class Ranked:
    """item: (n, k) indices, 0 fills a short row; score: (n, k) float32; source: (n, k) object, of LABELS."""

    item: IntArray
    score: Scores
    source: npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Popular:
    """Every item, the most popular lately first: sorted once for many requests. order: (V,) int64."""

    order: IntArray

    @classmethod
    def of(cls, scores: Scores) -> "Popular":
        """scores: (V + 1,)."""
        return cls(retrieval.top(scores[None], len(scores) - 1)[0])

    def best(self, n_best: int, unwanted: npt.NDArray[Any]) -> IntArray:
        """(n_best,) int64, 0 beyond the last: what retrieval.top finds where `unwanted` items may not come."""
        head = self.order[: n_best + len(unwanted)]
        if len(unwanted):
            wanted = np.ones(len(self.order) + 1, dtype=bool)  # a fifth of np.isin's time
            wanted[unwanted] = False
            head = head[wanted[head]][:n_best]
        found = np.zeros(n_best, dtype=np.int64)
        found[: len(head)] = head
        return found


@dataclass(frozen=True, eq=False)
class Recommender:
    """What does not change while a package is served. popularity: (V + 1,) events of each item, of all times."""

    graph: onnxruntime.InferenceSession
    max_len: int
    takes_user: bool
    filter_seen: bool
    counts: Counts
    forest: Forest
    popularity: Scores

    def recommend(
        self,
        histories: Sequence[IntArray],
        users: IntArray,
        tables: Tables,
        popular: Popular,
        k: int,
        guards: Guards,
        clock: Clock,
    ) -> tuple[Ranked, Stage]:
        """histories: n times (L,) int64, L >= 1; users: (n,) index + 1, 0 for an unknown one; k: at most V."""
        begun = time.perf_counter()
        try:
            counts = self.counts.score_histories(histories)
        except Exception:
            clock.lost[Part.RETRIEVAL.value] = Cause.FAILED.value
            log.exception("the counts failed; answering by popularity")
            return self._popular(histories, popular, k), Stage.POPULARITY
        try:
            lists = self.lists(histories, users, counts, popular, k, guards.ranker.graph(clock, self.graph))
        except LostError:
            return self._count(histories, counts, k), Stage.COUNTS
        except Exception as error:
            guards.ranker.miss(clock, Cause.FAILED, error)
            return self._count(histories, counts, k), Stage.COUNTS
        clock.seconds[Part.RETRIEVAL.value] = time.perf_counter() - begun - clock.seconds[Part.RANKER.value]
        begun, stage = time.perf_counter(), Stage.TREES
        try:
            try:
                own = self.forest.graph
                scores = self.forest.order(lists, tables, None if own is None else guards.rerank.graph(clock, own))
            except LostError:
                scores, stage = self.forest.plain(lists, tables), Stage.COMBINATION
            except Exception as error:
                guards.rerank.miss(clock, Cause.FAILED, error)
                scores, stage = self.forest.plain(lists, tables), Stage.COMBINATION
            orders = ordered(self.forest, tables, lists, scores, k)
            return self._best(orders, lists, k), stage
        except Exception as error:
            guards.rerank.miss(clock, Cause.FAILED, error)
            return self._count(histories, counts, k), Stage.COUNTS
        finally:
            clock.timed(Part.RERANK, begun)

    def lists(
        self,
        histories: Sequence[IntArray],
        users: IntArray,
        counts: Scores,
        popular: Popular,
        k: int,
        ranker: Bounded,
    ) -> Lists:
        """What is asked of the trees: cascade.retrieve, without a number per item of the catalogue from the ranker.

        Raises LostError and FloatingPointError.
        """
        sizes = self.forest.settings.retrieval
        lengths = [len(history) for history in histories]
        seen = (np.repeat(np.arange(len(histories)), lengths), np.concatenate(histories)) if self.filter_seen else None
        nothing = np.empty(0, dtype=np.int64)
        counted = retrieval.top(counts, sizes.counts, seen)
        common = np.stack([popular.best(sizes.popular, h if self.filter_seen else nothing) for h in histories])
        others = np.concatenate([counted, common], axis=1)
        feed: dict[str, npt.NDArray[Any]] = {
            "items": _pad([history[-self.max_len :] for history in histories]),
            "seen": _pad(histories) if self.filter_seen else np.zeros((len(histories), 1), dtype=np.int64),
            "candidates": others,
            "k": np.array([max(sizes.ranker, k)], dtype=np.int64),
        }
        if self.takes_user:
            feed["user"] = users
        item, best, judged = ranker.run(["item", "log_p", "candidate_log_p"], feed)
        if not (best < np.inf).all() or not np.isfinite(judged[others > 0]).all():  # -inf: nothing is left
            raise FloatingPointError("the ranker gave log-probabilities that are not finite")
        item = np.where(best > -np.inf, item, 0)
        candidates = retrieval.gather([item, counted, common], counts.shape[1])
        row = np.arange(len(histories))[:, None]
        known = np.empty(counts.shape, dtype=np.float32)  # written where it is read, and nowhere else
        known[row, others] = judged
        known[row, item] = best
        known[:, 0] = -np.inf
        log_p = known[row, candidates.items]
        return Lists(histories, candidates.items, candidates.sources, log_p, counts)

    @staticmethod
    def _best(orders: Sequence[Order], lists: Lists, k: int) -> Ranked:
        """The k best of each row."""
        item = np.zeros((len(orders), k), dtype=np.int64)
        score = np.zeros((len(orders), k), dtype=np.float32)
        bits = np.zeros((len(orders), k), dtype=np.uint8)
        for row, order in enumerate(orders):
            best = order.items[:k]
            item[row, : len(best)], score[row, : len(best)] = best, order.probabilities[:k]
            bits[row, : len(best)] = lists.sources[row, order.places[:k]]
        return Ranked(item, score, LABELS[bits])

    def _popular(self, histories: Sequence[IntArray], popular: Popular, k: int) -> Ranked:
        nothing = np.empty(0, dtype=np.int64)
        item = np.stack([popular.best(k, history if self.filter_seen else nothing) for history in histories])
        return Ranked(item, self.popularity[item], LABELS[np.where(item > 0, Source.POPULAR, 0)])

    def _count(self, histories: Sequence[IntArray], counts: Scores, k: int) -> Ranked:
        """By counts alone; items that never followed come by popularity."""
        item = np.zeros((len(histories), k), dtype=np.int64)
        for row, history in enumerate(histories):
            allowed = np.ones(len(self.popularity), dtype=bool)
            allowed[0] = False
            if self.filter_seen:
                allowed[history] = False
            candidates = np.flatnonzero(allowed)
            best = candidates[np.lexsort((-self.popularity[candidates], -counts[row, candidates]))[:k]]
            item[row, : len(best)] = best
        score = np.take_along_axis(counts, item, axis=1)
        followed = score > 0
        bits = np.where(item == 0, 0, np.where(followed, Source.COUNTS, Source.POPULAR))
        return Ranked(item, np.where(followed, score, self.popularity[item]), LABELS[bits])


def _pad(rows: Sequence[IntArray]) -> IntArray:
    """(n, longest) int64, right-padded with 0."""
    if len(rows) == 1:
        return rows[0][None, :]
    padded = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
