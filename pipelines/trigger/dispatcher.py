"""Keeps the book of causes in the object store and starts what is due, one at a time. Knows no HTTP and no pipeline.

One dispatcher per book: the Deployment has one replica and is recreated, never rolled. What it has said that it took
is in the store; a start that was cut off is reported, not repeated.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from pipelines.trigger.book import Book, Policy, Waiting, Word
from pipelines.trigger.cause import Cause
from slipway.errors import ObjectNotFoundError, SlipwayError, StorageError
from slipway.storage import ObjectStore

log = logging.getLogger("slipway.trigger")

Start = Callable[[Cause], Awaitable[str]]
"""Starts a run and returns its id, or raises SlipwayError."""


@dataclass(frozen=True)
class Taken:
    """due: when its run may start; a push waits for its image besides."""

    lane: str
    word: Word
    due: datetime | None


def _now() -> datetime:
    return datetime.now(UTC)


class Dispatcher:
    """build: what this service is made of; commit: of its image, "" where it has none."""

    def __init__(
        self,
        objects: ObjectStore,
        policy: Policy,
        start: Start,
        build: str,
        commit: str = "",
        now: Callable[[], datetime] = _now,
        every: float = 5.0,
    ) -> None:
        self.policy, self.book = policy, Book()
        self.outcomes: dict[tuple[str, str], int] = {}  # (reason, started | retried | given up) → how often
        self._objects, self._start, self._build, self._commit = objects, start, build, commit
        self._now, self._every = now, every
        self._key = f"triggers/{policy.workload}.json"
        self._lock, self._told = asyncio.Lock(), asyncio.Event()

    async def load(self) -> None:
        """Raises StorageError when the store is away or the book is not one: an empty book would start all again."""
        try:
            text = await asyncio.to_thread(self._objects.read, self._key)
        except ObjectNotFoundError:
            return
        try:
            book, lost = Book.model_validate_json(text).recover()
        except ValidationError as error:
            raise StorageError(
                f"{self._key} is no book of triggers: {error.errors()[0]['msg']}",
                "restore the object's version of before, or delete it to begin anew",
            ) from error
        self.book = book
        for lane in lost:
            log.error("the start of %s was cut off; see whether its run is there", lane)
        if lost:
            await self._keep(book)

    async def take(self, cause: Cause) -> Taken:
        """It is in the store when this returns. Raises StorageError."""
        async with self._lock:
            book, word = self.book.offer(cause, self._now(), self.policy, self._build)
            if word is not Word.KNOWN:
                await self._keep(book)
        due = next((w.due for w in self.book.waiting if w.lane == cause.lane), None)
        log.info("%s: %s (%s)", cause.lane, cause.what, word)
        self._told.set()
        return Taken(cause.lane, word, due)

    async def withdraw(self, keys: tuple[str, ...]) -> None:
        async with self._lock:
            book = self.book.withdraw(keys)
            if book != self.book:
                log.info("withdrawn: what waited for %d alerts that are over", len(keys))
                await self._keep(book)

    async def run(self) -> None:
        """Until cancelled; then a start in progress is finished first."""
        while True:
            self._told.clear()
            try:
                while entry := await self._due():
                    started = asyncio.create_task(self._begin(entry))
                    try:
                        await asyncio.shield(started)
                    except asyncio.CancelledError:
                        await started
                        raise
            except StorageError as error:
                log.error("%s", error.message)  # noqa: TRY400 - the message is the whole of it
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self._every)

    async def _due(self) -> Waiting | None:
        async with self._lock:
            book, gone = self.book.expire(self._now(), self.policy)
            if gone:
                await self._keep(book)
            for entry in gone:
                log.warning("no image came for %s", entry.cause.what)
            return self.book.next(self._now(), self.policy, self._build)

    async def _begin(self, entry: Waiting) -> None:
        reason = str(entry.cause.reason)
        async with self._lock:
            await self._keep(self.book.begin(entry, self._now(), self._build, self._commit))
        try:
            run, error = await self._start(entry.cause), ""
        except SlipwayError as failed:
            run, error = "", failed.message
        async with self._lock:
            if run:
                book, outcome = self.book.end(entry.lane, run), "started"
                log.info("%s: run %s (%s)", entry.lane, run, entry.cause.what)
            else:
                book = self.book.fail(entry, self._now(), self.policy, error[:500])
                outcome = "retried" if entry.failed + 1 < self.policy.attempts else "given up"
                log.error("%s could not start a run (%s): %s", entry.lane, outcome, error)
            await self._keep(book)
            self.outcomes[reason, outcome] = self.outcomes.get((reason, outcome), 0) + 1

    async def _keep(self, book: Book) -> None:
        """Written first: what the store did not take, nobody was promised."""
        await asyncio.to_thread(self._objects.write, self._key, book.model_dump_json(indent=1).encode())
        self.book = book
