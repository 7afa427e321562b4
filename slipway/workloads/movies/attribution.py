"""Impressions joined with what people did about them: labelled examples, and the rows that are none, with a reason.

Knows exposures, feedback and time. Knows no lake, no date on disk and no model: both sides come as lazy frames, and
what is computed depends on their rows alone, not on the order in which they arrived.

A feedback row belongs to the exposure that it names by request id. It is judged by itself, so that judging it again
together with other rows gives the same verdict; what is said twice is looked for among the acceptable rows only.
"""

from datetime import timedelta
from enum import StrEnum

import polars as pl

SKEW = timedelta(seconds=5)
"""Feedback may be stamped that much before its exposure: the clocks of a phone and of a server differ."""

POSITIVE = ("click", "rating", "edit", "interaction")
"""Actions that make an impression a click; a `view` is accepted and labels nothing."""

KNOWN = ("scores", "sources", "propensities")
"""What an exposure may say about each item that it showed."""

EXAMPLES = pl.Schema(
    {
        "request_id": pl.String(),
        "position": pl.Int16(),  # 1 = shown first
        "user": pl.Int64(),
        "item": pl.Int64(),
        "event_timestamp": pl.Datetime("us", "UTC"),  # of the exposure: features are joined as of this instant
        "closes": pl.Datetime("us", "UTC"),  # until then a label 0 may still become 1
        "score": pl.Float32(),
        "source": pl.String(),
        "propensity": pl.Float32(),  # that this item stood at this position under the serving policy
        "model": pl.String(),
        "package": pl.String(),
        "revision": pl.String(),
        "fallback": pl.String(),
        "click": pl.Int8(),  # 1: something positive was done about it inside the window
        "rating": pl.Float32(),  # the last one inside the window, or null
        "seconds": pl.Float32(),  # from exposure to the first positive feedback, or null
        "date": pl.Date(),  # of event_timestamp, in UTC: the partition
    }
)


class Reason(StrEnum):
    """Why a row of the production log labels nothing."""

    MALFORMED_EXPOSURE = "malformed exposure"  # no user, time or items, lists of other lengths, an item shown twice
    DUPLICATE_EXPOSURE = "duplicate exposure"  # an earlier one has this request id
    MALFORMED_FEEDBACK = "malformed feedback"
    UNKNOWN_REQUEST = "unknown request"
    OTHER_USER = "feedback of another user"
    NOT_SHOWN = "item was not shown"
    BEFORE_EXPOSURE = "feedback before its exposure"
    LATE = "after the attribution window"
    DUPLICATE_FEEDBACK = "duplicate feedback"  # an earlier one has this event id


def label(exposures: pl.LazyFrame, feedback: pl.LazyFrame, window: timedelta, skew: timedelta = SKEW) -> pl.LazyFrame:
    """EXAMPLES: one row per shown item of every sound exposure, ordered by time, request and position.

    exposures, feedback: the columns of logs/<data set>/{exposures,feedback}. Feedback counts from `skew` before its
    exposure to `window` after it, both ends included.
    """
    shown = _sound(exposures).filter(pl.col("reason").is_null())
    at = pl.col("timestamp")
    positive = pl.col("action").cast(pl.String).is_in(POSITIVE)
    theirs = feedback.join(shown.select("request_id"), on="request_id", how="semi")
    answers = (
        _judged(shown, theirs, window, skew)
        .filter(pl.col("reason").is_null())
        .group_by("request_id", "item")
        .agg(
            at.filter(positive).min().alias("_answered"),
            pl.col("rating").sort_by("timestamp", "event_id", "rating").drop_nulls().last(),
        )
    )
    length = pl.col("items").list.len()
    waited = (pl.col("_answered") - pl.col("event_timestamp")).dt.total_milliseconds().clip(lower_bound=0) / 1000
    return (
        shown.filter(length > 0)
        .with_columns(
            pl.int_ranges(1, length + 1).alias("position"),
            *(pl.coalesce(name, pl.lit(None).repeat_by(length)) for name in KNOWN),
        )
        .explode("position", "items", *KNOWN)
        .rename({"items": "item", "scores": "score", "sources": "source", "propensities": "propensity"})
        .join(answers, on=["request_id", "item"], how="left")
        .with_columns(at.cast(EXAMPLES["event_timestamp"]).alias("event_timestamp"))
        .with_columns(
            (pl.col("event_timestamp") + window).alias("closes"),
            pl.col("_answered").is_not_null().alias("click"),
            waited.alias("seconds"),
            pl.col("event_timestamp").dt.date().alias("date"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in EXAMPLES.items())
        .sort("event_timestamp", "request_id", "position")
    )


def rejected_exposures(exposures: pl.LazyFrame) -> pl.LazyFrame:
    """The exposures that give no example, with their `reason`; nothing that was shown is in neither."""
    return _sound(exposures).filter(pl.col("reason").is_not_null())


def rejected_feedback(
    exposures: pl.LazyFrame, feedback: pl.LazyFrame, window: timedelta, skew: timedelta = SKEW
) -> pl.LazyFrame:
    """The feedback that labels nothing, with its `reason`."""
    shown = _sound(exposures).filter(pl.col("reason").is_null())
    return _judged(shown, feedback, window, skew).filter(pl.col("reason").is_not_null())


def _sound(exposures: pl.LazyFrame) -> pl.LazyFrame:
    """exposures with a `reason`, null where they are sound and the first of their request id."""
    shown = pl.col("items").list
    needed = pl.any_horizontal(pl.col("request_id", "user", "timestamp", "items").is_null())
    uneven = pl.any_horizontal(
        (pl.col(name).list.len() != shown.len()).fill_null(value=False)
        for name in KNOWN  # null: not known
    )
    broken = needed | uneven | (shown.n_unique() != shown.len())
    marked = exposures.with_columns(pl.when(broken).then(pl.lit(Reason.MALFORMED_EXPOSURE)).alias("reason"))
    first = pl.struct("request_id", pl.col("reason").is_null()).is_first_distinct()
    return marked.sort("timestamp", "request_id", "user", "items", "package").with_columns(
        pl.when(pl.col("reason").is_null() & ~first).then(pl.lit(Reason.DUPLICATE_EXPOSURE)).otherwise("reason")
        .alias("reason")
    )  # fmt: skip


def _judged(shown: pl.LazyFrame, feedback: pl.LazyFrame, window: timedelta, skew: timedelta) -> pl.LazyFrame:
    """feedback with a `reason`, null where it is accepted. shown: sound exposures, a request id once."""
    asked = shown.select(
        "request_id",
        pl.col("user").alias("_user"),
        pl.col("timestamp").alias("_shown"),
        pl.col("items").alias("_items"),
    ).join(feedback.select("request_id").unique(), on="request_id", how="semi")  # a hash table of these alone
    at = pl.col("timestamp")
    reason = (
        pl.when(pl.any_horizontal(pl.col("user", "item", "timestamp", "action").is_null()))
        .then(pl.lit(Reason.MALFORMED_FEEDBACK))
        .when(pl.col("_shown").is_null())
        .then(pl.lit(Reason.UNKNOWN_REQUEST))
        .when(pl.col("user") != pl.col("_user"))
        .then(pl.lit(Reason.OTHER_USER))
        .when(~pl.col("_items").list.contains(pl.col("item")))
        .then(pl.lit(Reason.NOT_SHOWN))
        .when(at < pl.col("_shown") - skew)
        .then(pl.lit(Reason.BEFORE_EXPOSURE))
        .when(at > pl.col("_shown") + window)
        .then(pl.lit(Reason.LATE))
    )
    judged = (
        feedback.join(asked, on="request_id", how="left")
        .with_columns(reason.alias("reason"))
        .drop("_user", "_shown", "_items")
        .sort("timestamp", "event_id", "request_id", "item", "rating")
    )
    twice = (
        pl.col("reason").is_null()
        & pl.col("event_id").is_not_null()
        & ~pl.struct("request_id", "event_id", pl.col("reason").is_null()).is_first_distinct()
    )
    return judged.with_columns(
        pl.when(twice).then(pl.lit(Reason.DUPLICATE_FEEDBACK)).otherwise("reason").alias("reason")
    )
