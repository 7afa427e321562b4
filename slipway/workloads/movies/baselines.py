"""The models that need no training loop: popularity, first-order Markov, decayed counts, repeat-last.

Knows index space and sparse counting; knows no files but counts.npz, no metric and no neural network.
"""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.sparse import _sparsetools, coo_array, csr_array

from slipway.errors import PackageError
from slipway.package import Frozen
from slipway.workloads.movies.interactions import IntArray, Interactions, ItemArray
from slipway.workloads.movies.scorer import Scores

EVENTS_PER_CHUNK = 1 << 19  # bounds the pairs held at once: 12 bytes each, window of them per event
MAX_ENTRIES = 2**31 - 1  # of one matrix: SciPy's loops want row ends and columns in the same type


@dataclass(frozen=True, eq=False)
class Popularity:
    """counts: (n_items + 1,) float32, how often each item occurs in the training events."""

    counts: Scores
    name: ClassVar[str] = "popularity"

    @classmethod
    def fit(cls, train: Interactions) -> Self:
        counts = np.bincount(train.items, minlength=train.n_items + 1)
        return cls(counts.astype(np.float32))

    def score(self, whole: Interactions, positions: IntArray) -> Scores:  # noqa: ARG002
        return np.broadcast_to(self.counts, (len(positions), len(self.counts)))


@dataclass(frozen=True)
class RepeatLast:
    """Whatever the user touched last comes again, then what came before it: the bar where people repeat."""

    depth: int = 20
    name: ClassVar[str] = "repeat last"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        recent = whole.recent(positions, self.depth)
        scores = np.zeros((len(positions), whole.n_items + 1), dtype=np.float32)
        rows = np.arange(len(positions))
        for step in range(recent.shape[1]):  # oldest first: an item's latest occurrence is the one that stays
            scores[rows, recent[:, step]] = step + 1
        scores[:, 0] = 0
        return scores


class CountsConfig(Frozen):
    """How much b after a counts, and how a history adds up; the defaults were chosen on ML-1M's validation items.

    c(a, b) is the number of times that b came at most `window` steps after a, each 1 / distance. The row of a is
    c(a, b) ** power, normalised to sum 1 (the power damps what is frequent by accident), over popularity(b) **
    discount. A history is scored by the rows of its `last` items, each times decay ** age, added. `neighbours` bounds
    the length of a row: its largest counts stay. Where people repeat, c(a, a) also gets the share of steps that do:
    an item that training never saw is then followed by itself.
    """

    window: int = Field(10, ge=1, le=100)
    last: int = Field(20, ge=1, le=200)
    decay: float = Field(0.7, gt=0, le=1)
    power: float = Field(0.5, gt=0, le=1)
    discount: float = Field(0.1, ge=0, le=1)
    neighbours: int = Field(4096, ge=1)


@dataclass(frozen=True, eq=False)
class Counts:
    """Decayed co-occurrence counts ("skip-Markov") in CSR: retrieval source, fallback, and the gate's bar.

    indptr: (n_items + 2,) int64; indices: (nnz,) int32; data: (nnz,) float32.
    """

    indptr: IntArray
    indices: ItemArray
    data: Scores
    config: CountsConfig
    name: str = "counts"

    @property
    def n_items(self) -> int:
        return len(self.indptr) - 2

    @classmethod
    def fit(cls, train: Interactions, config: CountsConfig | None = None, name: str = "counts") -> Self:
        config = config or CountsConfig()
        matrix = _co_occurrences(train, config.window, config.neighbours)
        indptr = matrix.indptr.astype(np.int64)
        matrix.data **= np.float32(config.power)
        sums = np.maximum(matrix.sum(axis=1), np.finfo(np.float32).tiny).astype(np.float32)
        popularity = np.maximum(np.bincount(train.items, minlength=train.n_items + 1), 1)
        matrix.data /= np.repeat(sums, np.diff(indptr))
        matrix.data /= (popularity**config.discount).astype(np.float32)[matrix.indices]
        return cls(indptr, matrix.indices.astype(np.int32, copy=False), matrix.data, config, name)

    @cached_property
    def _lengths(self) -> npt.NDArray[np.int32]:
        return np.diff(self.indptr).astype(np.int32)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int32]:
        return self.indptr.astype(np.int32)

    @cached_property
    def _weights(self) -> Scores:
        return np.float32(self.config.decay) ** np.arange(self.config.last, dtype=np.float32)

    def score_histories(self, histories: Sequence[npt.ArrayLike] | npt.NDArray[Any]) -> Scores:
        """(n, n_items + 1) float32 of n histories: item indices, oldest first, zeros anywhere are padding.

        One user's answer does not depend on who else is in the batch, to the last bit: each row is summed by the same
        elementwise float32 operations, newest item first, never by BLAS.
        """
        side = self.n_items + 1
        scores = np.zeros((len(histories), side), dtype=np.float32)
        for row, history in zip(scores, histories, strict=True):
            items = np.asarray(history)
            newest = items[items > 0][: -self.config.last - 1 : -1].astype(np.int32)
            if len(newest):
                self._add(row, newest)
        return scores

    def _add(self, row: Scores, newest: npt.NDArray[np.int32]) -> None:
        """row += the faded rows of these items. By SciPy's own loops over sparse rows, which are as fast as dense ones
        and need none. They have no public name: what has one takes ten times as long on so few rows.
        """
        if newest.max() > self.n_items:  # the loops would read what is not there
            raise IndexError(f"item {newest.max()} of {self.n_items}")
        ends = np.zeros(len(newest) + 1, dtype=np.int32)
        np.cumsum(self._lengths[newest], out=ends[1:])
        indices, data = np.empty(ends[-1], dtype=np.int32), np.empty(ends[-1], dtype=np.float32)
        _sparsetools.csr_row_index(len(newest), newest, self._ends, self.indices, self.data, indices, data)
        weights = self._weights[: len(newest)]
        _sparsetools.csc_matvec(len(row), len(newest), ends, indices, data, weights, row)

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        return self.score_histories(whole.recent(positions, self.config.last))

    def save(self, path: Path) -> None:
        """Write counts.npz, whole or not at all."""
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in self.config.model_dump().items()}
        arrays |= {"indptr": self.indptr, "indices": self.indices, "data": self.data, "n_items": np.int64(self.n_items)}
        draft = path.with_name(f".{path.name}.part")
        with draft.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises PackageError when the file is missing or its arrays do not fit together."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                config = CountsConfig(**{key: arrays[key].item() for key in CountsConfig.model_fields})
                counts = cls(arrays["indptr"], arrays["indices"], arrays["data"], config)
                fits = (
                    counts.indptr.dtype == np.int64
                    and counts.indices.dtype == np.int32
                    and counts.data.dtype == np.float32
                    and counts.n_items == arrays["n_items"]
                    and counts.indptr[0] == 0
                    and counts.indptr[-1] == len(counts.indices) == len(counts.data) <= MAX_ENTRIES
                    and bool((np.diff(counts.indptr) >= 0).all())
                    and counts.indices.min(initial=1) >= 1
                    and counts.indices.max(initial=1) <= counts.n_items
                    and bool(np.isfinite(counts.data).all())
                )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise PackageError(f"{path} cannot be read as counts: {error}", "train the model again") from error
        if not fits:
            raise PackageError(f"{path} holds arrays that do not fit together", "train the model again")
        return counts


def markov(train: Interactions) -> Counts:
    """First-order Markov: how often each item came right after the last one."""
    return Counts.fit(train, CountsConfig(window=1, last=1, power=1.0, discount=0.0), name="markov")


def _co_occurrences(train: Interactions, window: int, neighbours: int) -> Any:
    """csr_array (n_items + 1, n_items + 1) float32: every (earlier, later) pair of one user weighted 1 / distance."""
    side = train.n_items + 1
    total: Any = csr_array((side, side), dtype=np.float32)
    events = len(train.items)
    for begin in range(0, events, EVENTS_PER_CHUNK):
        # window events of the next chunk, so that pairs across the border are counted once, here
        stop = min(begin + EVENTS_PER_CHUNK + window, events)
        items = train.items[begin:stop]
        users = np.searchsorted(train.indptr, np.arange(begin, stop), side="right")
        earlier, later, weights = [], [], []
        for distance in range(1, window + 1):
            starts = np.arange(max(min(EVENTS_PER_CHUNK, len(items) - distance), 0))
            starts = starts[users[starts] == users[starts + distance]]
            earlier.append(items[starts])
            later.append(items[starts + distance])
            weights.append(np.full(len(starts), 1 / distance, dtype=np.float32))
        pairs = (np.concatenate(weights), (np.concatenate(earlier), np.concatenate(later)))
        total = _prune(total + coo_array(pairs, shape=(side, side)).tocsr(), neighbours)
    steps = train.users[1:] == train.users[:-1]
    repeated = float((train.items[1:] == train.items[:-1])[steps].mean()) if steps.any() else 0.0
    if repeated:
        every = np.arange(1, side)
        itself = np.full(train.n_items, repeated, dtype=np.float32)
        total = _prune(total + coo_array((itself, (every, every)), shape=(side, side)).tocsr(), neighbours)
    total.sort_indices()
    return total


def _prune(matrix: Any, neighbours: int) -> Any:
    """Keep each row's largest entries. Where chunks follow, what a pruned entry had is forgotten: memory is bounded."""
    crowded = np.flatnonzero(np.diff(matrix.indptr) > neighbours)
    if not len(crowded):
        return matrix
    keep = np.ones(matrix.nnz, dtype=bool)
    for row in crowded:
        begin, end = matrix.indptr[row], matrix.indptr[row + 1]
        keep[begin + np.argpartition(matrix.data[begin:end], -neighbours)[:-neighbours]] = False
    kept = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return csr_array((matrix.data[keep], matrix.indices[keep], kept), shape=matrix.shape)
