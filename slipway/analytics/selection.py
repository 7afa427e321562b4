"""Which events a question is about: dates, actions, one segment of the users. Knows no files and no page."""

from dataclasses import dataclass
from datetime import date

import polars as pl

SEGMENTS = ("gender", "age", "occupation")


@dataclass(frozen=True)
class Selection:
    """start, end: UTC days, both included, None = open. actions: () = all. segment: (attribute of USERS, value)."""

    start: date | None = None
    end: date | None = None
    actions: tuple[str, ...] = ()
    segment: tuple[str, str] | None = None

    def dates(self, rows: pl.LazyFrame, column: str = "date") -> pl.LazyFrame:
        """Only the days; where `column` is the partition, the other partitions are never opened."""
        if self.start is not None:
            rows = rows.filter(pl.col(column) >= self.start)
        if self.end is not None:
            rows = rows.filter(pl.col(column) <= self.end)
        return rows

    def users(self, rows: pl.LazyFrame, users: pl.LazyFrame | None) -> pl.LazyFrame:
        """Only the rows of users in the segment. rows, users: have a column user."""
        if self.segment is None:
            return rows
        if users is None:
            return rows.filter(pl.lit(False))
        attribute, value = self.segment
        chosen = users.filter(pl.col(attribute).cast(pl.String) == value).select("user")
        return rows.join(chosen, on="user", how="semi")

    def apply(self, events: pl.LazyFrame, users: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """events: columns date, action, user. users: USERS; without them a segment selects nothing."""
        rows = self.dates(events)
        if self.actions:
            rows = rows.filter(pl.col("action").cast(pl.String).is_in(self.actions))
        return self.users(rows, users)


def segments(users: pl.LazyFrame) -> list[tuple[str, str]]:
    """Every (attribute, value) that the users have, attributes in a fixed order, values sorted as people read them."""
    counted = [
        users.select(
            pl.lit(attribute).alias("attribute"),
            pl.col(attribute).cast(pl.String).alias("value"),
            pl.col(attribute).cast(pl.Int64, strict=False).alias("number"),
        ).unique()
        for attribute in SEGMENTS
    ]
    rows = pl.concat(pl.collect_all(counted)).drop_nulls("value")
    order = {attribute: place for place, attribute in enumerate(SEGMENTS)}
    found = sorted(rows.iter_rows(), key=lambda row: (order[row[0]], row[2] is None, row[2] or 0, row[1]))
    return [(attribute, value) for attribute, value, _ in found]
