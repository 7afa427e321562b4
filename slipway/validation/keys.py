"""Which rows repeat the key of another, in bounded memory. Knows hashes of columns, not what they name."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

HELD = 1 << 24  # hashes at once: 128 MiB
BATCH = 1 << 20  # rows


class Keys:
    """One key while the rows come by.

    Of more than HELD rows a pass takes those whose hash falls to it. exact: `finish` makes the other passes over the
    key's columns; else `doubles` is what the first found, times the number of passes: equal keys share their hash, so
    a share of the hashes has the same share of the doubles.
    """

    def __init__(self, columns: tuple[str, ...], rows: int, *, exact: bool) -> None:
        self.columns, self.exact = columns, exact
        self.name = "_".join(columns)
        self.passes = max(-(-rows // HELD), 1)
        self.doubles = 0
        self._held: list[npt.NDArray[np.uint64]] = []
        self._twice: list[npt.NDArray[np.uint64]] = []

    def add(self, batch: pl.DataFrame, turn: int = 0) -> None:
        hashes = _hash(batch, self.columns)
        self._held.append(hashes if self.passes == 1 else hashes[hashes % self.passes == turn])

    def finish(self, frame: pl.LazyFrame, examples: int) -> pl.DataFrame:
        """Sets `doubles`; returns the first rows that share their key with another, at most `examples`, if exact."""
        self._count()
        if not self.exact:
            self.doubles *= self.passes
            return frame.head(0).collect()
        for turn in range(1, self.passes):
            for batch in batches(frame.select(self.columns)):
                self.add(batch, turn)
            self._count()
        twice = np.concatenate(self._twice) if self._twice else np.empty(0, np.uint64)
        if not len(twice):
            return frame.head(0).collect()
        # Two different keys of one hash happen once in 10^5 tables of 25M rows; few are looked at whole.
        chosen = np.sort(twice)[:examples]
        same = pl.concat(
            rows
            for batch in batches(frame)
            if (rows := batch.filter(pl.Series(np.isin(_hash(batch, self.columns, skip=False), chosen)))).height
        ).filter(pl.all_horizontal(pl.col(self.columns).is_not_null()))
        real = same.filter(pl.struct(self.columns).is_duplicated())
        if len(twice) <= examples:
            self.doubles = real.height - real.select(self.columns).n_unique() if real.height else 0
        return real.sort(self.columns, maintain_order=True).head(examples)

    def _count(self) -> None:
        hashes = np.sort(np.concatenate(self._held)) if self._held else np.empty(0, np.uint64)
        self._held = []
        again = hashes[1:][hashes[1:] == hashes[:-1]]
        self.doubles += len(again)
        if len(again):
            self._twice.append(np.unique(again))


def batches(frame: pl.LazyFrame, size: int = BATCH) -> Iterator[pl.DataFrame]:
    """The rows in order, a batch at a time."""
    yield from frame.collect_batches(chunk_size=size, maintain_order=True)


def _hash(batch: pl.DataFrame, columns: tuple[str, ...], *, skip: bool = True) -> npt.NDArray[np.uint64]:
    """(rows,) or fewer: without the rows that have a null in their key."""
    keys = batch.select(columns)
    if skip and any(column.null_count() for column in keys):
        keys = keys.drop_nulls()
    return keys.hash_rows(seed=0).to_numpy()
