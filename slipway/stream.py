"""How messages get onto the stream, of Redis or Kafka. Knows brokers and when to give up, not what a message says.

    sender = open_sender("redis://127.0.0.1:6379/0", answer=1.0)
    sender.send(topic("simulated", "events"), [b"{…}"], timeout=30.0)

What `send` returned from is on the stream. When the broker failed in between, some messages may be there twice.
"""

import time
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from slipway.errors import ConfigError, StreamError

DATA = b"__data__"  # FastStream's field of a Redis stream entry
CHUNK = 1000  # messages of one round trip


def topic(data_set: str, kind: str) -> str:
    return f"{data_set}.{kind}"


class Sender(Protocol):
    """One thread at a time. Connects at the first message."""

    def send(self, name: str, texts: Sequence[bytes], timeout: float) -> None:
        """timeout: seconds in which it is tried again; 0 is once. Raises StreamError: all or some are not there."""

    def ping(self) -> None:
        """Raises StreamError when the broker does not answer."""

    def close(self) -> None: ...


def open_sender(url: str, answer: float = 30.0) -> Sender:
    """answer: seconds that the broker has for one answer. Raises ConfigError for neither redis:// nor kafka://."""
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        return _Redis(url, answer)
    if scheme == "kafka":
        return _Kafka(url, answer)
    raise ConfigError(f"{url!r} is no event stream", "use redis://host:port/0 or kafka://host:port")


class _Redis:
    def __init__(self, url: str, answer: float) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.url = url
        self.client = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=min(answer, 5.0), socket_timeout=answer
        )

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

    def ping(self) -> None:
        from redis.exceptions import RedisError

        try:
            self.client.ping()
        except (RedisError, OSError) as error:
            raise StreamError(f"{self.url} does not answer: {error}", "start it again") from error

    def close(self) -> None:
        self.client.close()


class _Kafka:
    def __init__(self, url: str, answer: float) -> None:
        from confluent_kafka import Producer

        self.url, self.answer = url, answer
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

        until = time.monotonic() + (timeout or self.answer)
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

    def ping(self) -> None:
        from confluent_kafka import KafkaException

        try:
            self._producer.list_topics(timeout=self.answer)
        except KafkaException as error:
            raise StreamError(f"{self.url} does not answer: {error}", "start it again") from error

    def close(self) -> None:
        self._producer.flush(5)


def _lost(url: str, messages: int, error: object) -> StreamError:
    return StreamError(
        f"{messages:,} messages could not be put on {url}: {str(error).splitlines()[0]}",
        "check that the broker runs (a laptop's: slipway ingest --source stream --follow) and SLIPWAY_EVENTS_URL",
    )
