"""The knobs of simulated production: who comes how often, how they look at a list, what changes. Knows no arrays.

The world goes on after its last day; times are seconds since production began, in the world's own time.
See docs/simulator.md for the equations.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from slipway.errors import ConfigError
from slipway.package import Frozen
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.people import DAY, START

LONGEST_VISIT = 20  # pages
NIGHT = 0.05  # share of the visits that come at any hour; the others as the world's sessions do
WEEKDAYS = np.array([0.90, 0.90, 0.92, 0.96, 1.12, 1.20, 1.00])  # Monday first; mean 1
THINK = (30.0, 0.6, 20.0, 600.0)  # between two pages: median s, sigma of its log, shortest, longest
PAUSE = 300.0  # s between two visits of a person, at least
LOOK = (2.0, 1.5)  # s before the first position is clicked, and more for each position
RATES_AFTER = (300.0, 1.5)  # s from a click to its rating: median, sigma of its log. One in 19 takes over an hour
SATED = 0.8  # share of the catalogue that a person has seen before nothing interests them any more
BASE, SLOPE = -1.6, 0.6  # of the log odds of a click, see Crowd.relevance


class TrafficConfig(Frozen):
    """One stretch of production; equal configurations, asked the same way, act alike."""

    users: int = Field(2_500, ge=1, le=1_000_000, description="people at the beginning; those over the world's are new")
    seed: int = Field(1, ge=0, lt=2**63)
    begin: float = Field(0.75, ge=0, le=3_650, description="days from the world's end; 0 is midnight, 0.75 six o'clock")
    span: float = Field(5 * 3_600, gt=0, le=3_650 * DAY, description="s of the world's time")
    rate: float = Field(1.0, gt=0, description="mean requests per s of the world's time")
    k: int = Field(10, ge=1, le=100, description="recommendations on a page")
    pages: float = Field(3.0, ge=1, le=10, description="mean requests in a visit, before the longest is cut off")
    newcomers: float = Field(0.03, ge=0, le=0.5, description="share of the visits that are somebody's first")
    releases: int = Field(5, ge=0, le=1_000, description="films that come out, evenly over the span")
    organic: float = Field(0.3, ge=0, le=1, description="chance of a film found by search or browsing after a page")
    rated: float = Field(0.25, ge=0, le=1, description="chance that a clicked film is rated")
    drifts: tuple[Drift, ...] = Field((), description="`at` in s of the world's time")

    @model_validator(mode="after")
    def _drifts_within(self) -> Self:
        for drift in self.drifts:
            if drift.at > self.span:
                raise ValueError(f"{drift} comes after the end")
        return self

    @property
    def pages_in_a_visit(self) -> float:
        """Mean of the geometric length, cut at LONGEST_VISIT."""
        stay = 1 - 1 / self.pages
        return float((stay ** np.arange(LONGEST_VISIT)).sum())

    def visits_per_second(self) -> float:
        """Raises ConfigError when so few people cannot come so often: half of them would be here all the time."""
        visits = self.rate / self.pages_in_a_visit
        busy = visits * (PAUSE + (self.pages_in_a_visit - 1) * THINK[0] * 1.2)
        if busy > self.users / 2:
            raise ConfigError(
                f"{self.users:,} people cannot ask {self.rate:,.3g} times per second of their own time: "
                f"{busy:,.0f} of them would be here, or have just left",
                "let more people come (--users), ask less (--rate), or let their time run faster (--speed)",
            )
        return visits


def origin(config: SimulatorConfig, traffic: TrafficConfig) -> int:
    """ms since 1970, UTC, at which production begins in the world's calendar."""
    return int((START + (config.days + traffic.begin) * DAY) * 1000)
