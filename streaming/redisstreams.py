"""Redis Streams as a source: groups, pending messages, outages, trimming. Knows Redis and FastStream, no message.

A message is pending from the moment it is read until it is acknowledged, and Redis forgets none of them: not those of
a consumer that was killed, nor those whose answer was lost on the way. What is pending and not in our hands is claimed
again: our own at once, another consumer's when it has been idle for `claim_after_s`.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, RedisBatchStreamMessage
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisError, ResponseError

from slipway.errors import StreamError
from slipway.stream import DATA, topic
from slipway.workloads.movies.messages import DEAD_LETTERS, KINDS, Kind
from streaming.collector import Collector, Stopped
from streaming.config import StreamConfig
from streaming.delivery import Delivery
from streaming.metrics import Metrics

log = logging.getLogger("slipway.streaming")
GROUP = "slipway"
LETTERS_KEPT = 100_000  # of the dead-letter stream; the quarantine keeps all
HEARTBEAT = 1.0  # seconds
SETTLED_MS = 2000  # what we read this long ago and do not hold was lost on its way to us
AWAY = (RedisError, OSError, asyncio.TimeoutError)

Entry = tuple[bytes, dict[bytes, bytes]]


class RedisSource:
    def __init__(self, url: str, data_set: str, collector: Collector, config: StreamConfig, metrics: Metrics) -> None:
        self.url, self.collector, self.config, self.metrics = url, collector, config, metrics
        self.topics: dict[str, Kind] = {topic(data_set, kind): kind for kind in KINDS}
        self.letters = topic(data_set, DEAD_LETTERS)
        # A stable name: whoever comes after us on this machine finds what we left.
        self.consumer = socket.gethostname()
        self._held: dict[str, set[bytes]] = {name: set() for name in self.topics}
        # Our own questions fail at once; FastStream's reads outlive a restart of Redis by trying again inside.
        self._ask: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10, socket_connect_timeout=2)
        self._act: Redis = Redis.from_url(url, retry=Retry(ExponentialBackoff(1.0, 0.05), 10), socket_timeout=30)
        self._broker = RedisBroker(
            url,
            logger=None,
            apply_types=False,
            graceful_timeout=15,
            socket_timeout=30,
            socket_connect_timeout=2,
            retry=Retry(ExponentialBackoff(0.5, 0.02), 20),
        )
        self._subscribers = [self._subscribe(name) for name in self.topics]
        self._app = FastStream(self._broker, logger=None)
        self._heart: asyncio.Task[None] | None = None
        self._claiming: dict[str, asyncio.Task[None]] = {}
        self._claimed: dict[str, float] = {}
        self._opened = self._trimmed = time.monotonic()
        collector.publish = self._publish

    async def open(self) -> None:
        """Wait for Redis, take up what was left pending, then read on. Raises StreamError after wait_s."""
        await self._wait()
        await self._create_groups()
        await asyncio.gather(*(self._recover(name, idle_ms=0) for name in self.topics))
        await self._app.start()
        self._heart = asyncio.create_task(self._beat())

    async def close(self) -> None:
        if self._heart:
            self._heart.cancel()
        with contextlib.suppress(*AWAY):
            await self._app.stop()
        if self._claiming:
            await asyncio.wait(self._claiming.values(), timeout=5)
        for client in (self._ask, self._act):
            with contextlib.suppress(*AWAY):
                await client.aclose()

    async def backlog(self) -> int:
        """Messages that are not acknowledged; 0 only when there are none, otherwise at least 1. Raises StreamError."""
        try:
            return sum([await self._left(name) for name in self.topics])
        except AWAY as error:
            raise StreamError(f"{self.url} does not answer: {error}", "start it again; nothing is lost") from error

    async def _left(self, name: str) -> int:
        group = await self._group(name)
        if group is None:
            return 0
        stream = await self._ask.xinfo_stream(name)
        if group["last-delivered-id"] == stream["last-generated-id"]:
            return int(group["pending"])
        return max(1, int(group["pending"]) + int(stream["length"]))

    async def _group(self, name: str) -> dict[str, Any] | None:
        try:
            groups = await self._ask.xinfo_groups(name)
        except ResponseError:
            return None
        return next((group for group in groups if group["name"] == GROUP.encode()), None)

    def _subscribe(self, name: str) -> Any:
        sub = StreamSub(
            name,
            group=GROUP,
            consumer=self.consumer,
            batch=True,
            max_records=self.config.max_records,
            polling_interval=200,
        )

        # The batch as Redis gave it: each text is judged by us, and decoded once.
        async def as_it_is(message: Any) -> Any:
            return message

        subscriber = self._broker.subscriber(stream=sub, ack_policy=AckPolicy.MANUAL, parser=_parse, decoder=as_it_is)

        async def handle(message: Any) -> None:
            raw = message.raw_message
            await self._take(name, list(zip(raw["message_ids"], raw["data"], strict=True)), redelivered=False)
            await self.collector.pause()

        subscriber(handle)
        return subscriber

    async def _take(self, name: str, entries: Sequence[Entry], *, redelivered: bool) -> None:
        """Commit and acknowledge; what cannot be acknowledged stays ours and comes again."""
        ids = [one for one, _ in entries]
        self._held[name].update(ids)
        try:
            await self.collector.submit(self._delivery(name, entries, redelivered))
            await self._act.xack(name, GROUP, *ids)
        except Stopped:
            return
        except AWAY:
            return  # pending still: the heartbeat brings it again, and the lake will know it
        finally:
            self._held[name].difference_update(ids)

    def _delivery(self, name: str, entries: Sequence[Entry], redelivered: bool) -> Delivery:
        moments = [one.split(b"-") for one, _ in entries]
        return Delivery(
            kind=self.topics[name],
            source=f"stream:{name}",
            # An entry without our field is no message of ours: it is judged as what it is, and set aside.
            texts=[fields.get(DATA, b"") for _, fields in entries],
            places=[int(ms) * 1_000_000 + int(number) for ms, number in moments],
            oldest=int(moments[0][0]),
            redelivered=redelivered,
        )

    async def _publish(self, letters: list[bytes]) -> None:
        try:
            async with self._act.pipeline(transaction=False) as pipe:
                for letter in letters:
                    pipe.xadd(self.letters, {DATA: letter}, maxlen=LETTERS_KEPT, approximate=True)
                await pipe.execute()
        except AWAY as error:
            raise StreamError(f"dead letters could not be published: {error}", f"check {self.url}") from error

    async def _wait(self) -> None:
        until, told = time.monotonic() + self.config.wait_s, False
        while True:
            try:
                await self._ask.ping()
            except AWAY as error:
                if time.monotonic() > until:
                    raise StreamError(
                        f"{self.url} does not answer: {error}", "start Redis, or set SLIPWAY_EVENTS_URL"
                    ) from error
                if not told:
                    log.warning("%s does not answer; waiting up to %.0f s for it", self.url, self.config.wait_s)
                    told = True
                await asyncio.sleep(0.25)
            else:
                return

    async def _create_groups(self) -> None:
        """From the stream's first message on: what was sent before anybody listened counts too."""
        for name in self.topics:
            try:
                await self._ask.xgroup_create(name, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise StreamError(
                        f"{self.url} refused the consumer group of {name}: {error}", "see Redis' log"
                    ) from error

    async def _beat(self) -> None:
        down = False
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await self._ask.ping()
                if down:
                    await self._create_groups()
                    log.warning("%s answers again; going on", self.url)
                down = self.metrics.broker_down = False
                await self._look_after()
            except (*AWAY, StreamError) as error:
                if not down:
                    why = str(error).splitlines()[0]
                    log.warning("%s does not answer (%s); waiting, nothing is lost", self.url, why)
                down = self.metrics.broker_down = True

    async def _look_after(self) -> None:
        now = time.monotonic()
        for name, subscriber in zip(self.topics, self._subscribers, strict=True):
            if not subscriber.running:  # its group had vanished
                await self._create_groups()
                await subscriber.start()
            if name not in self._claiming:
                claim = now - self._claimed.get(name, self._opened) > self.config.claim_after_s / 2
                self._claiming[name] = asyncio.ensure_future(self._take_up(name, claim=claim))
        if now - self._trimmed > self.config.trim_every_s:
            self._trimmed = now
            await self._trim()

    async def _take_up(self, name: str, *, claim: bool) -> None:
        try:
            with contextlib.suppress(*AWAY):  # the next beat tries again
                await self._recover(name, SETTLED_MS)
                if claim:
                    self._claimed[name] = time.monotonic()
                    await self._recover(name, int(self.config.claim_after_s * 1000), others=True)
        finally:
            del self._claiming[name]

    async def _recover(self, name: str, idle_ms: int, *, others: bool = False) -> None:
        """Bring again, oldest first, what was read and is not acknowledged: by us, and not in our hands; or by others,
        who are thought dead.
        """
        start, own = "-", self.consumer.encode()
        while True:
            pending = await self._ask.xpending_range(
                name, GROUP, start, "+", self.config.max_records, None if others else self.consumer, idle_ms or None
            )
            if not pending:
                return
            wanted = [one["message_id"] for one in pending if others is (one["consumer"] != own)]
            ids = [one for one in wanted if one not in self._held[name]]
            if ids and others:
                log.warning("taking over %d messages of %s from a consumer that went away", len(ids), name)
            if ids:
                await self._claim(name, ids, idle_ms)
            start = f"({pending[-1]['message_id'].decode()}"

    async def _claim(self, name: str, ids: Sequence[bytes], idle_ms: int) -> None:
        self._held[name].update(ids)
        try:
            claimed = dict(await self._act.xclaim(name, GROUP, self.consumer, idle_ms, list(ids)))
            entries = [(one, claimed[one]) for one in ids if claimed.get(one) is not None]
            if entries:
                await self._take(name, entries, redelivered=True)
            for one in set(ids) - set(claimed):
                if not await self._ask.xrange(name, one, one):
                    log.warning("message %s of %s was deleted by somebody before it was read", one.decode(), name)
                    await self._act.xack(name, GROUP, one)
        finally:
            self._held[name].difference_update(ids)

    async def _trim(self) -> None:
        """Remove what every group has acknowledged, and nothing else."""
        for name in self.topics:
            first: list[bytes | None] = []
            for group in await self._ask.xinfo_groups(name):
                if group["pending"]:
                    # None: it was acknowledged between the two questions; the next look will say how far.
                    first.append((await self._ask.xpending(name, group["name"]))["min"])
                else:
                    first.append(_next(group["last-delivered-id"]))
            needed = [one for one in first if one is not None]
            if needed and len(needed) == len(first):
                await self._ask.xtrim(name, minid=min(needed, key=_order).decode(), approximate=True)


async def _parse(message: Any) -> Any:
    """FastStream's own parser reads every text as JSON and writes them all again; ours leaves them alone."""
    return RedisBatchStreamMessage(raw_message=message, body=b"", consumer=FAKE_CONSUMER, group=None)


def _order(one: bytes) -> tuple[int, int]:
    ms, _, number = one.partition(b"-")
    return int(ms), int(number)


def _next(one: bytes) -> bytes:
    ms, number = _order(one)
    return f"{ms}-{number + 1}".encode()
