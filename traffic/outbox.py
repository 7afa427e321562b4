"""Messages on their way to the event stream: buffered while it is down, sent again, counted. Knows no broker.

Nobody waits for the stream: people go on, and what they do lies here until the stream takes it, up to a bound.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway.errors import SlipwayError
from slipway.workloads.movies.messages import Kind

BOUND = 200_000
BATCH = 1_000
PAUSE = 0.05  # s between two batches
PATIENCE = (0.2, 5.0)  # s before the first and between later attempts, while the stream is down

_ORDER: tuple[Kind, ...] = ("items", "exposures", "shadows", "events", "feedback")

Publish = Callable[[Kind, Sequence[Mapping[str, Any]]], object]
"""Puts messages on the stream, all of them or raising SlipwayError or OSError; may be called from a thread."""


class Outbox:
    """put from the event loop, `run` as a task beside it, `close` at the end."""

    def __init__(self, publish: Publish | None, bound: int = BOUND) -> None:
        """publish: None where there is no stream, and nothing is kept."""
        self.publish = publish
        self._bound = bound
        self._waiting: deque[tuple[Kind, Mapping[str, Any]]] = deque()
        self._closing = asyncio.Event()
        self.sent: dict[Kind, int] = {}
        self.lost = 0
        self.down_since: float | None = None
        self.trouble = ""  # the last one

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, kind: Kind, message: Mapping[str, Any]) -> None:
        if self.publish is None:
            return
        if len(self._waiting) >= self._bound:
            self._waiting.popleft()  # the oldest: what comes now joins with what is still there
            self.lost += 1
        self._waiting.append((kind, message))

    async def run(self) -> None:
        """Until `close`."""
        wait = PATIENCE[0]
        while not self._closing.is_set():
            if await self._flush():
                wait = PATIENCE[0]
                if len(self._waiting) >= BATCH:
                    continue
                pause = PAUSE
            else:
                pause, wait = wait, min(2 * wait, PATIENCE[1])
            try:
                await asyncio.wait_for(self._closing.wait(), pause)
            except TimeoutError:
                continue

    async def close(self, seconds: float = 10.0) -> None:
        """Send what waits, for at most so long; what then still waits is lost, and counted."""
        self._closing.set()
        deadline = time.monotonic() + seconds
        while self._waiting and time.monotonic() < deadline:
            if not await self._flush():
                await asyncio.sleep(min(PATIENCE[0], max(deadline - time.monotonic(), 0)))
        self.lost += len(self._waiting)
        self._waiting.clear()

    async def _flush(self) -> bool:
        """One batch, in order, as runs of one kind; False when the stream does not take it."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        while batch and self.publish:
            # A film goes before what is done with it, an exposure before its feedback; one kind at a time.
            kind = min((entry[0] for entry in batch), key=_ORDER.index)
            run = [entry for entry in batch if entry[0] == kind]
            try:
                await asyncio.to_thread(self.publish, kind, [message for _, message in run])
            except (SlipwayError, OSError) as error:
                self._waiting.extendleft(reversed(batch))
                self.down_since = self.down_since or time.monotonic()
                self.trouble = error.message if isinstance(error, SlipwayError) else str(error)
                return False
            self.sent[kind] = self.sent.get(kind, 0) + len(run)
            batch = [entry for entry in batch if entry[0] != kind]
        self.down_since = None
        return True
