"""Events on disk between reading and writing: all of a user, or of a day, in one partition. Knows keys, no format.

Sorting and looking for duplicates is most of the work of ingestion. Both are done on one 64-bit number per row,
packed from the row's columns, for which NumPy has vectorised sorts; where 63 bits do not hold the columns' ranges,
Polars does the same at five times the cost.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.workloads.movies.interactions import IntArray

MANY = 1 << 16  # partitions; their numbers are sorted as 16-bit integers
NARROW = 1 << 31
COLUMNS: dict[str, Any] = dict.fromkeys(
    ("user", "item", "seconds", "milliseconds", "action", "source_row"), np.int64
) | {"rating": np.float32}


class Partitions:
    """A file per partition and column, to which blocks of events are appended; a partition keeps their order."""

    def __init__(self, folder: Path, count: int, columns: tuple[str, ...]) -> None:
        """columns: those of COLUMNS that there are. count is kept within 1..MANY."""
        self.folder = folder
        self.count = max(1, min(count, MANY))
        self.columns = columns
        # Half as many bytes to write and to read; a column widens when a number comes that needs it.
        self._kept: dict[str, Any] = {
            name: np.int32 if COLUMNS[name] is np.int64 else COLUMNS[name] for name in columns
        }
        folder.mkdir()

    def add(self, events: pl.DataFrame, owners: npt.NDArray[np.uint16] | None = None) -> None:
        """owners: (events,) the partition of each, by default by its user."""
        if owners is None:
            owners = self._of(events["user"].to_numpy())
        order = np.argsort(owners, kind="stable")  # of 16-bit keys: a radix sort
        ends = np.cumsum(np.bincount(owners, minlength=self.count))
        starts = np.concatenate([[0], ends[:-1]])
        for name in self.columns:
            values = self._narrowed(name, events[name].to_numpy())[order]
            for number in np.flatnonzero(ends > starts):
                with self._path(int(number), name).open("ab") as stream:
                    values[starts[number] : ends[number]].tofile(stream)

    def take(self, number: int) -> pl.DataFrame:
        """The events of a partition in the order in which they came, and its files are gone."""
        columns = {}
        for name in self.columns:
            path = self._path(number, name)
            found = np.fromfile(path, self._kept[name]) if path.exists() else np.empty(0, self._kept[name])
            columns[name] = found.astype(COLUMNS[name], copy=False)
            path.unlink(missing_ok=True)
        return pl.DataFrame(columns)

    def _narrowed(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """values as their column is kept; before the first that 32 bits do not hold, the column's files are widened."""
        if self._kept[name] is np.int32 and len(values) and not -NARROW <= values.min() <= values.max() < NARROW:
            self._kept[name] = np.int64
            for number in range(self.count):
                path = self._path(number, name)
                if path.exists():
                    np.fromfile(path, np.int32).astype(np.int64).tofile(path)
        return values.astype(self._kept[name], copy=False)

    def _of(self, users: IntArray) -> npt.NDArray[np.uint16]:
        """Fibonacci hashing (Knuth, TAOCP 3, 6.4): consecutive users spread evenly, and the same everywhere."""
        mixed = (users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        return (mixed % np.uint64(self.count)).astype(np.uint16)

    def _path(self, number: int, column: str) -> Path:
        return self.folder / f"{number:05}.{column}"


def all_distinct(rows: pl.DataFrame) -> bool:
    """Whether no two rows of integers are equal."""
    keys = _packed(rows)
    if keys is None:
        return not rows.is_duplicated().any()
    keys.sort()
    return not (keys[1:] == keys[:-1]).any()


def stable_order(rows: pl.DataFrame) -> IntArray:
    """The order that sorts rows of integers by their columns; equal rows keep theirs.

    The vectorised sort is not stable, so rows with equal keys are put in order after it.
    """
    keys = _packed(rows)
    if keys is None:
        by_columns = rows.with_row_index("place").sort(*rows.columns, "place")
        return by_columns["place"].cast(pl.Int64).to_numpy()
    order = np.argsort(keys)
    keys = keys[order]
    equal = keys[1:] == keys[:-1]  # to the one before
    if equal.any():
        begins = np.concatenate([[True], ~equal])
        tied = ~begins | np.concatenate([equal, [False]])
        runs = np.cumsum(begins)[tied]
        order[tied] = np.sort(runs * len(keys) + order[tied]) % len(keys)
    return order


def _packed(rows: pl.DataFrame) -> IntArray | None:
    """One number per row with the rows' order: mixed radix in the columns' ranges; None beyond 63 bits."""
    keys, size = np.zeros(rows.height, np.int64), 1
    for column in rows if rows.height else ():
        values = column.to_numpy()
        low, high = int(values.min()), int(values.max())
        size *= high - low + 1
        if size >= 1 << 63:
            return None
        keys *= high - low + 1
        keys += values - low
    return keys
