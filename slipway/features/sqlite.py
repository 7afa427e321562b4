"""Feast's SQLite online store, in which an older row never replaces a newer one. Knows SQL, no features.

The stock store overwrites whatever is there, keeps event times to the second only, and waits in its rollback journal
for readers. This one adds a column event_ms to Feast's table and lets SQLite itself compare, in the same statement
that writes (so also between processes), and uses a write-ahead log. Reads, and the table that Feast reads, are stock.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, _quote_id, _table_id
from feast.utils import make_tzaware, to_naive_utc
from pydantic import Field

from slipway.features import places

BUSY_MS = 5_000  # how long a writer waits for another process's commit


class HomeSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    type: Literal["slipway.features.sqlite.HomeSqliteOnlineStore"] = "slipway.features.sqlite.HomeSqliteOnlineStore"
    path: str = Field(default_factory=lambda: str(places.folder() / "online.db"))


class HomeSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    def _get_conn(self, config: Any) -> sqlite3.Connection:
        if not self._conn:
            Path(self._get_db_path(config)).parent.mkdir(parents=True, exist_ok=True)
            connection = super()._get_conn(config)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        connection = super()._get_conn(config)
        return connection  # type: ignore[no-any-return]

    def limit(self, config: Any, seconds: float) -> bool:
        """A local file waits for nothing but other processes' locks."""
        self._get_conn(config).execute(f"PRAGMA busy_timeout = {max(1, round(seconds * 1000))}")
        return True

    def update(self, config: Any, tables_to_delete: Any, tables_to_keep: Any, *rest: Any, **named: Any) -> None:
        super().update(config, tables_to_delete, tables_to_keep, *rest, **named)
        connection = self._get_conn(config)
        for table in tables_to_keep:
            name = _quote_id(_name(config, table))
            if "event_ms" not in {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}:
                connection.execute(f"ALTER TABLE {name} ADD COLUMN event_ms INTEGER NOT NULL DEFAULT 0")

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        connection = self._get_conn(config)
        statement = (
            f"INSERT INTO {_quote_id(_name(config, table))} AS stored "  # noqa: S608 - quoted, as Feast does
            "(entity_key, feature_name, value, value_text, event_ts, created_ts, event_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts, "
            "event_ms = excluded.event_ms WHERE excluded.event_ms >= stored.event_ms"
        )
        with connection:
            connection.executemany(statement, _cells(config, data))
        if progress:
            progress(len(data))


def _name(config: Any, table: Any) -> str:
    name: str = _table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
    return name


def _cells(
    config: Any, data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
) -> Iterator[tuple[Any, ...]]:
    for entity, values, event, created in data:
        key = serialize_entity_key(entity, entity_key_serialization_version=config.entity_key_serialization_version)
        event_ms = round(make_tzaware(event).timestamp() * 1000)
        stamps = to_naive_utc(event), created and to_naive_utc(created), event_ms
        for name, value in values.items():
            yield key, name, value.SerializeToString(), extract_text_and_num(value, False)[0], *stamps
