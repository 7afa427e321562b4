"""People, their visits and their luck: drawn once, and the same for every arm. Knows no arm and no metric.

Common random numbers: who comes when, what they would click at which position and what they find by themselves are
drawn by address from the seed, so two arms differ by what they show and by nothing else.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field

from slipway.errors import SourceError
from slipway.package import Frozen
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.simulator.config import SimulatorConfig
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.files import ORACLE, OracleFile
from slipway.workloads.movies.simulator.people import DAY
from slipway.workloads.movies.simulator.traffic import TrafficConfig, origin
from slipway.workloads.movies.simulator.visits import Pages, Visits

MOST_PEOPLE = 5_000  # a larger world's first ones: their minds are kept in memory, once for each arm
STRANGER = 1 << 40  # ids of newcomers begin here, so that no package takes them for somebody it knows
_POPULARITY_SPREAD = 1.6  # of a film's log popularity, in the simulator


class Setting(Frozen):
    """What is assumed of people; the defaults are the simulator's own, the others say how much hangs on that."""

    position_bias: float | None = Field(
        None, ge=0, description="position p is looked at with p^-bias; null: the world's"
    )
    popular: float = Field(0.0, ge=-3, le=3, description="log odds of a click per standard deviation of log popularity")
    taste: float = Field(0.0, ge=0, le=1, description="every taste moves so far to another person's: models are stale")


class Span(Frozen):
    """How long and how many; k: films in the row."""

    days: int = Field(14, ge=1, le=365)
    visits: int = Field(9_000, ge=10, description="on average; each opens the home page once")
    k: int = Field(10, ge=1, le=100)
    seed: int = Field(1, ge=0, lt=2**63)


@dataclass(frozen=True, eq=False)
class Market:
    """whole: the data set that the models know; setting, span: as asked for."""

    config: SimulatorConfig
    whole: Interactions
    setting: Setting
    span: Span

    @classmethod
    def open(cls, data: Path, whole: Interactions, setting: Setting, span: Span) -> Self:
        """Raises SourceError unless the folder is simulated and holds just the past of these people."""
        path = data / ORACLE
        try:
            config = OracleFile.model_validate_json(path.read_bytes()).config
        except (OSError, ValueError) as error:
            raise SourceError(
                f"this data set has no {ORACLE} that can be read",
                "only simulated people can be asked what they would do",
            ) from error
        market = cls(config, whole, setting, span)
        market._check()
        return market

    @cached_property
    def traffic(self) -> TrafficConfig:
        world = self.config
        releases = world.new_share * world.items / world.days * self.span.days  # as often as before
        return TrafficConfig(
            users=min(world.users, MOST_PEOPLE),
            seed=self.span.seed,
            begin=0,
            span=self.span.days * DAY,
            rate=self.span.visits / (self.span.days * DAY),
            k=self.span.k,
            pages=1,
            releases=round(releases),
            drifts=(Drift(kind="taste", value=self.setting.taste),) if self.setting.taste else (),
        )

    @property
    def begin(self) -> int:
        """ms since 1970 UTC."""
        return origin(self.config, self.traffic)

    def crowd(self) -> Crowd:
        """These people at the beginning; each arm gets its own, and changes it."""
        return copy.deepcopy(self._crowd)

    def user_ids(self, rows: IntArray) -> IntArray:
        """(r,) as a service knows them: the data set's ids, and ids of nobody for newcomers."""
        ids: IntArray = np.where(rows < self.traffic.users, rows + 1, STRANGER + rows)
        return ids

    def days(self) -> Iterator[Pages]:
        """The visits of each day in time's order; a visit belongs to the day in which it begins."""
        yield from self._days

    @cached_property
    def _days(self) -> tuple[Pages, ...]:
        blocks = iter(Visits(self.config, self.traffic, self._crowd.pace))
        next(blocks)  # what had begun before the beginning has no first page here
        found = []
        for _ in range(self.span.days):
            pages = Pages.join([next(blocks) for _ in range(24)])
            found.append(pages.take(np.argsort(pages.time, kind="stable")))
        return tuple(found)

    @cached_property
    def _crowd(self) -> Crowd:
        crowd = Crowd.gather(self.config, self.traffic)
        season, setting = crowd.season, self.setting
        if setting.position_bias is not None:
            ranks = np.arange(1, self.span.k + 1, dtype=np.float64)
            season = replace(season, position=ranks**-setting.position_bias)
        if setting.popular:
            liked = season.world.quality + np.float32(setting.popular / _POPULARITY_SPREAD) * season.world.popularity
            season = replace(season, world=replace(season.world, quality=liked))
        crowd.season = season
        return crowd

    def _check(self) -> None:
        """Every person's past is as long as the world tells it."""
        if self.whole.times is None:
            raise SourceError("these interactions have no times", "use the simulator's ratings.dat as it was written")
        ids = self.whole.user_ids
        people = self.traffic.users
        known = np.zeros(people, dtype=np.int64)
        inside = (ids >= 1) & (ids <= people)
        known[ids[inside] - 1] = self.whole.lengths[inside]
        if len(ids) > self.config.users or (known != self._crowd.history[:people]).any():
            raise SourceError(
                "these interactions are not the past of the people that oracle.json describes",
                "use a data set of simulated files as they were written, without what came in since",
            )
