"""The consumer: from the stream into the lake and the online store. Knows how its parts fit, and when to end.

    slipway ingest --source stream              # everything that is pending, then the end: `drain`
    slipway ingest --source stream --follow     # until Ctrl-C: `follow`

The stream is redis://host:port/0 on a laptop (a Redis of our own when nothing listens there) and kafka://host:port on
a cluster. One consumer per data set: on one machine a lock sees to it, on a cluster `replicas: 1`; when two overlap
all the same, the lake takes the batch of one of them and the other looks again (ledger.py).
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol
from urllib.parse import urlsplit

from slipway.errors import BusyError, ConfigError, StreamError
from slipway.features.online import OnlineStore
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workload import Progress
from streaming import embedded
from streaming.collector import Collector
from streaming.committer import Committer
from streaming.config import StreamConfig
from streaming.delivery import Counts
from streaming.metrics import Metrics, served

PATIENCE = 1.0  # seconds for a killed predecessor to be gone
LOOK = 0.1  # seconds between two looks at what is left


class Source(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def backlog(self) -> int: ...


def drain(url: str, data_set: str, progress: Progress, config: StreamConfig | None = None) -> Counts:
    """Everything that is on the stream, and then return. Raises StreamError, BusyError, KeyboardInterrupt."""
    chosen = config or StreamConfig()

    async def until_empty(consumer: "Consumer") -> None:
        total = max(1, await consumer.source.backlog())
        while not consumer.ended.is_set():
            left = await consumer.left()
            done = consumer.metrics.total.messages
            share = 1.0 if left == 0 else min(0.99, done / max(total, done + 1))
            progress("ingest", share, consumer.metrics.total.numbers())
            if left == 0:
                return
            await asyncio.sleep(LOOK)

    return _run(url, data_set, chosen, until_empty)


def follow(url: str, data_set: str, progress: Progress | None = None, config: StreamConfig | None = None) -> Counts:
    """Until SIGTERM, or Ctrl-C (KeyboardInterrupt, after what was begun is finished). Raises StreamError, BusyError."""

    async def until_told(consumer: "Consumer") -> None:
        while not consumer.ended.is_set():
            if progress:
                progress("follow", 0.0, consumer.metrics.total.numbers())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(consumer.ended.wait(), 1.0)

    return _run(url, data_set, config or StreamConfig(), until_told)


class Consumer:
    """What runs: a source that reads, and a collector that commits."""

    def __init__(self, url: str, data_set: str, committer: Committer, config: StreamConfig) -> None:
        self.metrics = Metrics()
        self.collector = Collector(committer, config, self.metrics)
        self.source = _source(url)(url, data_set, self.collector, config, self.metrics)
        self.ended = asyncio.Event()
        self.interrupted = False

    async def run(self, until: Callable[["Consumer"], Awaitable[None]]) -> None:
        with self._signals():
            committing = asyncio.create_task(self.collector.run())
            opening = asyncio.create_task(self._open_and(until))
            ending = asyncio.create_task(self.ended.wait())
            try:
                await asyncio.wait({opening, ending, committing}, return_when=asyncio.FIRST_COMPLETED)
                if committing.done():
                    committing.result()
                if opening.done():
                    opening.result()
            finally:
                self.collector.stop()
                for task in (opening, ending):
                    task.cancel()
                await asyncio.gather(opening, ending, committing, return_exceptions=True)
                await self.source.close()
                self.collector.close()

    async def left(self) -> int | None:
        """None while the broker does not answer."""
        with contextlib.suppress(StreamError):
            return await self.source.backlog()
        return None

    async def _open_and(self, until: Callable[["Consumer"], Awaitable[None]]) -> None:
        await self.source.open()
        gc.collect()
        gc.freeze()  # what is loaded by now lives as long as we do, and need not be looked at by every collection
        await until(self)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            self.interrupted = True
            self.ended.set()

        handlers = {signal.SIGINT: interrupt, signal.SIGTERM: self.ended.set}
        added = []
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # only the main thread may
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
                added.append(number)
        try:
            yield
        finally:
            for number in added:
                loop.remove_signal_handler(number)


def _run(url: str, data_set: str, config: StreamConfig, until: Callable[[Consumer], Awaitable[None]]) -> Counts:
    _source(url)
    with _alone(data_set), embedded.broker(url):
        committer = Committer(Lake(), data_set, OnlineStore.open(data_set=data_set), config)

        async def work() -> Consumer:
            consumer = Consumer(url, data_set, committer, config)
            with served(consumer.metrics, config.metrics_port, config.metrics_host):
                await consumer.run(until)
            return consumer

        consumer = asyncio.run(work())
        if consumer.interrupted:
            raise KeyboardInterrupt
        return consumer.metrics.total


def _source(url: str) -> Callable[..., Source]:
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        from streaming.redisstreams import RedisSource

        return RedisSource
    if scheme == "kafka":
        from streaming.kafkatopics import KafkaSource

        return KafkaSource
    raise ConfigError(
        f"{url!r} is no event stream", "set SLIPWAY_EVENTS_URL to redis://host:port/0 or kafka://host:port"
    )


@contextlib.contextmanager
def _alone(data_set: str) -> Iterator[None]:
    """Raises BusyError when another consumer of this data set runs with this home, and goes on running."""
    folder = settings().home / "stream"
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / f"{data_set}.lock", os.O_RDWR | os.O_CREAT)
    try:
        until = time.monotonic() + PATIENCE
        while not _locked(lock):
            if time.monotonic() > until:
                raise BusyError(folder, f"a consumer of {data_set}")
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
