"""Who comes when, and for how many pages: an open-loop arrival process. Knows no films and no answers.

Visits arrive as a Poisson process whose intensity follows the hour and the weekday, whatever the endpoint does
(Schroeder et al. 2006, "Open versus closed: a cautionary tale": this is their partly-open system). Everything random
that a person will need on a page is drawn here, by address, so the same configuration acts alike in any order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.people import HOURS
from slipway.workloads.movies.simulator.streams import Stream, production
from slipway.workloads.movies.simulator.traffic import (
    LONGEST_VISIT,
    NIGHT,
    PAUSE,
    RATES_AFTER,
    THINK,
    WEEKDAYS,
    TrafficConfig,
    origin,
)
from slipway.workloads.movies.simulator.world import TASTE_DIMS, Floats

_HOUR = 3_600.0
_TRIES = 16  # somebody who is here already is not drawn; the next one is

Times = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pages:
    """Q pages in time's order; a page is one look at k recommendations.

    number: (Q,) of all pages, from 0; person: (Q,) row of the crowd; visit: (Q,) number of the visit
    time:   (Q,) s since production began; first: (Q,) a visit begins, shock: (Q, TASTE_DIMS) then moves the taste
    click, rates: (Q, k) uniform; mood: (Q, k) N(0, 0.75²) of a rating; delay: (Q, k) s from click to rating
    find:   (Q, 4) uniform: whether, which shelf, which film, whether rated; found: (Q, 2) mood and delay of it
    """

    number: Rows
    person: Rows
    visit: Rows
    time: Times
    first: npt.NDArray[np.bool_]
    shock: Floats
    click: Floats
    rates: Floats
    mood: Floats
    delay: Floats
    find: Floats
    found: Floats

    def __len__(self) -> int:
        return len(self.number)

    def take(self, which: Rows | slice) -> Self:
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def shape(hours: Times) -> Times:
    """Relative intensity, mean 1 over a week, at hours since 1970 (UTC)."""
    hour, day = np.floor(hours).astype(np.int64) % 24, np.floor(hours / 24).astype(np.int64)
    daily = NIGHT + (1 - NIGHT) * HOURS * (24 / HOURS.sum())
    relative: Times = daily[hour] * WEEKDAYS[(day + 3) % 7]  # 1970-01-01 was a Thursday
    return relative


@dataclass
class Visits:
    """people: rows that can come, the newcomers behind the others; pace: (people,) mean days between their visits."""

    config: SimulatorConfig
    traffic: TrafficConfig
    pace: Floats

    def __post_init__(self) -> None:
        self._activity = 1 / self.pace.astype(np.float64)
        self._busy = np.full(len(self.pace), -np.inf)
        self._joined = self.traffic.users
        self._pages = self._visits = 0
        begin = origin(self.config, self.traffic) / 1000
        self._hour = begin / _HOUR
        hours = self.hours
        weights = shape(self._hour + np.arange(hours, dtype=np.float64)) * np.minimum(
            _HOUR, self.traffic.span - _HOUR * np.arange(hours)
        )
        per_second = self.traffic.visits_per_second()
        # The mean over the span is what was asked for, whichever hours it covers.
        self._intensity = float(per_second * self.traffic.span / weights.sum())

    @property
    def hours(self) -> int:
        return math.ceil(self.traffic.span / _HOUR)

    def intended(self, time: float) -> float:
        """Requests per s of the world's time that the process is meant to bring at this time."""
        at = np.array([self._hour + math.floor(time / _HOUR)])
        return float(shape(at)[0]) * self._intensity * self.traffic.pages_in_a_visit

    def __iter__(self) -> Iterator[Pages]:
        """Hour by hour, pages of the visits that begin in it. Before the first comes what had begun already."""
        for hour in range(-1, self.hours):
            yield self._block(hour)

    def _block(self, hour: int) -> Pages:
        rng = production(self.config.seed, self.traffic.seed, Stream.VISITS, hour + 1)
        mean = float(shape(np.array([self._hour + max(hour, 0)]))[0]) * self._intensity * _HOUR
        times = np.sort(rng.random(rng.poisson(mean)) + hour) * _HOUR
        V = len(times)
        length = np.minimum(rng.geometric(1 / self.traffic.pages, V), LONGEST_VISIT)
        median, sigma, shortest, longest = THINK
        think = np.clip(median * np.exp(sigma * rng.normal(size=(V, LONGEST_VISIT))), shortest, longest)
        think[:, 0] = 0
        after = np.cumsum(think, axis=1)
        person = self._people(times, times + after[np.arange(V), length - 1], rng)
        shocks = rng.normal(size=(V, TASTE_DIMS))

        there = (np.arange(LONGEST_VISIT) < length[:, None]) & (person >= 0)[:, None]
        when = times[:, None] + after
        there &= (when >= 0) & (when < self.traffic.span)
        visit, page = np.nonzero(there)
        order = np.argsort(when[visit, page], kind="stable")
        visit, page = visit[order], page[order]
        first = page == np.argmax(there, axis=1)[visit]  # of a visit begun before the beginning: what is left of it
        number, visits = self._pages + np.arange(len(visit)), self._visits + visit
        self._pages, self._visits = self._pages + len(visit), self._visits + V
        Q, k = len(visit), self.traffic.k
        draw = production(self.config.seed, self.traffic.seed, Stream.PAGES, hour + 1)
        single = np.float32
        return Pages(
            number=number,
            person=person[visit],
            visit=visits,
            time=when[visit, page],
            first=first,
            shock=shocks[visit].astype(single),
            click=draw.random((Q, k), dtype=single),
            rates=draw.random((Q, k), dtype=single),
            mood=draw.normal(0, 0.75, (Q, k)).astype(single),
            delay=_delays(draw, (Q, k)),
            find=draw.random((Q, 4), dtype=single),
            found=np.column_stack([draw.normal(0, 0.75, Q), _delays(draw, (Q,))]).astype(single),
        )

    def _people(self, begin: Times, end: Times, rng: np.random.Generator) -> Rows:
        """(V,) who comes: somebody new, or one of the others by their pace; -1 where all who were drawn are here."""
        V = len(begin)
        new = rng.random(V) < self.traffic.newcomers
        pool = np.cumsum(self._activity[: self._joined])
        drawn = np.searchsorted(pool, rng.random((V, _TRIES)) * pool[-1], side="right").clip(max=self._joined - 1)
        person = np.full(V, -1, dtype=np.int64)
        busy = self._busy
        for v in range(V):
            if new[v] and self._joined < len(self.pace):
                row = self._joined
                self._joined += 1
            else:
                row = next((r for r in drawn[v].tolist() if busy[r] <= begin[v]), -1)
                if row < 0:
                    continue
            person[v] = row
            busy[row] = end[v] + PAUSE
        return person


def _delays(rng: np.random.Generator, size: tuple[int, ...]) -> Floats:
    median, sigma = RATES_AFTER
    delays: Floats = (median * np.exp(sigma * rng.normal(size=size))).astype(np.float32)
    return delays


def capacity(traffic: TrafficConfig) -> int:
    """People to make room for: those at the beginning, and as many newcomers as will surely do."""
    expected = traffic.visits_per_second() * (traffic.span + _HOUR * 4) * traffic.newcomers
    return traffic.users + math.ceil(expected + 6 * math.sqrt(expected) + 4 * (traffic.newcomers > 0))
