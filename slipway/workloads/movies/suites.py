"""What each table of the recommender must be, per source and per stage. Says it; slipway/validation/ looks.

    events("ml-1m")   events("stream")   TABLES["processed", "items"]   view("user_history")

The facts of a source (its scale, its first possible time, what is one event) are those of sources/ and messages.py.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandera.polars as pa
import polars as pl

from slipway.errors import ConfigError
from slipway.lake.columns import kept_schema
from slipway.lake.lake import Area
from slipway.validation.expectations import Doubles, Drift, Expectation, Fresh, Gap, Mean, New, NullShare, RowCount
from slipway.validation.suite import Rule, Suite
from slipway.workloads.movies import messages
from slipway.workloads.movies.attribution import EXAMPLES, SKEW
from slipway.workloads.movies.cleaning import Scale
from slipway.workloads.movies.dataset import EVENTS, LAKE_EVENTS, USERS
from slipway.workloads.movies.features.views import CREATED, EVENT, HISTORY, VIEWS
from slipway.workloads.movies.sources import FORMATS
from slipway.workloads.movies.sources.source import SINCE_1995

FILES = ("ml-100k", "ml-1m", "ml-csv", "wikipedia", "simulated")
SOURCES = (*FILES, "files", "stream", "production")
CLOCKS = timedelta(milliseconds=messages.SKEW)
ACTIONS = tuple(LAKE_EVENTS["action"].categories)  # type: ignore[attr-defined]

Nulls = Literal["nullable"]


def _columns(
    schema: Mapping[str, pl.DataType], nullable: Sequence[str], checks: Mapping[str, Sequence[Any]] | None = None
) -> pa.DataFrameSchema:
    """pandera's schema of exactly these columns, as the lake keeps them."""
    return pa.DataFrameSchema(
        {
            name: pa.Column(dtype, list((checks or {}).get(name, ())), nullable=name in nullable)
            for name, dtype in schema.items()
        },
        strict=True,
    )


def _least(low: float) -> pa.Check:
    return pa.Check.ge(low, name="least", error=f"is at least {low}")


def _between(low: float, high: float) -> pa.Check:
    return pa.Check.in_range(low, high, name="range", error=f"is between {low} and {high}")


def _among(values: Sequence[Any]) -> pa.Check:
    return pa.Check.isin(values, name="values", error=f"is one of {', '.join(map(str, values))}")


def _long(low: int, high: int) -> pa.Check:
    return pa.Check.str_length(low, high, name="length", error=f"has {low} to {high:,} characters")


def _date(of: str) -> Rule:
    return Rule("date_of_time", "date", pl.col("date") == pl.col(of).dt.date(), f"date is the UTC day of {of}")


def _earliest(column: str, seconds: int) -> Rule:
    first = datetime.fromtimestamp(seconds, UTC)
    return Rule(
        f"{column}_not_before", column, pl.col(column) >= pl.lit(first), f"{column} is {first:%Y-%m-%d} or later"
    )


RATED = Rule(
    "rating_of_ratings",
    "rating",
    pl.col("rating").is_not_null() == (pl.col("action") == "rating"),
    "a rating is there where the action is one, and nowhere else",
)


@cache
def events(source: str) -> Suite:
    """processed/<data set>/events, the rows that came from this source: one of SOURCES. Raises ConfigError."""
    if source not in SOURCES:
        raise ConfigError(f"there is no suite for the source {source!r}", f"choose one of: {', '.join(SOURCES)}")
    if source in ("stream", "production"):
        return _live_events(source)
    scale, earliest, actions, distinct = _facts(source)
    rules = [
        RATED,
        _date("timestamp"),
        _earliest("timestamp", earliest),
        Rule("no_event_id", "event_id", pl.col("event_id").is_null(), "an event from a file has no event_id"),
    ]
    if scale and not scale.decimals:
        rules.append(Rule("rating_whole", "rating", pl.col("rating") % 1 == 0, "a rating is a whole number"))
    elif source == "ml-csv":
        rules.append(
            Rule("rating_halves", "rating", pl.col("rating") * 2 % 1 == 0, "a rating is a number of half stars")
        )
    checks = {
        "user": [_least(0)],
        "item": [_least(0)],
        "rating": [_between(scale.low, scale.high)] if scale else [],
        "action": [_among(actions)],
        "source_row": [_least(1)],
    }
    return Suite(
        name=f"events-{source}",
        stage="processed",
        schema=_columns(kept_schema(LAKE_EVENTS), ("rating", "event_id", "request_id"), checks),
        rules=tuple(rules),
        references={"item": "items"},
        past={"timestamp": CLOCKS},
        ids=("user", "item"),
        time="timestamp",
        soft=(
            *_soft_events(rated=scale is not None),
            Doubles(columns=distinct, share=0.0 if source in FILES else 0.01),
            Gap(hours=24 * 31),
        ),
    )


def _facts(source: str) -> tuple[Scale | None, int, tuple[str, ...], tuple[str, ...]]:
    """(scale, first possible second, actions, what is one event) of files; "files" is any of them."""
    form = {"simulated": "ml-1m"}.get(source, source)
    found = [f.open(Path()) for f in FORMATS if f.name == form]
    if not found:
        return messages.SCALE, 0, ACTIONS, ("user", "item", "timestamp")
    [known] = found
    # Wikipedia's months begin in January 1970, and an editor comes back to a page.
    distinct = ("user", "item", "timestamp") if known.repeats else known.distinct
    return known.events.scale, known.events.earliest, (known.action,), distinct


def _live_events(source: str) -> Suite:
    """From the stream; "production": those of them that answer a recommendation."""
    answers = source == "production"
    checks = {
        "user": [_least(0)],
        "item": [_least(0)],
        "rating": [_between(messages.SCALE.low, messages.SCALE.high)],
        "action": [_among(ACTIONS)],
        "event_id": [_long(1, 256)],
    }
    return Suite(
        name=f"events-{source}",
        stage="processed",
        schema=_columns(
            kept_schema(LAKE_EVENTS), ("rating", "source_row", *(() if answers else ("request_id",))), checks
        ),
        rules=(RATED, _date("timestamp"), _earliest("timestamp", SINCE_1995)),
        unique=(("event_id",),),
        references={"item": "items"},
        past={"timestamp": CLOCKS},
        minimum=0,
        ids=("user", "item"),
        time="timestamp",
        soft=(
            *_soft_events(rated=True),
            Doubles(columns=("user", "item", "timestamp")),
            Gap(hours=24),
            Fresh(hours=24),
        ),
    )


def _soft_events(*, rated: bool) -> tuple[Expectation, ...]:
    ratings: tuple[Expectation, ...] = (NullShare(columns=("rating",)), Mean(column="rating")) if rated else ()
    return (
        RowCount(),
        *ratings,
        Drift(columns=("rating", "action") if rated else ("action",)),
        New(column="item", share=0.25),
        New(column="user", share=0.9),
    )


ITEMS_SUITE = Suite(
    name="items",
    stage="processed",
    schema=_columns(
        kept_schema(messages.CATALOGUE),
        ("year", "released"),
        {"item": [_least(0)], "title": [_long(1, 1000)], "year": [_between(0, 9999)]},
    ),
    rules=(
        Rule("genres_named", "genres", pl.col("genres").list.eval(pl.element() != "").list.all(), "a genre has a name"),
    ),
    unique=(("item",),),
    ids=("item",),
    soft=(
        RowCount(),
        NullShare(columns=("year",)),
        Drift(columns=("year", "genres")),
        New(column="item"),
        Doubles(columns=("title",), share=0.05),
    ),
)
USERS_SUITE = Suite(
    name="users",
    stage="processed",
    schema=_columns(
        kept_schema(USERS),
        ("gender", "age", "occupation", "zip"),
        {"user": [_least(0)], "age": [_between(0, 150)], "gender": [_among(["F", "M"])]},
    ),
    unique=(("user",),),
    ids=("user",),
    soft=(
        RowCount(),
        NullShare(columns=("gender", "age", "occupation", "zip")),
        Drift(columns=("gender", "age", "occupation")),
        New(column="user"),
    ),
)


def _beside(column: str) -> Rule:
    alike = pl.col(column).list.len() == pl.col("items").list.len()
    return Rule(f"{column}_beside_items", column, alike, f"{column} has one value for each item")


def _each(column: str, holds: pl.Expr) -> pl.Expr:
    """True where every element of the list is; nulls in it are not."""
    return pl.col(column).list.eval(holds.fill_null(value=False)).list.all()


EXPOSURES_SUITE = Suite(
    name="exposures",
    stage="logs",
    schema=_columns(
        kept_schema(messages.EXPOSURES),
        ("scores", "sources", "propensities", "model", "package", "revision", "fallback", "milliseconds"),
        {
            "request_id": [_long(1, 256)],
            "user": [_least(0)],
            "milliseconds": [_least(0)],
        },
    ),
    rules=(
        Rule("items_some", "items", pl.col("items").list.len() > 0, "at least one item was shown"),
        Rule(
            "items_once",
            "items",
            pl.col("items").list.n_unique() == pl.col("items").list.len(),
            "no item is shown twice in one answer",
        ),
        *(_beside(column) for column in ("scores", "sources", "propensities")),
        Rule(
            "propensities_in_0_1",
            "propensities",
            _each("propensities", (pl.element() > 0) & (pl.element() <= 1)),
            "a propensity is above 0 and at most 1",
        ),
        Rule("scores_finite", "scores", _each("scores", pl.element().is_finite()), "a score is a finite number"),
        _date("timestamp"),
        _earliest("timestamp", SINCE_1995),
    ),
    unique=(("request_id",),),
    references={"items": "items"},
    past={"timestamp": CLOCKS},
    minimum=0,
    ids=("user",),
    time="timestamp",
    soft=(
        RowCount(growth=10),
        NullShare(columns=("scores", "sources", "propensities", "package")),
        # A fallback that was rare and is common now moves this one first.
        Drift(columns=("items", "milliseconds", "fallback")),
        New(column="user", share=0.9),
        Gap(hours=24),
        Fresh(hours=24),
    ),
)
FEEDBACK_SUITE = Suite(
    name="feedback",
    stage="logs",
    schema=_columns(
        kept_schema(messages.FEEDBACK),
        ("rating",),
        {
            "event_id": [_long(1, 256)],
            "request_id": [_long(1, 256)],
            "user": [_least(0)],
            "rating": [_between(messages.SCALE.low, messages.SCALE.high)],
            "action": [_among(ACTIONS)],
        },
    ),
    rules=(RATED, _date("timestamp"), _earliest("timestamp", SINCE_1995)),
    unique=(("event_id",),),
    references={"item": "items"},
    past={"timestamp": CLOCKS},
    minimum=0,
    ids=("user", "item"),
    time="timestamp",
    soft=(
        RowCount(growth=10),
        Mean(column="rating"),
        Drift(columns=("rating", "action")),
        New(column="item", share=0.25),
        Doubles(columns=("request_id", "item", "action"), share=0.05),
        Gap(hours=24),
        Fresh(hours=24),
    ),
)
EXAMPLES_SUITE = Suite(
    name="examples",
    stage="training",
    schema=_columns(
        kept_schema(EXAMPLES),
        ("score", "source", "propensity", "model", "package", "revision", "fallback", "rating", "seconds"),
        {
            "position": [_least(1)],
            "click": [_among([0, 1])],
            "rating": [_between(messages.SCALE.low, messages.SCALE.high)],
            "seconds": [_least(0)],
        },
    ),
    rules=(
        Rule(
            "propensity_in_0_1",
            "propensity",
            (pl.col("propensity") > 0) & (pl.col("propensity") <= 1),
            "a propensity is above 0 and at most 1",
        ),
        Rule(
            "seconds_of_clicks",
            "seconds",
            pl.col("seconds").is_not_null() == (pl.col("click") == 1),
            "the time to a click is there where there was one",
        ),
        Rule("closes_later", "closes", pl.col("closes") > pl.col(EVENT), "the window closes after the exposure"),
        _date(EVENT),
    ),
    unique=(("request_id", "item"), ("request_id", "position")),
    references={"item": "items"},
    past={EVENT: CLOCKS + SKEW},
    ids=("user", "item"),
    time=EVENT,
    soft=(
        RowCount(growth=10),
        NullShare(columns=("propensity", "score")),
        Mean(column="click"),
        Drift(columns=("position", "click", "rating", "source", "fallback")),
        New(column="item", share=0.25),
        Gap(hours=24),
    ),
)
TRAINING_SUITE = Suite(  # a data set's folder (dataset.py): what a model learns from
    name="training-events",
    stage="training",
    schema=_columns(EVENTS, ("timestamp", "rating"), {"user": [_least(0)], "item": [_least(0)]}),
    rules=(RATED,),
    references={"item": "items"},
    past={"timestamp": CLOCKS},
    ids=("user", "item"),
    soft=(
        RowCount(loss=0.5),
        NullShare(columns=("timestamp", "rating")),
        Mean(column="rating"),
        Drift(columns=("rating", "action")),
    ),
)
TABLES: dict[tuple[Area, str], Suite] = {
    ("processed", "items"): ITEMS_SUITE,
    ("processed", "users"): USERS_SUITE,
    ("logs", "exposures"): EXPOSURES_SUITE,
    ("logs", "feedback"): FEEDBACK_SUITE,
    ("features", "examples"): EXAMPLES_SUITE,
}


@cache
def view(name: str) -> Suite:
    """features/<data set>/<view>: what the view's definition says, and what its fields cannot be."""
    of = VIEWS[name]
    checks: dict[str, list[Any]] = {of.entity: [_least(0)]}
    rules = []
    for field, (dtype, _) in of.fields.items():
        if field.startswith("events_") or field.startswith("genres_"):
            checks[field] = [_least(0)]
        elif field.startswith("mean_rating"):
            checks[field] = [_between(messages.SCALE.low, messages.SCALE.high)]
        elif field.endswith("_rank"):
            checks[field] = [_least(1)]
        elif isinstance(dtype, pl.List):
            short = pl.col(field).list.len() <= HISTORY
            rules.append(Rule(f"{field}_at_most_{HISTORY}", field, short, f"{field} holds the last {HISTORY}"))
    names = set(of.fields)
    if {"events_7d", "events_28d"} <= names:
        within = pl.col("events_7d") <= pl.col("events_28d")
        rules.append(Rule("windows_nested", "events_7d", within, "7 days hold no more events than 28"))
    if {"items", "times"} <= names:
        alike = pl.col("items").list.len() == pl.col("times").list.len()
        sorted_ = pl.col("times") == pl.col("times").list.sort()
        rules.append(Rule("times_beside_items", "times", alike, "times has one value for each item"))
        rules.append(Rule("times_ascending", "times", sorted_, "a history is oldest first"))
    numbers = tuple(n for n, (dtype, _) in of.fields.items() if dtype.is_numeric() and n != "last_event")
    words = tuple(n for n, (dtype, _) in of.fields.items() if dtype == pl.String and n not in ("window", "zip"))
    return Suite(
        name=f"features-{name}",
        stage="features",
        schema=_columns(kept_schema(of.schema), [n for n in names if n not in ("items", "times")], checks),
        rules=tuple(rules),
        # A row of a day is stamped at the day's end, which is to come while the day goes on.
        past={EVENT: timedelta(days=1), CREATED: CLOCKS},
        ids=(of.entity,),
        time=EVENT,
        soft=(RowCount(loss=1.0), Drift(columns=(*numbers, *words)), New(column=of.entity, share=0.9)),
    )
