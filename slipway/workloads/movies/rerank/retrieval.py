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
    found = np.zeros((len(scores), n_best), dtype=np.int64)
    for row, values in enumerate(np.negative(allowed, out=allowed)):
        bound = np.partition(values, n_best - 1)[n_best - 1]
        # In ascending order of index, and sorted stably: what is tied is cut the same way everywhere.
        near = np.flatnonzero(values <= bound) if bound < np.inf else np.flatnonzero(values < np.inf)
        chosen = near[np.argsort(values[near], kind="stable")[:n_best]]
        found[row, : len(chosen)] = chosen
    return found


def union(lists: Sequence[IntArray]) -> IntArray:
    """(n, N_i) each → (n, C) int64: distinct items of each row in order of first appearance, right-padded with 0."""
    return gather(lists).items


def gather(lists: Sequence[IntArray], side: int | None = None) -> Candidates:
    """Lists in the order of Source, (n, N_i) each and 0 where a list has no more, → distinct items with their sources.

    C is as wide as the longest row needs, and at least 1. side: above every item, where it is known.
    """
    side = side or max(int(part.max(initial=0)) for part in lists) + 1
    rows = [_joined([part[row] for part in lists], side) for row in range(len(lists[0]))]
    longest = max([1, *(len(items) for items, _ in rows)])
    if len(rows) == 1 and len(rows[0][0]) == longest:
        ((items, sources),) = rows
        return Candidates(items[None], sources[None])
    found = Candidates(np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.uint8))
    for row, (items, sources) in enumerate(rows):
        found.items[row, : len(items)], found.sources[row, : len(items)] = items, sources
    return found


def _joined(parts: Sequence[IntArray], side: int) -> tuple[IntArray, SourceBits]:
    """One row's distinct items in order of first appearance, and their bits; items are below side."""
    every = np.concatenate(parts).astype(np.int64, copy=False)
    place = np.arange(len(every))
    first = np.empty(side, dtype=np.int64)  # written where it is read, and nowhere else
    first[every[::-1]] = place[::-1]  # the last write is the first appearance
    items = every[(first[every] == place) & (every > 0)]
    proposed = np.zeros(side, dtype=np.uint8)
    for i, part in enumerate(parts):
        proposed[part] |= 1 << i  # an item twice in one part still gets the bit once
    return items, proposed[items]
