"""The course of one load test: who is next, how many people are needed, what was recorded. Knows no HTTP, no locust.

The arrivals are open: a visit is due when it is due, whoever is still waiting. Where nobody is free to play it, it
begins late, and its latency counts from when it was due.
"""

import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

from load_tests.movies import Kind, Visit
from load_tests.records import Records, Row
from load_tests.slo import MOST_PEOPLE, Load

LEAD = 1.5  # s before the first visit, in which the first people are made
AHEAD = 2.5  # s: people are made once a second, and have to be there when their visit is due
SPARE = 8
NAN = float("nan")


@dataclass
class Play:
    """One process's view of a load test. Times are seconds since the load began."""

    load: Load
    visits: list[Visit]
    began: float | None = None  # by time.perf_counter
    playing: int = 0  # visits that somebody plays now
    most: int = 0  # visits that were open at once
    asked: int = 0
    _taken: int = 0
    _people: int = 0
    _rows: list[Row] = field(default_factory=list)
    _recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=2_000))

    def __post_init__(self) -> None:
        self._starts = [visit.start for visit in self.visits]
        self._ends = sorted(visit.times[-1] for visit in self.visits)

    def begin(self) -> None:
        self.began = time.perf_counter() + LEAD

    @property
    def now(self) -> float:
        return -LEAD if self.began is None else time.perf_counter() - self.began

    @property
    def total(self) -> int:
        return sum(len(visit.times) for visit in self.visits)

    def open(self, at: float) -> int:
        """Visits that are meant to be under way."""
        return bisect_right(self._starts, at) - bisect_right(self._ends, at)

    @property
    def people(self) -> int:
        """To have now: never fewer than before, because who is taken away takes an answer with them."""
        now = self.now
        late = bisect_right(self._starts, now) - self._taken  # due, and nobody was free
        need = max(self.open(now), self.open(now + AHEAD)) + self._coming(now)
        need += max(late, 0) + SPARE
        self._people = min(max(self._people, need, self.playing + max(late, 0)), MOST_PEOPLE)
        return self._people

    def _coming(self, now: float) -> int:
        return bisect_right(self._starts, now + AHEAD) - bisect_right(self._starts, now)

    def next(self) -> Visit | None:
        if self._taken == len(self.visits):
            return None
        self._taken += 1
        return self.visits[self._taken - 1]

    def enter(self) -> None:
        self.playing += 1
        self.most = max(self.most, self.playing)

    def leave(self) -> None:
        self.playing -= 1

    @property
    def over(self) -> bool:
        """Everything was played, or what is left has had its time."""
        played = self._taken == len(self.visits) and not self.playing
        return self.now > self.load.duration and (played or self.now > self.load.duration + self.load.timeout + 1)

    def record(
        self,
        due: float,
        sent: float,
        done: float,
        waited: bool,
        kind: Kind,
        status: int = 0,
        reason: str = "",
        fallback: str = "",
        degraded: bool = False,
        version: str = "",
    ) -> None:
        self.asked += 1
        self._rows.append((due, sent, done, waited, kind.value, status, reason, fallback, degraded, version))
        self._recent.append(((done - due) * 1000, not reason))

    def recent(self) -> dict[str, float]:
        """Of the last requests, for a progress line."""
        if not self._recent:
            return {}
        sorted_ms = sorted(ms for ms, _ in self._recent)
        errors = sum(not good for _, good in self._recent) / len(self._recent)
        return {"requests": float(self.asked), "p99_ms": sorted_ms[int(0.99 * (len(sorted_ms) - 1))], "errors": errors}

    def records(self, ended: float) -> Records:
        """With a row for each request that was due before `ended` and was never sent or never answered."""
        seen = {(row[0], row[4]) for row in self._rows}
        lost: list[Row] = [
            (due, NAN, max(ended, due + self.load.timeout), True, visit.kind.value, 0, "never sent", "", False, "")
            for visit in self.visits
            for due in visit.times
            if due <= ended and (due, visit.kind.value) not in seen
        ]
        return Records.of(self._rows + lost)
