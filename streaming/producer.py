"""Puts messages on the stream, of Redis or Kafka. Knows how to send and when to give up, not what a message says.

    with Publisher(url, "simulated") as publisher:
        publisher.publish("events", [{"event_id": …, "user": 1, …}])

What `publish` returned from is on the stream. When the broker failed in between, some messages may be there twice:
their ids say so, and the consumer sets the second ones aside.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from slipway.errors import ConfigError, StreamError
from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS, topic

DATA = b"__data__"  # FastStream's field of a Redis stream entry
CHUNK = 1000  # messages of one round trip
TRIES = 5


class Publisher:
    """timeout: seconds that one `publish` may take. One thread at a time."""

    def __init__(self, url: str, data_set: str, timeout: float = 30.0) -> None:
        """Raises ConfigError for a URL that is neither redis:// nor kafka://. Connects at the first message."""
        self.url, self.data_set, self.timeout = url, data_set, timeout
        self._sender: _Redis | _Kafka = _sender(url)

    def publish(self, kind: str, messages: Iterable[Mapping[str, Any] | bytes]) -> int:
        """kind: events, feedback, exposures or items. Returns how many were sent. Raises StreamError."""
        if kind not in (*KINDS, DEAD_LETTERS):
            raise ConfigError(f"there is no topic {kind!r}", f"choose one of: {', '.join(KINDS)}")
        texts = [message if isinstance(message, bytes) else orjson.dumps(message) for message in messages]
        self._sender.send(topic(self.data_set, kind), texts, self.timeout)
        return len(texts)

    def close(self) -> None:
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Redis:
    def __init__(self, url: str) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.url = url
        self.client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=5, socket_timeout=30)

    def send(self, name: str, texts: Sequence[bytes], timeout: float) -> None:
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as Late

        until, tries = time.monotonic() + timeout, 0
        sent = 0
        while sent < len(texts):
            chunk = texts[sent : sent + CHUNK]
            try:
                with self.client.pipeline(transaction=False) as pipe:
                    for text in chunk:
                        pipe.xadd(name, {DATA: text})
                    pipe.execute()
            except (Lost, Late, OSError) as error:
                tries += 1
                if time.monotonic() > until:
                    raise _lost(self.url, len(texts) - sent, error) from error
                time.sleep(min(0.1 * 2**tries, 1.0))
            except RedisError as error:
                raise StreamError(f"{self.url} refused a message for {name}: {error}", "see Redis' log") from error
            else:
                sent += len(chunk)

    def close(self) -> None:
        self.client.close()


class _Kafka:
    def __init__(self, url: str) -> None:
        from confluent_kafka import Producer

        self.url = url
        self._said: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": urlsplit(url).netloc,
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 2,
                "error_cb": lambda error: self._said.append(str(error)),
            }
        )

    def send(self, name: str, texts: Sequence[bytes], timeout: float) -> None:
        failed: list[str] = []

        def delivered(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(str(error))

        until = time.monotonic() + timeout
        for text in texts:
            while True:
                try:
                    self._producer.produce(name, text, on_delivery=delivered)
                    break
                except BufferError as error:
                    if time.monotonic() > until:
                        raise _lost(self.url, len(texts), error) from error
                    self._producer.poll(0.1)
        left = self._producer.flush(max(0.0, until - time.monotonic()))
        if left or failed:
            self._producer.purge()
            raise _lost(self.url, left or len(failed), (failed or self._said or ["no answer"])[-1])

    def close(self) -> None:
        self._producer.flush(5)


def _sender(url: str) -> _Redis | _Kafka:
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        return _Redis(url)
    if scheme == "kafka":
        return _Kafka(url)
    raise ConfigError(f"{url!r} is no event stream", "use redis://host:port/0 or kafka://host:port")


def _lost(url: str, messages: int, error: object) -> StreamError:
    return StreamError(
        f"{messages:,} messages could not be put on {url}: {str(error).splitlines()[0]}",
        "check that the broker runs (a laptop's: slipway ingest --source stream --follow) and SLIPWAY_EVENTS_URL",
    )
