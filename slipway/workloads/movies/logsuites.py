"""What the log, the examples and the feature tables must be. Says it; slipway/validation/ looks.

TABLES["logs", "exposures"]   view("user_history")
"""

from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import polars as pl

from slipway.lake.columns import kept_schema
from slipway.lake.lake import Area
from slipway.validation.expectations import Doubles, Drift, Fresh, Gap, Mean, New, NullShare, RowCount
from slipway.validation.suite import Rule, Suite
from slipway.workloads.movies import messages
from slipway.workloads.movies.attribution import EXAMPLES, SKEW
from slipway.workloads.movies.features.views import CREATED, EVENT, HISTORY, VIEWS
from slipway.workloads.movies.rules import CLOCKS, RATED, among, between, columns, date_of, each, earliest, least, long
from slipway.workloads.movies.sources.source import SINCE_1995
from slipway.workloads.movies.suites import ACTIONS


def _beside(column: str) -> Rule:
    alike = pl.col(column).list.len() == pl.col("items").list.len()
    return Rule(f"{column}_beside_items", column, alike, f"{column} has one value for each item")


EXPOSURES_SUITE = Suite(
    name="exposures",
    stage="logs",
    schema=columns(
        kept_schema(messages.EXPOSURES),
        (
            *("scores", "sources", "propensities", "model", "package", "revision", "fallback", "milliseconds"),
            *("session", "features", "stages", "stage_milliseconds"),
        ),
        {
            "request_id": [long(1, 256)],
            "user": [least(0)],
            "milliseconds": [least(0)],
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
            each("propensities", (pl.element() > 0) & (pl.element() <= 1)),
            "a propensity is above 0 and at most 1",
        ),
        Rule("scores_finite", "scores", each("scores", pl.element().is_finite()), "a score is a finite number"),
        date_of("timestamp"),
        earliest("timestamp", SINCE_1995),
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
    schema=columns(
        kept_schema(messages.FEEDBACK),
        ("rating",),
        {
            "event_id": [long(1, 256)],
            "request_id": [long(1, 256)],
            "user": [least(0)],
            "rating": [between(messages.SCALE.low, messages.SCALE.high)],
            "action": [among(ACTIONS)],
        },
    ),
    rules=(RATED, date_of("timestamp"), earliest("timestamp", SINCE_1995)),
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
    schema=columns(
        kept_schema(EXAMPLES),
        ("score", "source", "propensity", "model", "package", "revision", "fallback", "rating", "seconds"),
        {
            "position": [least(1)],
            "click": [among([0, 1])],
            "rating": [between(messages.SCALE.low, messages.SCALE.high)],
            "seconds": [least(0)],
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
        date_of(EVENT),
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
TABLES: dict[tuple[Area, str], Suite] = {
    ("logs", "exposures"): EXPOSURES_SUITE,
    ("logs", "shadows"): replace(EXPOSURES_SUITE, name="shadows"),
    ("logs", "feedback"): FEEDBACK_SUITE,
    ("features", "examples"): EXAMPLES_SUITE,
}


@cache
def view(name: str) -> Suite:
    """features/<data set>/<view>: what the view's definition says, and what its fields cannot be."""
    of = VIEWS[name]
    checks: dict[str, list[Any]] = {of.entity: [least(0)]}
    # A row about a whole day is stamped at its end, which is the next day's first instant.
    day = (pl.col("date") == pl.col(EVENT).dt.date()) | (pl.col("date") == pl.col(EVENT).dt.offset_by("-1us").dt.date())
    rules = [Rule("date_of_time", "date", day, f"date is the UTC day of {EVENT}, or the one that ends then")]
    for field in of.fields:
        if field.startswith("events_") or field.startswith("genres_"):
            checks[field] = [least(0)]
        elif field.startswith("mean_rating"):
            checks[field] = [between(messages.SCALE.low, messages.SCALE.high)]
        elif field.endswith("_rank"):
            checks[field] = [least(1)]
        elif field in ("items", "times"):
            short = pl.col(field).list.len() <= HISTORY
            rules.append(Rule(f"{field}_at_most_{HISTORY}", field, short, f"{field} holds the last {HISTORY}"))
    names = set(of.fields)
    schema = pl.Schema({**of.schema, "date": pl.Date()})
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
        schema=columns(kept_schema(schema), names - {"items", "times"}, checks),
        rules=tuple(rules),
        # A row of a day is stamped at the day's end, which is to come while the day goes on.
        past={EVENT: timedelta(days=1), CREATED: CLOCKS},
        ids=(of.entity,),
        time=EVENT,
        soft=(RowCount(loss=1.0), Drift(columns=(*numbers, *words)), New(column=of.entity, share=0.9)),
    )
