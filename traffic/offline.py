"""Weeks of production history in seconds: no endpoint, a stated logging policy, its true propensities.

To the lake's tables, or as messages to the stream. Knows both only as places that take rows.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import polars as pl

from slipway.lake.lake import Lake
from slipway.workload import Progress
from slipway.workloads.movies.messages import CATALOGUE
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.files import catalogue
from slipway.workloads.movies.simulator.logged import log
from slipway.workloads.movies.simulator.people import DAY, START
from slipway.workloads.movies.simulator.policy import Popularity
from slipway.workloads.movies.simulator.traffic import origin
from slipway.workloads.movies.simulator.world import WEEK, World
from traffic.outbox import Publish
from traffic.records import Clock, Records, feedback, messages
from traffic.tally import Clicks

DAYS_AT_ONCE = 7  # in one commit


class Place(Protocol):
    """Takes what happened: all films once, and then exposures and events, some days at a time."""

    def films(self, rows: pl.DataFrame) -> None: ...

    def days(self, number: int, exposures: pl.DataFrame, events: pl.DataFrame, /) -> None: ...


@dataclass
class Filled:
    """What was written: messages by topic; what the policy showed at its best, and what it explored."""

    days: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    greedy: Clicks = field(default_factory=Clicks)
    explored: Clicks = field(default_factory=Clicks)

    @property
    def total(self) -> int:
        return sum(self.messages.values())


def run_of(crowd: Crowd, policy: Popularity) -> str:
    """Names the history by all that it follows from: written twice, it is the same rows with the same ids."""
    text = f"{crowd.config.model_dump_json()} {crowd.traffic.model_dump_json()} {policy.epsilon} {policy.pool}"
    return f"offline-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def fill(crowd: Crowd, policy: Popularity, place: Place, progress: Progress) -> Filled:
    """Live the crowd's whole span through, and hand over what comes of it."""
    records = Records(run_of(crowd, policy), Clock(origin(crowd.config, crowd.traffic)))
    filled = Filled()
    films = pl.concat([world_films(crowd), records.films(crowd.season.films)])
    place.films(films)
    filled.messages["items"] = films.height
    exposures: list[pl.DataFrame] = []
    events: list[pl.DataFrame] = []
    total = -(-crowd.traffic.span // DAY)

    def hand_over() -> None:
        shown, done = pl.concat(exposures), pl.concat(events)
        place.days((filled.days - 1) // DAYS_AT_ONCE, shown, done)
        answers = done["request_id"].count()
        for kind, count in (("exposures", shown.height), ("feedback", answers), ("events", done.height - answers)):
            filled.messages[kind] = filled.messages.get(kind, 0) + count
        exposures.clear()
        events.clear()

    for logged in log(crowd, policy):
        exposures.append(records.exposures(logged))
        events.append(records.events(logged))
        filled.days += 1
        clicks = logged.acts.page[(logged.acts.rating == 0) & (logged.acts.position > 0)]
        of_explored = int(logged.shown.explored[clicks].sum())
        tries, k = int(logged.shown.explored.sum()), crowd.traffic.k
        for part, requests, clicked in (
            (filled.explored, tries, of_explored),
            (filled.greedy, len(logged.pages) - tries, len(clicks) - of_explored),
        ):
            part.requests += requests
            part.impressions += requests * k
            part.clicks += clicked
        if filled.days % DAYS_AT_ONCE == 0:
            hand_over()
        progress("fill", filled.days / total, {"messages": filled.total})
    if exposures:
        hand_over()
    progress("fill", 1.0, {"messages": filled.total})
    return filled


@dataclass
class LakePlace:
    """logs/exposures, logs/feedback, processed/events and processed/items of a data set.

    Written again, nothing is there twice: each commit carries the run's name and a number.
    """

    lake: Lake
    data_set: str
    run: str
    skipped: int = 0  # commits that were there already

    def films(self, rows: pl.DataFrame) -> None:
        """Those that the lake does not have yet are added."""
        table = self.lake.table("processed", self.data_set, "items")
        former = table.scan(schema=CATALOGUE).collect() if table.exists() else CATALOGUE.to_frame()
        added = rows.join(former, on="item", how="anti")
        if added.height:
            table.replace(pl.concat([former, added]).sort("item"))

    def days(self, number: int, exposures: pl.DataFrame, events: pl.DataFrame) -> None:
        for area, name, rows in (
            ("logs", "exposures", exposures),
            ("logs", "feedback", feedback(events)),
            ("processed", "events", events),
        ):
            table = self.lake.table(area, self.data_set, name)  # type: ignore[arg-type]
            table.widen(rows.schema)  # where it was begun before there was a column
            if rows.height and not table.append(rows, partition_by=["date"], writer=(f"simulate {self.run}", number)):
                self.skipped += 1


@dataclass
class StreamPlace:
    """The topics of a data set, in time's order within each: what a consumer would have seen."""

    publish: Publish
    batch: int = 2_000

    def films(self, rows: pl.DataFrame) -> None:
        self._send("items", messages(rows))

    def days(self, _number: int, exposures: pl.DataFrame, events: pl.DataFrame) -> None:
        self._send("exposures", messages(exposures))
        self._send("feedback", messages(feedback(events)))
        self._send("events", messages(events.filter(pl.col("request_id").is_null()).drop("request_id")))

    def _send(self, kind: Any, said: Sequence[Mapping[str, Any]]) -> None:
        for batch in _batches(said, self.batch):
            self.publish(kind, batch)


def _batches(said: Sequence[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    for first in range(0, len(said), size):
        yield said[first : first + size]


def world_films(crowd: Crowd) -> pl.DataFrame:
    """CATALOGUE rows of the films that the data set has."""
    world = World.build(crowd.config)
    weeks = world.release[world.shelf[1:], world.place[1:]]
    rows = [
        (film, title, genres, year, datetime.fromtimestamp(START + int(week) * WEEK * DAY, UTC) if week else None)
        for (film, title, genres, year), week in zip(catalogue(world, crowd.config), weeks, strict=True)
    ]
    return pl.DataFrame(rows, schema=CATALOGUE, orient="row")
