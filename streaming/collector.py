"""Deliveries of all topics → one commit at a time, tried until it works. Knows time, failure and order; no broker.

A commit comes as soon as there is something; then readers pause until the interval is over, and what they read next
is what came meanwhile. So a lone event waits for nothing, and a steady flow makes few and large commits.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from slipway.errors import SlipwayError
from streaming.committer import Committer, Outcome
from streaming.config import StreamConfig
from streaming.delivery import Delivery
from streaming.metrics import Metrics

log = logging.getLogger("slipway.streaming")
SHORTEST, LONGEST = 0.2, 5.0  # seconds between two attempts

Publish = Callable[[list[bytes]], Awaitable[None]]


class Stopped(Exception):  # noqa: N818
    """The consumer ends: the delivery is not committed and must not be acknowledged."""


class Collector:
    def __init__(self, committer: Committer, config: StreamConfig, metrics: Metrics) -> None:
        self.committer, self.config, self.metrics = committer, config, metrics
        self.publish: Publish | None = None  # of dead letters
        self._waiting: list[tuple[Delivery, asyncio.Future[None]]] = []
        self._there = asyncio.Event()
        self._stopping = asyncio.Event()
        self._begun = 0.0
        self._full = False
        self._compacted = time.monotonic()
        self._compacting: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "commit")  # a table's object serves one thread
        self._second_thread = ThreadPoolExecutor(1, "compact")

    async def submit(self, delivery: Delivery) -> None:
        """Returns when the delivery is committed; then it may be acknowledged. Raises Stopped."""
        if self._stopping.is_set():
            raise Stopped
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, done))
        self._there.set()
        await done

    async def pause(self) -> None:
        """Before the next read: until the interval is over; not at all while there is a backlog."""
        if not self._full:
            await self._sleep(self._begun + self.config.interval_ms / 1000 - time.monotonic())

    async def run(self) -> None:
        """Until `stop`; what has been submitted by then is not committed any more."""
        while not self._stopping.is_set():
            await self._either(self._there)
            await asyncio.sleep(0)  # readers that are ready join
            self._there.clear()
            if self._waiting and not self._stopping.is_set():
                await self._commit_all()
            self._compact()
        for _, done in self._waiting:
            if not done.done():
                done.set_exception(Stopped())
        self._waiting.clear()

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        """Waits for a compaction that has begun."""
        self._thread.shutdown()
        self._second_thread.shutdown()

    async def _commit_all(self) -> None:
        self._begun = time.monotonic()
        taken = len(self._waiting)
        again, patient, wait, failed = False, True, SHORTEST, ""
        while not self._stopping.is_set():
            deliveries = [delivery for delivery, _ in self._waiting[:taken]]
            try:
                outcome = await self._in_thread(deliveries, again, patient)
                if outcome is None:
                    await self._sleep(self.config.grace_ms / 1000)
                    taken, patient = len(self._waiting), False
                    continue
                if self.publish and outcome.dead_letters:
                    await self.publish(outcome.dead_letters)
            except Exception as error:  # a bug's exception must not lose the batch either: it is tried again
                reason = str(error).splitlines()[0] if isinstance(error, SlipwayError) else repr(error)
                if reason != failed:
                    log.warning("%s; nothing is acknowledged, trying again until it works", reason)
                    if not isinstance(error, SlipwayError):
                        log.debug("unexpected", exc_info=error)
                failed, again = reason, True
                self.metrics.failed(reason)
                await self._sleep(wait)
                wait = min(2 * wait, LONGEST)
                continue
            if failed:
                log.warning("the batch is committed; going on")
            self._full = any(len(delivery.texts) >= self.config.max_records for delivery in deliveries)
            self.metrics.committed(outcome.counts, time.monotonic() - self._begun, min(d.oldest for d in deliveries))
            for _, done in self._waiting[:taken]:
                if not done.done():
                    done.set_result(None)
            del self._waiting[:taken]
            return

    async def _in_thread(self, deliveries: list[Delivery], again: bool, patient: bool) -> Outcome | None:
        def work() -> Outcome | None:
            return self.committer.commit(deliveries, again=again, patient=patient)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _compact(self) -> None:
        """Now and then, beside the commits: Delta lets both happen, and neither waits for the other."""
        if time.monotonic() - self._compacted < self.config.compact_every_s or self._compacting:
            return
        self._compacted = time.monotonic()
        self._compacting = asyncio.ensure_future(self._compact_in_thread())

    async def _compact_in_thread(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._second_thread, self.committer.compact)
        except SlipwayError as error:
            log.warning("compaction did not work, the next one may: %s", error.message)
        finally:
            self._compacting = None

    async def _sleep(self, seconds: float) -> None:
        """Ends early when the consumer stops."""
        if seconds > 0:
            await self._either(None, seconds)

    async def _either(self, event: asyncio.Event | None, timeout: float | None = 1.0) -> None:
        """Until the event, the end of the consumer, or the timeout."""
        events = [one for one in (event, self._stopping) if one is not None]
        tasks = [asyncio.ensure_future(one.wait()) for one in events]
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
