"""The feature views: names, fields, lifetimes and meaning, once. Knows neither Feast nor how a value is computed.

feature_repo/ turns these into Feast's objects; the batch and the incremental state produce exactly these columns.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

HISTORY = 200  # items of a user's history that are kept
SHORT, LONG = 7, 28  # days of the windows, today included; a day is a whole UTC day
DAY_MS = 86_400_000
EVENT, CREATED = "event_timestamp", "created_timestamp"
STAMP = pl.Datetime("us", "UTC")
FOREVER = timedelta(days=36_500)  # Feast materialises a view without a TTL for 52 weeks only, so never 0


@dataclass(frozen=True)
class View:
    """One feature view: a table features/<data set>/<name> with the entity's id, the fields and both timestamps."""

    name: str
    entity: Literal["user", "item"]
    fields: dict[str, tuple[pl.DataType, str]]  # name → (type, what it is)
    ttl: timedelta
    description: str
    tags: dict[str, str]

    @property
    def schema(self) -> pl.Schema:
        kinds = {name: kind for name, (kind, _) in self.fields.items()}
        return pl.Schema({self.entity: pl.Int64(), **kinds, EVENT: STAMP, CREATED: STAMP})


USER_PROFILE = View(
    name="user_profile",
    entity="user",
    fields={
        "gender": (pl.String(), "as the source gives it; null where it has none"),
        "age": (pl.Int32(), "years, or the lower bound of the source's age group"),
        "occupation": (pl.String(), "as the source gives it"),
        "zip": (pl.String(), "as the source gives it"),
    },
    ttl=FOREVER,
    description="What a user said about themselves. Valid from the beginning of time.",
    tags={"freshness": "daily", "personal_data": "yes"},
)
USER_STATISTICS = View(
    name="user_statistics",
    entity="user",
    fields={
        "events_7d": (pl.Int64(), "events of the last 7 UTC days, today included"),
        "events_28d": (pl.Int64(), "events of the last 28 UTC days, today included"),
        "mean_rating_28d": (pl.Float32(), "mean rating of the last 28 UTC days; null without a rating"),
        "genres_28d": (pl.Int64(), "distinct genres of the items of the last 28 UTC days"),
        "last_event": (pl.Int64(), "the user's newest event, milliseconds since 1970 UTC"),
    },
    ttl=timedelta(days=LONG),
    description="How much, what and how well lately: a row at each of the user's events, that event included.",
    tags={"freshness": "seconds"},
)
USER_HISTORY = View(
    name="user_history",
    entity="user",
    fields={
        "items": (pl.List(pl.Int64()), f"the last {HISTORY} items, oldest first"),
        "times": (pl.List(pl.Int64()), "when, milliseconds since 1970 UTC, beside items"),
        "window": (pl.String(), "JSON, state of user_statistics: [day since 1970, events, ratings, sum/1000, genres]"),
    },
    ttl=FOREVER,
    description="The user's newest items in time order: a row at the last event of each day, and at each fresh event.",
    tags={"freshness": "seconds"},
)
ITEM_STATISTICS = View(
    name="item_statistics",
    entity="item",
    fields={
        "events_7d": (pl.Int64(), "events of the 7 UTC days that end with this row"),
        "events_28d": (pl.Int64(), "events of the 28 UTC days that end with this row"),
        "mean_rating": (pl.Float32(), "mean of all ratings so far; null without a rating"),
        "popularity_rank": (pl.Int64(), "1 = most events_28d of that day; equal counts share the better rank"),
    },
    ttl=timedelta(days=SHORT),
    description="An item's popularity: a row at the end of each day in whose 28 days it had an event. "
    "No row within the TTL means no event.",
    tags={"freshness": "daily"},
)
ITEM_PROFILE = View(
    name="item_profile",
    entity="item",
    fields={
        "title": (pl.String(), "as the source gives it"),
        "genres": (pl.List(pl.String()), "the item's genres"),
        "year": (pl.Int32(), "of release; null where the source has none"),
    },
    ttl=FOREVER,
    description="What an item is. Valid from its release on, or from the beginning of time.",
    tags={"freshness": "daily"},
)
VIEWS = {view.name: view for view in (USER_PROFILE, USER_STATISTICS, USER_HISTORY, ITEM_PROFILE, ITEM_STATISTICS)}
