"""Which genres an item has, as a matrix. Knows ids and names only."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Genres:
    """items: (n,) ascending ids; names: (g,) sorted; has: (g, n + 1) bool, whose last column is an unknown item's."""

    items: IntArray
    names: list[str]
    has: BoolArray

    @classmethod
    def of(cls, items: pl.DataFrame) -> Self:
        """items: columns item and genres (lists; null: none), one row per item."""
        rows = items.select("item", "genres").sort("item")
        names = sorted(rows["genres"].explode().drop_nulls().unique().to_list())
        has = np.zeros((len(names), rows.height + 1), dtype=np.bool_)
        number = {name: index for index, name in enumerate(names)}
        for column, kinds in enumerate(rows["genres"].to_list()):
            for name in kinds or ():
                has[number[name], column] = True
        return cls(rows["item"].to_numpy().astype(np.int64), names, has)

    def index(self, items: IntArray) -> IntArray:
        """Ids → columns of `has`."""
        found = np.searchsorted(self.items, items)
        known = self.items[np.minimum(found, len(self.items) - 1)] == items if len(self.items) else np.zeros(1, bool)
        return np.where(known, found, len(self.items)).astype(np.int64)
