"""Users' online features, kept up to date by new events. Knows the online store and the lake's events, no stream.

A user's state is in memory, or in the online store, or follows from the lake, in this order. After a redelivery only
the lake is believed: what the online store holds may or may not contain those events.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import polars as pl

from slipway.features.online import OnlineStore
from slipway.lake.table import Table
from slipway.workloads.movies.features.state import UserState
from slipway.workloads.movies.interactions import IntArray
from streaming.catalogue import Catalogue

MOST = 50_000  # states in memory
COLUMNS = ("user", "item", "timestamp", "rating")
VIEWS = ("user_history", "user_statistics")


class UserStates:
    def __init__(self, online: OnlineStore, events: Table, catalogue: Catalogue, most: int = MOST) -> None:
        self.online, self.events, self.catalogue, self.most = online, events, catalogue, most
        self._states: OrderedDict[int, UserState] = OrderedDict()  # the least recently touched first
        self._settled: IntArray | None = None  # (users,) ascending: whom the lake knew at `prepare`
        self._newer: set[int] = set()

    def prepare(self) -> None:
        """Before the lake gets a batch: who is in it. A user who is not, and not online, begins with nothing."""
        if self._settled is None:
            users = self.events.scan().select(pl.col("user").unique()).collect() if self.events.exists() else None
            self._settled = np.sort(users["user"].to_numpy()) if users is not None else np.empty(0, np.int64)
            self._newer = set()

    def forget(self) -> None:
        self._states.clear()
        self._settled = None

    def update(self, rows: pl.DataFrame, again: Iterable[int]) -> int:
        """Bring users up to date, after the lake has their rows; returns how many were written.

        rows: COLUMNS of events that are new. again: users whose state must follow from the lake.
        Raises StorageError, FeatureStoreError; then `forget` must follow.
        """
        from_lake = set(again)
        touched = rows["user"].unique().to_list()
        for user in from_lake:
            self._states.pop(user, None)
        absent = [user for user in touched if user not in self._states and user not in from_lake]
        for row in self.online.read_users(absent) if absent else ():
            if row.history is None and self._is_settled(row.user):
                from_lake.add(row.user)
            else:
                self._states[row.user] = UserState.from_row(row.history, row.statistics)
        self._apply(rows.filter(~pl.col("user").is_in(list(from_lake))) if from_lake else rows)
        if from_lake:
            for user in from_lake:
                self._states[user] = UserState()
            wanted = self.events.scan().filter(pl.col("user").is_in(list(from_lake))).select(COLUMNS)
            self._apply(wanted.collect())
        self._newer.update(touched)
        written = sorted(from_lake.union(touched))
        self._write(written)
        for user in written:
            self._states.move_to_end(user)
        while len(self._states) > self.most:
            self._states.popitem(last=False)
        return len(written)

    def _is_settled(self, user: int) -> bool:
        assert self._settled is not None
        place = int(np.searchsorted(self._settled, user))
        return user in self._newer or (place < len(self._settled) and int(self._settled[place]) == user)

    def _apply(self, rows: pl.DataFrame) -> None:
        of: dict[int, tuple[list[int], list[int], list[float | None], list[list[str]]]]
        of = defaultdict(lambda: ([], [], [], []))
        genres = self.catalogue.genres
        columns = rows.select("user", "item", pl.col("timestamp").dt.epoch("ms"), "rating")
        for user, item, time, rating in columns.iter_rows():
            items, times, ratings, kinds = of[user]
            items.append(item)
            times.append(time)
            ratings.append(rating)
            kinds.append(genres.get(item, []))
        for user, events in of.items():
            self._states[user].apply(*events)

    def _write(self, users: list[int]) -> None:
        created = datetime.now(UTC)
        rows = [(user, self._states[user].rows()) for user in users]
        for view in VIEWS:
            of_view = [{"user": user, **views[view]} for user, views in rows if views]
            if of_view:
                self.online.write(view, of_view, created)
