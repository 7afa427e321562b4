"""item_statistics, day by day. Knows counts per item and day, no table.

A row is stamped with the midnight that ends its day: who asks during the day sees the day before.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from slipway.workloads.movies.features.genres import IntArray
from slipway.workloads.movies.features.views import DAY_MS, EVENT, LONG, SHORT


@dataclass(frozen=True)
class Tally:
    """What must be known of the days before: counts per item and day of the last LONG - 1, and all ratings so far.

    recent: item, day (since 1970), events; rated: item, ratings (count), thousandths (sum).
    """

    recent: pl.DataFrame
    rated: pl.DataFrame

    @classmethod
    def of(cls, recent: pl.DataFrame, all_before: pl.LazyFrame) -> Self:
        """Both: item, timestamp, rating; recent: the LONG - 1 days before, all_before: everything before."""
        return cls(counts(recent).select("item", "day", "events"), ratings(all_before).collect(engine="streaming"))


def counts(events: pl.DataFrame) -> pl.DataFrame:
    day = (pl.col("timestamp").dt.epoch("ms") // DAY_MS).alias("day")
    return events.group_by("item", day).agg(pl.len().cast(pl.Int64).alias("events"))


def ratings(events: pl.LazyFrame) -> pl.LazyFrame:
    thousandths = (pl.col("rating").cast(pl.Float64) * 1000).round(mode="half_to_even").cast(pl.Int64)
    return (
        events.filter(pl.col("rating").is_not_null())
        .group_by("item")
        .agg(pl.len().cast(pl.Int64).alias("ratings"), thousandths.sum().alias("thousandths"))
    )


def days(events: pl.DataFrame, before: Tally, first: int, last: int) -> tuple[pl.DataFrame, Tally]:
    """Rows of item_statistics for the days first..last, and the tally after them.

    events: item, timestamp, rating of those days. A row for each item with an event in the LONG days up to that day.
    """
    known = pl.concat([before.recent, counts(events)])
    items = np.unique(known["item"].to_numpy())
    origin, width = (
        first - LONG,
        last - first + LONG + 1,
    )  # column 0 is empty, so that a difference needs no special case
    table = np.zeros((len(items), width), dtype=np.int64)
    table[np.searchsorted(items, known["item"].to_numpy()), known["day"].to_numpy() - origin] = known[
        "events"
    ].to_numpy()
    running = np.cumsum(table, axis=1)
    found = []
    rated = before.rated
    day_of = pl.col("timestamp").dt.epoch("ms") // DAY_MS
    by_day = events.with_columns(day_of.alias("day")).partition_by("day", as_dict=True)
    for day in range(first, last + 1):
        column = day - origin
        if (today := by_day.get((day,))) is not None:
            rated = _sum(rated, ratings(today.lazy()).collect())
        month = running[:, column] - running[:, column - LONG]
        alive = np.flatnonzero(month)
        week = running[alive, column] - running[alive, column - SHORT]
        found.append(_rows(items[alive], week, month[alive], rated, day))
    recent = known.filter(pl.col("day") > last - LONG + 1)
    return pl.concat(found), Tally(recent, rated)


def _rows(items: IntArray, week: IntArray, month: IntArray, rated: pl.DataFrame, day: int) -> pl.DataFrame:
    rank = np.searchsorted(np.sort(-month), -month) + 1
    mean = (pl.col("thousandths") / 1000 / pl.col("ratings")).cast(pl.Float32).alias("mean_rating")
    stamp = pl.lit((day + 1) * DAY_MS).cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us").alias(EVENT)
    rows = pl.DataFrame({"item": items, "events_7d": week, "events_28d": month, "popularity_rank": rank})
    return rows.join(rated, on="item", how="left", maintain_order="left").select(
        "item", "events_7d", "events_28d", mean, "popularity_rank", stamp
    )


def _sum(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([one, other]).group_by("item").agg(pl.col("ratings", "thousandths").sum())
