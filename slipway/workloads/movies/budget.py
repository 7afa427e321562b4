"""How long each part of an answer may take, and what is done about one that takes longer. Knows clocks and threads, no
model, store or answer.

    features  the online store                    late, failed or paused: the package's history and the session
    ranker    session.run of the ranker                                   counts, then popularity
    rerank    session.run of the re-ranker's trees                        ranker and counts, linearly

Every hand-over to another thread waits for a core on a busy machine, so that what can end by itself is asked in the
request's thread: a graph, which is told when it is late and ends before its next node, and a store that keeps a time
limit. Any other store is asked in another thread, which is left behind when it is late. What is lost again and again is
paused, and tried by one request now and then. Without limits (offline, and for golden answers) every part takes as long
as it takes.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self, TypeVar

import numpy.typing as npt
import onnxruntime
from pydantic import Field

from slipway.errors import SlipwayError
from slipway.package import Frozen
from slipway.settings import Settings

PATIENCE = 3  # losses in a row before a part is paused
PAUSE = 5.0  # seconds without it, until one request tries again
THREADS = 16  # that ask a store: those that are waited for, and those left behind
TICK = 0.005  # seconds between looks at the graphs that run
IDLE_TICKS = 20

Arrays = Sequence[npt.NDArray[Any]]
T = TypeVar("T")

log = logging.getLogger(__name__)


class Part(StrEnum):
    FEATURES = "features"
    RETRIEVAL = "retrieval"  # counts and popularity: has no limit of its own, there is nothing faster
    RANKER = "ranker"
    RERANK = "rerank"


class Cause(StrEnum):
    LATE = "late"
    FAILED = "failed"
    PAUSED = "paused"


class Budget(Frozen):
    """Seconds of one user's answer; a request for n users has n times as long for what grows with them."""

    features: float = Field(gt=0)
    ranker: float = Field(gt=0)
    rerank: float = Field(gt=0)
    total: float = Field(gt=0)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            features=settings.budget_features_ms / 1000,
            ranker=settings.budget_ranker_ms / 1000,
            rerank=settings.budget_rerank_ms / 1000,
            total=settings.budget_total_ms / 1000,
        )


class LostError(Exception):
    """A part of the answer will not come. Never leaves the predictor."""

    def __init__(self, part: Part, cause: Cause) -> None:
        self.part, self.cause = part, cause
        super().__init__(f"{part.value} {cause.value}")


@dataclass(slots=True)
class Clock:
    """One request's time. deadline: of time.perf_counter; seconds: that each part took; lost: why a part is missing;
    rows: users asked about.
    """

    deadline: float = math.inf
    rows: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def timed(self, part: Part, begun: float) -> None:
        self.seconds[part.value] = time.perf_counter() - begun


class Graph(Protocol):
    """An onnxruntime.InferenceSession, as far as this uses it."""

    def run(self, names: Sequence[str], feed: Mapping[str, Any], *options: Any) -> Arrays: ...


class Guard:
    """One part for as long as the process lives. Thread-safe: a count that two threads miss costs one more try."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._limit = math.inf
        self._threads: ThreadPoolExecutor | None = None
        self._in_a_row = 0
        self._paused_until = 0.0
        self._turn = threading.Lock()

    def limit(self, seconds: float, threads: ThreadPoolExecutor) -> None:
        self._limit, self._threads = seconds, threads

    @property
    def seconds(self) -> float:
        return self._limit

    def run(self, clock: Clock, work: Callable[..., T], *arguments: Any, ends: bool = False) -> T:
        """ends: within the limit by itself; else it runs in another thread, left behind when late. Raises LostError."""
        begun, deadline = self._begin(clock)
        if self._threads is None or ends:
            return self._here(clock, begun, deadline, work, *arguments)
        future = self._threads.submit(work, *arguments)
        try:
            found = future.result(deadline - begun)
        except Exception as error:
            clock.timed(self.part, begun)
            if not future.done():
                future.cancel()
                raise self.miss(clock, Cause.LATE) from None
            raise self.miss(clock, Cause.FAILED, error) from error
        clock.timed(self.part, begun)
        self.hit()
        return found

    def ask(self, clock: Clock, graph: Graph, names: Sequence[str], feed: Mapping[str, Any]) -> Arrays:
        """A graph, in this thread. Raises LostError."""
        begun, deadline = self._begin(clock)
        if self._threads is None:
            return self._here(clock, begun, deadline, graph.run, names, feed)
        options = onnxruntime.RunOptions()
        WATCH.begin(options, deadline)
        try:
            found = graph.run(names, feed, options)
        except Exception as error:
            clock.timed(self.part, begun)
            if options.terminate:
                raise self.miss(clock, Cause.LATE) from None
            raise self.miss(clock, Cause.FAILED, error) from error
        finally:
            WATCH.end(options)
        clock.timed(self.part, begun)
        self.hit()
        return found

    def graph(self, clock: Clock, graph: Graph) -> "Bounded":
        return Bounded(self, clock, graph)

    def _begin(self, clock: Clock) -> tuple[float, float]:
        """(now, deadline). Raises LostError where the part is paused or no time is left for it."""
        begun = time.perf_counter()
        if self._threads is not None and self._in_a_row >= PATIENCE and not self._may_try(begun):
            raise self.miss(clock, Cause.PAUSED)
        limit = self._limit if self.part is Part.FEATURES else self._limit * clock.rows
        deadline = min(begun + limit, clock.deadline)
        if deadline <= begun:
            raise self.miss(clock, Cause.LATE)
        return begun, deadline

    def _here(self, clock: Clock, begun: float, deadline: float, work: Callable[..., T], *arguments: Any) -> T:
        try:
            found = work(*arguments)
        except Exception as error:
            cause = Cause.LATE if time.perf_counter() >= deadline else Cause.FAILED
            raise self.miss(clock, cause, error) from error
        finally:
            clock.timed(self.part, begun)
        self.hit()
        return found

    def miss(self, clock: Clock, cause: Cause, error: Exception | None = None) -> LostError:
        clock.lost[self.part.value] = cause.value
        if cause is not Cause.PAUSED:
            self._in_a_row += 1
            if self._in_a_row in {1, PATIENCE}:
                known = error is None or isinstance(error, SlipwayError)
                then = f"; paused for {PAUSE:.0f} s" if self._in_a_row == PATIENCE and self._threads else ""
                reason = f": {error}" if error else ""
                log.warning("answering without %s, which is %s%s%s", self.part, cause, reason, then, exc_info=not known)
            if self._in_a_row >= PATIENCE:
                self._paused_until = time.perf_counter() + PAUSE
        return LostError(self.part, cause)

    def hit(self) -> None:
        if self._in_a_row:
            log.info("%s is back", self.part)
            self._in_a_row = 0

    def _may_try(self, now: float) -> bool:
        """For one of those who ask, when the pause is over."""
        with self._turn:
            if now < self._paused_until:
                return False
            self._paused_until = now + PAUSE
            return True


@dataclass(slots=True)
class Bounded:
    """A graph within its part's time. run raises LostError."""

    guard: Guard
    clock: Clock
    graph: Graph

    def run(self, names: Sequence[str], feed: Mapping[str, Any]) -> Arrays:
        return self.guard.ask(self.clock, self.graph, names, feed)


class Watch:
    """Tells graphs that are late to end. It looks every TICK while there are any, and sleeps otherwise: to wake it for
    each request would cost more than to look.
    """

    def __init__(self) -> None:
        self._running: dict[int, tuple[float, onnxruntime.RunOptions]] = {}
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, options: onnxruntime.RunOptions, deadline: float) -> None:
        self._running[id(options)] = (deadline, options)
        if not self._awake.is_set():
            self._awake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
                self._thread.start()

    def end(self, options: onnxruntime.RunOptions) -> None:
        del self._running[id(options)]

    def _look(self) -> None:
        while True:
            self._awake.wait()
            idle = 0
            while idle < IDLE_TICKS:
                time.sleep(TICK)
                now = time.perf_counter()
                idle = 0 if self._running else idle + 1
                for deadline, options in list(self._running.values()):
                    if now >= deadline:
                        options.terminate = True
            self._awake.clear()
            if self._running:  # somebody came meanwhile, and saw it awake
                self._awake.set()


WATCH = Watch()


class Guards:
    """The parts that can be lost."""

    def __init__(self) -> None:
        self.features, self.ranker, self.rerank = (Guard(p) for p in (Part.FEATURES, Part.RANKER, Part.RERANK))
        self._total = math.inf

    def limit(self, budget: Budget) -> None:
        """From now on: what was asked before had no limits."""
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="part")
        for guard, seconds in (
            (self.features, budget.features),
            (self.ranker, budget.ranker),
            (self.rerank, budget.rerank),
        ):
            guard.limit(seconds, threads)
        self._total = budget.total

    def clock(self, rows: int) -> Clock:
        return Clock(time.perf_counter() + self._total * rows, rows)
