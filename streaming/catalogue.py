"""The items that there are: processed/<data set>/items as the stream sees and changes it. Knows one table.

Without such a table every item may occur.
"""

import time

import polars as pl

from slipway.lake.table import Table
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.messages import CATALOGUE

PATIENCE = 1.0  # seconds between two looks at the table because of an item that nobody knows


class Catalogue:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.known: IntArray | None = None  # (items,) int64
        self.genres: dict[int, list[str]] = {}
        self._rows: pl.DataFrame | None = None
        self._version: int | None = None
        self._looked = 0.0

    def refresh(self) -> bool:
        """Read the table again if it is another version; whether it was. Raises StorageError."""
        self._looked = time.monotonic()
        version = self.table.version if self.table.exists() else None
        if version == self._version:
            return False
        rows = None if version is None else self.table.scan(schema=CATALOGUE).collect()
        self._take(rows, version)
        return True

    def hopeful(self) -> bool:
        """An item is not known: whether to look again in a moment, as a message or a table about it may be on its way.

        At most once in PATIENCE, so that poisoned events do not slow the others down. Raises StorageError.
        """
        if time.monotonic() - self._looked < PATIENCE:
            return False
        self.refresh()
        return True

    def merge(self, rows: pl.DataFrame) -> bool:
        """Items by id, the last word wins; whether anything changed. rows: CATALOGUE. Raises StorageError."""
        self.refresh()
        former = self._rows if self._rows is not None else CATALOGUE.to_frame()
        merged = pl.concat([former, rows]).unique("item", keep="last").sort("item")
        if self._rows is not None and merged.equals(former.sort("item")):
            return False
        self.table.replace(merged)
        self._take(merged, self.table.version)
        return True

    def _take(self, rows: pl.DataFrame | None, version: int | None) -> None:
        self._rows, self._version = rows, version
        self.known = None if rows is None else rows["item"].to_numpy()
        self.genres = {} if rows is None else dict(rows.select("item", pl.col("genres").fill_null([])).iter_rows())
