"""What production leaves behind: exposures, feedback, events and new films, as messages and as the lake's rows.

Knows ids and clocks; knows no endpoint, stream or table. A message is the JSON object that messages.py reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.messages import CATALOGUE, EXPOSURES, FEEDBACK
from slipway.workloads.movies.simulator.crowd import Acts
from slipway.workloads.movies.simulator.logged import Logged
from slipway.workloads.movies.simulator.season import NewFilm
from slipway.workloads.movies.simulator.visits import Times

Message = dict[str, Any]
OFFLINE = {"model": "popularity+exploration", "package": "offline", "revision": "offline"}


@dataclass(frozen=True)
class Clock:
    """The world's seconds since production began → ms since 1970, UTC. origin: ms; speed: world seconds per second
    of the stamps' clock, 1 where these tell the world's own time.
    """

    origin: int
    speed: float = 1.0

    def ms(self, time: float) -> int:
        return self.origin + int(time * 1000 / self.speed)

    def stamps(self, time: Times) -> pl.Series:
        ms = self.origin + (time * 1000 / self.speed).astype(np.int64)
        return pl.Series("timestamp", ms).cast(EXPOSURES["timestamp"])


@dataclass(frozen=True)
class Records:
    """run: begins every id, so that two runs never say different things by one id."""

    run: str
    clock: Clock

    def request_id(self, page: int) -> str:
        return f"{self.run}-{page}"

    def act(self, page: int, user: int, item: int, time: float, rating: int, position: int) -> Message:
        """An event, or feedback where the film stood in the list."""
        message: Message = {
            "event_id": f"{self.run}-{page}-{position}{'r' if rating else ''}",
            "user": user,
            "item": item,
            "timestamp": self.clock.ms(time),
            "action": "rating" if rating else "click",
            "rating": float(rating) if rating else None,
        }
        if position:
            message["request_id"] = self.request_id(page)
        return message

    def film(self, film: NewFilm) -> Message:
        return {
            "item": film.item,
            "title": film.title,
            "genres": list(film.genres),
            "year": film.year,
            "released": self.clock.ms(film.released),
        }

    def films(self, films: Sequence[NewFilm]) -> pl.DataFrame:
        """CATALOGUE rows."""
        rows = pl.DataFrame(
            [self.film(film) for film in films], schema={**CATALOGUE, "released": pl.Int64()}, orient="row"
        )
        return rows.cast(CATALOGUE)

    def exposures(self, logged: Logged) -> pl.DataFrame:
        """EXPOSURES rows; what a server alone can tell is null, as nothing was served."""
        Q, k = logged.shown.items.shape
        stamps = self.clock.stamps(logged.pages.time)
        source = np.where(logged.shown.explored, "exploration", "popularity")
        lists = {name: _lists(values) for name, values in (
            ("items", logged.shown.items), ("scores", logged.shown.scores),
            ("propensities", logged.shown.propensities),
        )}  # fmt: skip
        rows = pl.DataFrame(
            {
                "request_id": pl.Series(logged.pages.number),
                "user": logged.pages.person + 1,
                "timestamp": stamps,
                "sources": pl.Series(np.repeat(source, k)).reshape((Q, k)).arr.to_list(),
                **lists,
            }
        )
        constants = [pl.lit(value).alias(name) for name, value in OFFLINE.items()]
        there = {*rows.columns, *OFFLINE, "date"}
        nothing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in EXPOSURES.items() if name not in there]
        rows = rows.with_columns(
            pl.format("{}-{}", pl.lit(self.run), "request_id").alias("request_id"),
            pl.col("timestamp").dt.date().alias("date"),
            *constants,
            *nothing,
        )
        return rows.select(EXPOSURES.names()).cast(EXPOSURES)

    def events(self, logged: Logged) -> pl.DataFrame:
        """LAKE_EVENTS rows in time's order: feedback, which has a request id, and what was found otherwise."""
        acts: Acts = logged.acts.take(np.argsort(logged.acts.time, kind="stable"))
        request = pl.format("{}-{}", pl.lit(self.run), "page")
        rated = pl.col("rating") > 0
        rows = pl.DataFrame(
            {
                "page": logged.pages.number[acts.page],
                "position": acts.position,
                "user": logged.pages.person[acts.page] + 1,
                "item": acts.item,
                "timestamp": self.clock.stamps(acts.time),
                "rating": acts.rating,
            }
        ).with_columns(
            pl.when(rated).then(pl.lit("rating")).otherwise(pl.lit("click")).alias("action"),
            pl.when(rated).then("rating").alias("rating"),
            pl.format("{}-{}{}", request, "position", pl.when(rated).then(pl.lit("r")).otherwise(pl.lit(""))).alias(
                "event_id"
            ),
            pl.when(pl.col("position") > 0).then(request).alias("request_id"),
            pl.lit(None, dtype=pl.Int64).alias("source_row"),
            pl.col("timestamp").dt.date().alias("date"),
        )
        return rows.select(LAKE_EVENTS.names()).cast(LAKE_EVENTS)


def feedback(events: pl.DataFrame) -> pl.DataFrame:
    """FEEDBACK rows among LAKE_EVENTS rows."""
    return events.filter(pl.col("request_id").is_not_null()).select(FEEDBACK.names())


def messages(rows: pl.DataFrame, optional: Sequence[str] = ()) -> list[Message]:
    """The lake's rows as the stream's messages; `optional` fields are left out where they are null."""
    plain = rows.drop("date", "source_row", strict=False).with_columns(
        pl.col(name).dt.epoch("ms") for name in ("timestamp", "released") if name in rows.columns
    )
    said = plain.to_dicts()
    for message in said:
        for name in optional:
            if message[name] is None:
                del message[name]
    return said


def _lists(values: np.ndarray[Any, Any]) -> pl.Series:
    return pl.Series(values.ravel()).reshape(values.shape).arr.to_list()
