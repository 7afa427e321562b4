"""Puts messages on the topics of a data set. Knows their names, not how they get there (slipway/stream.py).

    with Publisher(url, "simulated") as publisher:
        publisher.publish("events", [{"event_id": …, "user": 1, …}])

What `publish` returned from is on the stream. When the broker failed in between, some messages may be there twice:
their ids say so, and the consumer sets the second ones aside.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import orjson

from slipway.errors import ConfigError
from slipway.stream import open_sender, topic
from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS


class Publisher:
    """timeout: seconds that one `publish` may take. One thread at a time."""

    def __init__(self, url: str, data_set: str, timeout: float = 30.0) -> None:
        """Raises ConfigError for a URL that is neither redis:// nor kafka://. Connects at the first message."""
        self.url, self.data_set, self.timeout = url, data_set, timeout
        self._sender = open_sender(url)

    def publish(self, kind: str, messages: Iterable[Mapping[str, Any] | bytes]) -> int:
        """kind: events, feedback, exposures, shadows or items. Returns how many were sent. Raises StreamError."""
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
