"""Which items are candidates, and who proposed each. Knows lists of item indices; knows no model and no feature."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.scorer import Scores

SourceBits = npt.NDArray[np.uint8]


class Source(IntFlag):
    """Who proposed a candidate; a candidate may have several. In the order in which lists are joined."""

    RANKER = 1  # largest inner products of the ranker's query with the item vectors
    COUNTS = 2  # largest decayed co-occurrence counts
    POPULAR = 4  # most events lately


@dataclass(frozen=True, eq=False)
class Candidates:
    """items: (n, C) int64, distinct within a row, right-padded with 0; sources: (n, C) uint8 of Source bits."""

    items: IntArray
    sources: SourceBits


def top(scores: Scores, n_best: int, seen: tuple[IntArray, IntArray] | None = None) -> IntArray:
    """(n, V + 1) → (n, min(n_best, V)) int64: items of the largest finite positive-column scores, best first.

    seen: rows and items that may not come. Column 0 never comes, nor does -inf; rows are right-padded with 0. Equal
    scores stand in the order of their indices.
    """
    allowed = scores.astype(np.float32)  # a copy
    if seen is not None:
        allowed[seen] = -np.inf
    allowed[:, 0] = -np.inf
    n_best = min(n_best, allowed.shape[1] - 1)
    # The n_best-th largest value, then indices in ascending order: what is tied there is cut the same way everywhere.
    bound = -np.partition(-allowed, n_best - 1, axis=1)[:, n_best - 1 : n_best]
    found = np.zeros((len(scores), n_best), dtype=np.int64)
    for row, (values, limit) in enumerate(zip(allowed, bound[:, 0], strict=True)):
        above = np.flatnonzero(values > limit)
        tied = np.flatnonzero(values == limit)[: n_best - len(above)] if limit > -np.inf else above[:0]
        chosen = np.concatenate([above, tied])
        order = np.lexsort((chosen, -values[chosen]))
        found[row, : len(chosen)] = chosen[order]
    return found


def union(lists: Sequence[IntArray]) -> IntArray:
    """(n, N_i) each → (n, C) int64: distinct items of each row in order of first appearance, right-padded with 0."""
    return gather(lists).items


def gather(lists: Sequence[IntArray]) -> Candidates:
    """Lists in the order of Source, (n, N_i) each and 0 where a list has no more, → distinct items with their sources.

    C is as wide as the longest row needs, and at least 1.
    """
    bits = np.concatenate([np.full(part.shape[1], 1 << i, dtype=np.uint8) for i, part in enumerate(lists)])
    every = np.concatenate(lists, axis=1).astype(np.int64)  # (n, N)
    n, width = every.shape
    order = np.argsort(every, axis=1, kind="stable")
    items = np.take_along_axis(every, order, axis=1)
    first = np.ones((n, width), dtype=bool)  # a run of equal items begins here, at its first appearance
    first[:, 1:] = items[:, 1:] != items[:, :-1]
    starts = np.flatnonzero(first)
    merged = np.bitwise_or.reduceat(bits[order].ravel(), starts) if n else np.empty(0, dtype=np.uint8)
    sources = np.zeros((n, width), dtype=np.uint8)
    kept = np.zeros((n, width), dtype=np.int64)
    rows = starts // max(width, 1)
    places = order.ravel()[starts]
    kept[rows, places] = items.ravel()[starts]
    sources[rows, places] = merged
    forward = np.argsort(kept == 0, axis=1, kind="stable")
    longest = max(int((kept > 0).sum(axis=1).max(initial=0)), 1)
    forward = forward[:, :longest]
    items, sources = np.take_along_axis(kept, forward, axis=1), np.take_along_axis(sources, forward, axis=1)
    sources[items == 0] = 0
    return Candidates(items, sources)
