"""Online features of users and items, through Feast's own online store. Knows views, time limits and ages, no model.

    store = OnlineStore.open()
    row, = store.read_users([42])            # history and statistics; empty for somebody never seen
    store.write("user_history", [{"user": 42, "event_timestamp": …, "items": […], …}], created=now)

The registry is read once, when the store is opened. What is asked for goes straight to `online_read` of the store that
feature_store.yaml names, and comes back as protocol buffers; `FeatureStore.get_online_features` would give the same
values (a test compares them) at several times the cost. Feast does not enforce a view's TTL online: this does.
Everything that goes wrong is one FeatureStoreError, within the store's time limit, and never anything else.
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slipway.errors import UnknownViewError
from slipway.features import lean, places, repository, values

HISTORY, STATISTICS = "user_history", "user_statistics"
NOTHING = np.empty(0, dtype=np.int64)

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One entity's features of one view, and the time of the event that they are of."""

    values: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class UserRow:
    """items: (n,) int64 source ids, oldest first; times: (n,) int64 milliseconds since 1970 UTC.

    history and statistics: the rows as they are stored, for UserState.from_row; None where there is none, or one that
    is older than its view's TTL. fresh_at: the newest event that either knows of, to the millisecond (SQLite's own
    event times are whole seconds).
    """

    user: int
    items: IntArray = field(default_factory=lambda: NOTHING)
    times: IntArray = field(default_factory=lambda: NOTHING)
    history: Mapping[str, Any] | None = None
    statistics: Mapping[str, Any] | None = None
    fresh_at: datetime | None = None


class OnlineStore:
    """One per process; may be used from many threads."""

    def __init__(self, config: Any, store: Any, views: Mapping[str, Any]) -> None:
        """views: name → feast.FeatureView, with its entity column. Use `open`."""
        self._config, self._store = config, store
        self._views = {name: values.ViewCodec(view) for name, view in views.items()}
        # SQLite has one connection, which one thread uses at a time; Redis has a pool.
        self._turn: Any = threading.Lock() if hasattr(store, "_conn") else contextlib.nullcontext()

    @classmethod
    def open(cls, repo: Path | None = None, data_set: str = "") -> Self:
        """repo: the folder of feature_store.yaml, default feature_repo/; data_set: default the settings'.

        Which file: feature_store.yaml, or what Feast's own FEAST_FS_YAML_FILE_PATH names. Applies the definitions
        when nobody has yet. Raises FeatureStoreError. Costs the import of Feast, once per process: see lean.py.
        """
        with repository.failing("opened"):
            lean.feast()
            feature_store = repository.connect(repo or places.repository(), data_set)
            if not feature_store.list_feature_views():
                repository.apply(feature_store, data_set)
            views = {view.name: view for view in feature_store.list_feature_views()}
            return cls(feature_store.config, feature_store._get_provider().online_store, views)

    @property
    def views(self) -> list[str]:
        return sorted(self._views)

    def limit(self, seconds: float) -> bool:
        """From now on a read ends by itself after so many seconds. False where Feast's store cannot promise it."""
        limit = getattr(self._store, "limit", None)
        with repository.failing("opened"):
            return limit is not None and limit(self._config, seconds)

    def read(self, view: str, ids: Sequence[int], now: datetime | None = None) -> list[Row | None]:
        """One row per id, in their order; None for an entity that is unknown or whose row is older than the TTL.

        Raises UnknownViewError, FeatureStoreError.
        """
        return self._read([view], ids, now)[0]

    def read_users(self, users: Sequence[int], now: datetime | None = None) -> list[UserRow]:
        """Raises FeatureStoreError; somebody never seen comes back empty."""
        histories, statistics = self._read([HISTORY, STATISTICS], users, now)
        return [_user_row(*one) for one in zip(users, histories, statistics, strict=True)]

    def read_histories(self, users: Sequence[int], now: datetime | None = None) -> list[UserRow]:
        """As read_users, without their statistics: what a request needs, in half the time. Raises FeatureStoreError."""
        (histories,) = self._read([HISTORY], users, now)
        return [_user_row(user, history, None) for user, history in zip(users, histories, strict=True)]

    def _read(self, views: Sequence[str], ids: Sequence[int], now: datetime | None) -> list[list[Row | None]]:
        """Rows by view: in one round trip where the store can (redis.py), else one each."""
        codecs = [self._codec(view) for view in views]
        asked = [[codec.key(one) for one in ids] for codec in codecs]
        with repository.failing("read"), self._turn:
            if together := getattr(self._store, "read_views", None):
                found = together(self._config, [codec.view for codec in codecs], asked)
            else:
                found = [
                    self._store.online_read(self._config, codec.view, keys)
                    for codec, keys in zip(codecs, asked, strict=True)
                ]
        moment = now or datetime.now(UTC)
        return [
            [_row(codec, at, row, moment - codec.ttl) for at, row in rows]
            for codec, rows in zip(codecs, found, strict=True)
        ]

    def write(self, view: str, rows: Sequence[Mapping[str, Any]], created: datetime) -> None:
        """Put rows in place of older ones; a stored row of a newer event stays.

        rows: the entity's id, event_timestamp (aware), and the view's fields; what is missing is null. created: when
        they were computed. Raises UnknownViewError, and FeatureStoreError also for rows that do not fit the view.
        """
        codec = self._codec(view)
        encoded = [codec.encode(row, created) for row in rows]
        with repository.failing("written"), self._turn:
            self._store.online_write_batch(self._config, codec.view, encoded, None)

    def _codec(self, view: str) -> values.ViewCodec:
        if codec := self._views.get(view):
            return codec
        raise UnknownViewError(view, self.views)


def _row(codec: values.ViewCodec, at: datetime | None, row: Mapping[str, Any] | None, oldest: datetime) -> Row | None:
    if at is None or not row or at < oldest:
        return None
    decoded = codec.decode(row)
    # Redis answers for an unknown entity with the time 0 and values that are none.
    return Row(decoded, at) if any(value is not None for value in decoded.values()) else None


def _user_row(user: int, history: Row | None, statistics: Row | None) -> UserRow:
    past = history.values if history else None
    newest = [past["times"][-1]] if past and past["times"] else []
    if statistics and (last := statistics.values.get("last_event")) is not None:
        newest.append(last)
    return UserRow(
        user=user,
        items=np.array(past["items"], dtype=np.int64) if past else NOTHING,
        times=np.array(past["times"], dtype=np.int64) if past else NOTHING,
        history=past,
        statistics=statistics.values if statistics else None,
        fresh_at=datetime.fromtimestamp(max(newest) / 1000, UTC) if newest else None,
    )
