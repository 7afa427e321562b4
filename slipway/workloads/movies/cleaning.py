"""What an event cannot be: one definition for files and for the stream. Knows values, no format and no transport.

    cleaned = clean(rows, Rules(scale=Scale(0.5, 5), earliest=SINCE, latest=now + skew, items=known))

`rows` has an event's columns with their types (user, item and a time as Int64, rating as a float); what a text must
look like to become such a row is the business of `sources/` (files) and of `messages.py` (the stream).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from slipway.workloads.movies.interactions import IntArray


class Reason(StrEnum):
    """Why a line or a message is in quarantine. The names are stable: dashboards and tests count them."""

    FIELDS = "fields"  # another number of fields than the format has, or fields that are not delimited as it says
    NUMBER = "number"  # a field that should be a number is none
    RATING = "rating"  # outside the scale
    TIMESTAMP = "timestamp"  # before the source began, or in the future
    ENCODING = "encoding"  # bytes that the file's encoding does not have
    TRUNCATED = "truncated"  # the last line, which breaks off
    UNKNOWN_ITEM = "unknown_item"  # the items file does not have it
    DUPLICATE = "duplicate"  # said before, on an earlier line or in an earlier message
    JSON = "json"  # a message that is no JSON object
    MISSING = "missing"  # a field that the message must have
    TYPE = "type"  # a field of another JSON type than it must have
    ACTION = "action"  # none of the actions that there are
    LISTS = "lists"  # lists of an exposure that are not of one length, or are empty
    SIZE = "size"  # a message longer than any good one
    CLOCK = "clock"  # sent in the future: the producer's clock is wrong


@dataclass(frozen=True)
class Scale:
    """The ratings that a source can have; `decimals`: whether they may be written with a point."""

    low: float
    high: float
    decimals: bool = False


@dataclass(frozen=True)
class Rules:
    """What may be true; None or () is no rule.

    scale:    of ratings; a null rating is judged by whoever knows whether there had to be one.
    earliest: the first possible time, latest: the last, both in the unit of the column `time`.
    items:    (items,) int64, the only ones that may occur.
    distinct: columns that say together that two rows are one event; rows with a null there are never the same.
    """

    scale: Scale | None = None
    earliest: int = 0
    latest: int | None = None
    items: IntArray | None = None
    distinct: tuple[str, ...] = ()
    time: str = "timestamp"


@dataclass(frozen=True)
class Cleaned:
    """good: rows as they came, in their order. bad: the others with their `reason` (String)."""

    good: pl.DataFrame
    bad: pl.DataFrame


def clean(raw: pl.DataFrame, rules: Rules) -> Cleaned:
    """Part what can be true from what cannot. A column that a rule speaks of and `raw` lacks is not judged.

    A row is named by the first rule that it breaks: rating, clock, timestamp, unknown item. Of the rows that break
    none, the first of each event is good and the others are duplicates.
    """
    reasons: list[pl.Expr] = [
        pl.when(mask).then(pl.lit(reason)) for reason, mask in violations(raw, rules) if mask.any()
    ]
    marked = raw.with_columns(pl.coalesce([*reasons, pl.lit(None, pl.String)]).alias("reason"))
    if rules.distinct and set(rules.distinct) <= set(raw.columns):
        alike = pl.struct(pl.col("reason"), *rules.distinct)
        nameless = pl.any_horizontal(pl.col(column).is_null() for column in rules.distinct)
        twice = pl.col("reason").is_null() & ~nameless & ~alike.is_first_distinct()
        marked = marked.with_columns(pl.when(twice).then(pl.lit(Reason.DUPLICATE)).otherwise("reason").alias("reason"))
    wrong = marked["reason"].is_not_null()
    if not wrong.any():
        return Cleaned(raw, marked.clear())
    return Cleaned(raw.filter(~wrong), marked.filter(wrong))


def violations(rows: pl.DataFrame, rules: Rules) -> Iterator[tuple[Reason, pl.Series]]:
    """Each rule's reason and the mask of the rows that break it; a null in a mask breaks nothing.

    `sent` is the time of sending by the producer's own clock: nothing is told before it happened, and what was sent
    in the future says that the clock is wrong. A clock that runs behind cannot be told from a slow way: its events
    are merely late.
    """
    if rules.scale is not None and "rating" in rows.columns:
        yield Reason.RATING, ~rows["rating"].is_between(rules.scale.low, rules.scale.high)
    if rules.latest is not None and "sent" in rows.columns:
        yield Reason.CLOCK, rows["sent"] > rules.latest
    if rules.time in rows.columns:
        time = rows[rules.time]
        yield (
            Reason.TIMESTAMP,
            time < rules.earliest if rules.latest is None else ~time.is_between(rules.earliest, rules.latest),
        )
        if "sent" in rows.columns:
            yield Reason.TIMESTAMP, time > rows["sent"]
    if rules.items is not None and "item" in rows.columns:
        yield Reason.UNKNOWN_ITEM, pl.Series(~np.isin(rows["item"].to_numpy(), rules.items))
