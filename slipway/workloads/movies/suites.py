"""What events, items and users must be, per source, and what a model learns from. Says it; slipway/validation/ looks.

    events("ml-1m")   events("stream")   items("ml-1m")   users("ml-1m")   TRAINING_SUITE

The facts of a source (its scale, its first possible time, what is one event) are those of sources/ and messages.py.
"""

from functools import cache
from pathlib import Path

import polars as pl

from slipway.errors import ConfigError
from slipway.lake.columns import kept_schema
from slipway.validation.expectations import Doubles, Drift, Expectation, Fresh, Gap, Mean, New, NullShare, RowCount
from slipway.validation.suite import Rule, Suite
from slipway.workloads.movies import messages
from slipway.workloads.movies.cleaning import Scale
from slipway.workloads.movies.dataset import EVENTS, LAKE_EVENTS, USERS
from slipway.workloads.movies.rules import CLOCKS, RATED, among, between, columns, date_of, each, earliest, least, long
from slipway.workloads.movies.sources import FORMATS
from slipway.workloads.movies.sources.source import SINCE_1995

FILES = ("ml-100k", "ml-1m", "ml-csv", "wikipedia", "simulated")
SOURCES = (*FILES, "files", "stream", "production")
ACTIONS = tuple(LAKE_EVENTS["action"].categories)  # type: ignore[attr-defined]


@cache
def events(source: str) -> Suite:
    """processed/<data set>/events, the rows that came from this source: one of SOURCES. Raises ConfigError."""
    if source not in SOURCES:
        raise ConfigError(f"there is no suite for the source {source!r}", f"choose one of: {', '.join(SOURCES)}")
    if source in ("stream", "production"):
        return _live_events(source)
    scale, first, actions, distinct = _facts(source)
    rules = [
        RATED,
        date_of("timestamp"),
        earliest("timestamp", first),
        Rule("no_event_id", "event_id", pl.col("event_id").is_null(), "an event from a file has no event_id"),
    ]
    if scale and not scale.decimals:
        rules.append(Rule("rating_whole", "rating", pl.col("rating") % 1 == 0, "a rating is a whole number"))
    checks = {
        "user": [least(0)],
        "item": [least(0)],
        "rating": [between(scale.low, scale.high)] if scale else [],
        "action": [among(actions)],
        "source_row": [least(1)],
    }
    return Suite(
        name=f"events-{source}",
        stage="processed",
        schema=columns(kept_schema(LAKE_EVENTS), ("rating", "event_id", "request_id"), checks),
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
        "user": [least(0)],
        "item": [least(0)],
        "rating": [between(messages.SCALE.low, messages.SCALE.high)],
        "action": [among(ACTIONS)],
        "event_id": [long(1, 256)],
    }
    return Suite(
        name=f"events-{source}",
        stage="processed",
        schema=columns(
            kept_schema(LAKE_EVENTS), ("rating", "source_row", *(() if answers else ("request_id",))), checks
        ),
        rules=(
            RATED,
            date_of("timestamp"),
            earliest("timestamp", SINCE_1995),
            Rule("no_source_row", "source_row", pl.col("source_row").is_null(), "a message is no line of a file"),
        ),
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


@cache
def items(source: str) -> Suite:
    """processed/<data set>/items; where the source has no list, nothing is known of an item but its number."""
    years: tuple[Expectation, ...] = (NullShare(columns=("year",)), Drift(columns=("year", "genres")))
    return Suite(
        name=f"items-{source}",
        stage="processed",
        schema=columns(
            kept_schema(messages.CATALOGUE),
            ("year", "released"),
            {"item": [least(0)], "title": [long(1, 1000)], "year": [between(0, 9999)]},
        ),
        rules=(Rule("genres_named", "genres", each("genres", pl.element() != ""), "a genre has a name"),),
        unique=(("item",),),
        ids=("item",),
        soft=(
            RowCount(),
            *(years if source != "wikipedia" else ()),
            New(column="item"),
            Doubles(columns=("title",), share=0.05),
        ),
    )


@cache
def users(source: str) -> Suite:
    """processed/<data set>/users; only some sources know more than their numbers."""
    known = ("gender", "age", "occupation", "zip")
    attributes: tuple[Expectation, ...] = (NullShare(columns=known), Drift(columns=known[:-1]))
    return Suite(
        name=f"users-{source}",
        stage="processed",
        schema=columns(
            kept_schema(USERS),
            known,
            {"user": [least(0)], "age": [between(0, 150)], "gender": [among(["F", "M"])]},
        ),
        unique=(("user",),),
        ids=("user",),
        soft=(
            RowCount(),
            *(attributes if source not in ("ml-csv", "wikipedia") else ()),
            New(column="user"),
        ),
    )


TRAINING_SUITE = Suite(  # a data set's folder (dataset.py): what a model learns from
    name="training-events",
    stage="training",
    schema=columns(EVENTS, ("timestamp", "rating"), {"user": [least(0)], "item": [least(0)]}),
    rules=(RATED,),
    references={"item": "items"},
    past={"timestamp": CLOCKS},
    ids=("user", "item"),
)
