"""The tables of an opened package: its items, and what its users did. Knows files and indices, no model.

items.parquet, popularity.npy           Catalogue
users.npy, history_indptr.npy, history_items.npy   Histories, read from the file as they are asked for
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.errors import PackageError
from slipway.workloads.movies.interactions import IntArray, ItemArray
from slipway.workloads.movies.scorer import Scores


@dataclass(frozen=True, eq=False)
class Catalogue:
    """item_ids: (V + 1,) source ids, [0] is -1; titles: (V + 1,) object; popularity: (V + 1,) events of all times;
    popular: (V,) indices, most popular first.
    """

    item_ids: IntArray
    titles: npt.NDArray[np.object_]
    popularity: Scores
    popular: IntArray

    @property
    def n_items(self) -> int:
        return len(self.item_ids) - 1

    @classmethod
    def open(cls, folder: Path) -> Self:
        items = pl.read_parquet(folder / "items.parquet").filter(pl.col("index") > 0).sort("index")
        popularity = np.load(folder / "popularity.npy", allow_pickle=False)
        if items["index"].to_list() != list(range(1, len(popularity))):
            raise PackageError(
                f"items.parquet lists {len(items)} items where popularity.npy has {len(popularity) - 1}",
                "train and package again",
            )
        item_ids = np.concatenate([[-1], items["item"].to_numpy()]).astype(np.int64)
        if (np.diff(item_ids) <= 0).any():
            raise PackageError("items.parquet is not in the order of its item ids", "train and package again")
        return cls(
            item_ids=item_ids,
            titles=np.array(["", *items["title"].fill_null("").to_list()], dtype=object),
            popularity=popularity,
            popular=np.argsort(-popularity[1:], kind="stable") + 1,
        )

    def index(self, item_ids: IntArray) -> IntArray:
        """(n,) source ids → (n,) indices; 0 where the catalogue has no such item."""
        if not len(item_ids):
            return item_ids
        found = np.searchsorted(self.item_ids, item_ids).clip(max=self.n_items)
        indices: IntArray = np.where(self.item_ids[found] == item_ids, found, 0)
        return indices


@dataclass(frozen=True, eq=False)
class Histories:
    """users: (U,) source ids, ascending; user u's items are items[indptr[u]:indptr[u + 1]], oldest first. In a file."""

    users: IntArray
    indptr: IntArray
    items: ItemArray

    @classmethod
    def open(cls, folder: Path) -> Self:
        def mapped(name: str) -> npt.NDArray[Any]:
            # A plain view: np.memmap itself costs microseconds of Python on every slice.
            view: npt.NDArray[Any] = np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            return view

        histories = cls(mapped("users.npy"), mapped("history_indptr.npy"), mapped("history_items.npy"))
        if len(histories.indptr) != len(histories.users) + 1 or histories.indptr[-1] != len(histories.items):
            raise PackageError("users and histories do not fit together", "train and package again")
        return histories

    def index(self, users: IntArray) -> IntArray:
        """(B,) source ids → (B,) positions, -1 for users that the package does not know."""
        if not len(self.users):
            return np.full(len(users), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.users, users), len(self.users) - 1)  # clip takes three times as long
        positions: IntArray = np.where(self.users[found] == users, found, -1)
        return positions

    def of(self, position: int) -> ItemArray:
        return self.items[self.indptr[position] : self.indptr[position + 1]]
