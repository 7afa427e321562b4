"""Feast's Redis online store with time limits, in which a late event's row counts. Knows Redis, no features.

The stock store keeps newer rows, but also refuses a row of the same instant: a user's state that a late event changed
has the newest event's time still. This one refuses older rows only. It also waits `timeout` seconds at most, where
redis-py would retry for many.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.utils import make_tzaware
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]
from pydantic import Field
from redis import ConnectionError as GoneError
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUTS = ("socket_timeout", "socket_connect_timeout")

Row = tuple[Any, dict[str, Any], datetime, datetime | None]
Read = tuple[datetime | None, dict[str, Any] | None]


class TimedRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """skip_dedup: Feast's own comparison is off because this store makes its own."""

    type: Literal["slipway.features.redis.TimedRedisOnlineStore"] = "slipway.features.redis.TimedRedisOnlineStore"
    skip_dedup: bool = True
    timeout: float = Field(0.25, gt=0, description="seconds for connecting, and for each answer")


class TimedRedisOnlineStore(RedisOnlineStore):  # type: ignore[misc]
    def _get_client(self, online_store_config: Any) -> Any:
        if not self._client:
            client = super()._get_client(online_store_config)
            _, given = self._parse_connection_string(online_store_config.connection_string)
            for name in TIMEOUTS:
                client.get_connection_kwargs()[name] = given.get(name, online_store_config.timeout)
            # One more try at once: a connection that a restarted server closed is found out by using it. A server that
            # lets us wait is not asked again: the time is over.
            client.set_retry(Retry(NoBackoff(), 1, supported_errors=(GoneError,)))
        return self._client

    def limit(self, config: Any, seconds: float) -> bool:
        """Answers take so long at most, and connecting, which the first of them does, as long once more. False for a
        cluster: its nodes have connections of their own.
        """
        client = self._get_client(config.online_store)
        if not isinstance(client, Redis):
            return False
        given = client.get_connection_kwargs()
        given.update({name: min(given[name], seconds) for name in TIMEOUTS})
        client.connection_pool.disconnect()  # what was opened before has its old limits
        return True

    def read_views(self, config: Any, tables: Sequence[Any], keys: Sequence[Sequence[Any]]) -> list[list[Read]]:
        """`online_read` of several views, each with its keys, in one round trip."""
        commands, names = [], []
        for table, some in zip(tables, keys, strict=True):
            wanted, fields = self._generate_hset_keys_for_features(table)
            names.append(wanted)
            commands += [(key, fields) for key in self._generate_redis_keys_for_entities(config, some)]
        answers = iter(self._read_hash_fields(config, commands))
        return [
            self._convert_redis_values_to_protobuf([next(answers) for _ in some], table.name, wanted)
            for table, some, wanted in zip(tables, keys, names, strict=True)
        ]

    def online_write_batch(
        self, config: Any, table: Any, data: Sequence[Row], progress: Callable[[int], Any] | None
    ) -> None:
        newest: dict[bytes, Row] = {}
        for row, key in zip(
            data, self._generate_redis_keys_for_entities(config, [row[0] for row in data]), strict=True
        ):
            if key not in newest or make_tzaware(row[2]) >= make_tzaware(newest[key][2]):
                newest[key] = row
        stored = self._read_hash_fields(config, [(key, [f"_ts:{table.name}"]) for key in newest])
        fresh = [row for row, values in zip(newest.values(), stored, strict=True) if not _is_older(row[2], values[0])]
        if fresh:
            super().online_write_batch(config, table, fresh, None)
        if progress:
            progress(len(data))


def _is_older(event: datetime, stored: Any) -> bool:
    if not stored:
        return False
    return bool(Timestamp.FromString(bytes(stored)).ToNanoseconds() > _nanoseconds(event))


def _nanoseconds(moment: datetime) -> int:
    stamp = Timestamp()
    stamp.FromDatetime(make_tzaware(moment))
    nanoseconds: int = stamp.ToNanoseconds()
    return nanoseconds
