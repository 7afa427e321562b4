"""Users' histories as arrays: what every model and metric of this workload reads.

Knows index space (items 1..n, 0 is padding) and its way back to the source's ids; knows no files and no models.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

IntArray = npt.NDArray[np.int64]
ItemArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Interactions:
    """Sequences of all users, oldest first, back to back (CSR).

    indptr:   (users + 1,) int64; user u's items are items[indptr[u]:indptr[u + 1]]
    items:    (events,) int32 in 1..n_items
    times:    (events,) int64 milliseconds since 1970 UTC, or None when the source gives only an order
    user_ids: (users,) int64, the source's ids, ascending
    item_ids: (n_items + 1,) int64, the source's ids; [0] is -1, the padding
    """

    indptr: IntArray
    items: ItemArray
    times: IntArray | None
    user_ids: IntArray
    item_ids: IntArray

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids) - 1

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.indptr)

    @property
    def users(self) -> ItemArray:
        """(events,) int32: the user index of each event."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.lengths)

    def history(self, user: int) -> ItemArray:
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def recent(self, positions: IntArray, limit: int) -> ItemArray:
        """(cases, limit) int32: the newest items before each position in its user's history, as models read them.

        Oldest first, right-padded with 0.
        """
        starts = self.indptr[np.searchsorted(self.indptr, positions, side="right") - 1]
        begins = np.maximum(starts, positions - limit)
        columns = begins[:, None] + np.arange(limit)
        known = columns < positions[:, None]
        return np.where(known, self.items[np.where(known, columns, 0)], 0).astype(np.int32)

    def before(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        """Row and item, int64 each, of everything that each position's user had before it."""
        starts = self.indptr[np.searchsorted(self.indptr, positions, side="right") - 1]
        lengths = positions - starts
        rows = np.repeat(np.arange(len(positions)), lengths)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, self.items[starts[rows] + offsets].astype(np.int64)

    @classmethod
    def from_events(cls, events: pl.DataFrame, item_ids: IntArray | None = None) -> Self:
        """events: columns user, item, timestamp (may be null throughout), source_row.

        Order within a user is (timestamp, source_row): ties decide a quarter of ML-1M's leave-one-out test set.
        item_ids fixes the index space (the catalogue, without padding); by default the items that occur.
        """
        ordered = events.sort(["user", "timestamp", "source_row"], nulls_last=False)
        user_ids, counts = np.unique(ordered["user"].to_numpy(), return_counts=True)
        raw = ordered["item"].to_numpy()
        catalogue = np.unique(raw) if item_ids is None else np.unique(item_ids)
        index = np.searchsorted(catalogue, raw)
        if len(raw) and (index.max(initial=0) >= len(catalogue) or (catalogue[index] != raw).any()):
            raise ValueError("events name items outside the catalogue")
        timestamps = ordered["timestamp"]
        times = None if timestamps.null_count() else timestamps.dt.epoch("ms").to_numpy().astype(np.int64)
        return cls(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=(index + 1).astype(np.int32),
            times=times,
            user_ids=user_ids.astype(np.int64),
            item_ids=np.concatenate([[-1], catalogue]).astype(np.int64),
        )

    def keep(self, mask: npt.NDArray[np.bool_]) -> "Interactions":
        """The events where mask (events,) is true; users and catalogue keep their indices."""
        counts = np.bincount(self.users[mask], minlength=self.n_users)
        return Interactions(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=self.items[mask],
            times=None if self.times is None else self.times[mask],
            user_ids=self.user_ids,
            item_ids=self.item_ids,
        )
