"""The recommender's features as Feast's objects: what each is, is said in slipway/workloads/movies/features/views.py.

feast -c feature_repo apply
"""

import polars as pl
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.data_format import DeltaFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, FeastType, Float32, Float64, Int32, Int64, String
from feast.value_type import ValueType

from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workloads.movies.features.views import CREATED, EVENT, VIEWS, View

OWNER = "recommendations@slipway.example"
TYPES: dict[pl.DataType, FeastType] = {
    pl.Int64(): Int64,
    pl.Int32(): Int32,
    pl.Float32(): Float32,
    pl.String(): String,
    pl.List(pl.Int64()): Array(Int64),
    pl.List(pl.String()): Array(String),
}

# Users and items both have events_7d, and Feast tells features of one request apart by their bare names alone
# (full_feature_names would do it, but drops on-demand features online): an item's are called item_events_7d.
RENAMED = {"item_statistics": {name: f"item_{name}" for name in ("events_7d", "events_28d")}}

user = Entity(
    name="user",
    join_keys=["user"],
    value_type=ValueType.INT64,
    description="Somebody who looks, rates and comes back; the id is the source's.",
    owner=OWNER,
)
item = Entity(
    name="item",
    join_keys=["item"],
    value_type=ValueType.INT64,
    description="Something that is recommended: a film, a page; the id is the source's.",
    owner=OWNER,
)


def source(view: View) -> FileSource:
    table = Lake().table("features", settings().data_set, view.name)
    return FileSource(
        name=f"{view.name}_table",
        path=str(table.folder or table.uri),
        file_format=DeltaFormat(),
        s3_endpoint_override=table.endpoint_url or "",
        timestamp_field=EVENT,
        created_timestamp_column=CREATED,
        field_mapping=RENAMED.get(view.name),
        description=f"features/{settings().data_set}/{view.name} of the lake, written by the features step.",
        owner=OWNER,
    )


def feature_view(view: View, *, pushed: bool = False) -> FeatureView:
    """pushed: fresh rows come in through a push source, or straight into the online store, as the stream does."""
    table = source(view)
    push = PushSource(
        name=f"{view.name}_push",
        batch_source=table,
        description=f"Fresh rows of {view.name}, for low rates: the stream writes micro-batches itself.",
        owner=OWNER,
    )
    return FeatureView(
        name=view.name,
        entities=[{"user": user, "item": item}[view.entity]],
        schema=[
            Field(name=RENAMED.get(view.name, {}).get(name, name), dtype=TYPES[kind], description=what)
            for name, (kind, what) in view.fields.items()
        ],
        source=push if pushed else table,
        ttl=view.ttl,
        description=view.description,
        tags=view.tags,
        owner=OWNER,
    )


user_profile = feature_view(VIEWS["user_profile"])
user_statistics = feature_view(VIEWS["user_statistics"], pushed=True)
user_history = feature_view(VIEWS["user_history"], pushed=True)
item_profile = feature_view(VIEWS["item_profile"])
item_statistics = feature_view(VIEWS["item_statistics"])

request = RequestSource(
    name="request",
    schema=[Field(name="asked_at", dtype=Int64)],
    description="When the question is asked, milliseconds since 1970 UTC.",
    owner=OWNER,
)


@on_demand_feature_view(
    name="user_item_cross",
    sources=[user_statistics, user_history, item_profile, item_statistics, request],
    # No descriptions here: Feast compares these fields with those that it infers, which have none.
    schema=[
        Field(name=name, dtype=Float64) for name in ("days_since_last_event", "genre_affinity", "popularity_ratio")
    ],
    mode="python",
    description="What a user and an item have to do with each other, computed when asked. days_since_last_event: "
    "from the user's last event to asked_at; genre_affinity: share of the user's active days (of 28) with one of the "
    "item's genres; popularity_ratio: the item's events of 7 days over a quarter of those of 28, above 1 it is rising.",
    tags={"freshness": "on request"},
    owner=OWNER,
)
def user_item_cross(inputs: dict) -> dict:
    """Columns of equal length in, columns of that length out; a missing input gives null."""
    import json  # the function travels by itself, in the registry

    def day_genres(window):
        try:
            return [set(day[4]) for day in json.loads(window or "[]")]
        except ValueError:  # Feast tries it with "hello world" when it is applied
            return []

    days, affinity, trend = [], [], []
    for asked, last in zip(inputs["asked_at"], inputs["last_event"], strict=True):
        days.append(None if asked is None or last is None else max(0, asked - last) / 86_400_000)
    for window, genres in zip(inputs["window"], inputs["genres"], strict=False):
        active = day_genres(window)
        met = sum(not day.isdisjoint(genres) for day in active) if genres else 0
        affinity.append(met / max(len(active), 1))
    for week, month in zip(inputs["item_events_7d"], inputs["item_events_28d"], strict=True):
        trend.append(4 * week / month if week is not None and month else None)
    return {"days_since_last_event": days, "genre_affinity": affinity, "popularity_ratio": trend}


movies_v1 = FeatureService(
    name="movies_v1",
    features=[user_profile, user_statistics, user_history],
    description="What version 1 of the recommender reads about a user.",
    tags={"model": "movies", "version": "1"},
    owner=OWNER,
)
movies_ranking_v1 = FeatureService(
    name="movies_ranking_v1",
    features=[user_statistics, item_statistics, user_item_cross],
    description="A user and an item, and what they have to do with each other, for a re-ranker.",
    tags={"model": "movies", "version": "1"},
    owner=OWNER,
)
