"""A lake of a few hundred events in which everything that can coincide does."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from slipway.lake.lake import Lake
from slipway.workloads.movies.dataset import ITEMS, LAKE_EVENTS, USERS

DAY = 86_400_000
START = 1_700_006_400_000  # a midnight
GENRES = ["Drama", "War", "Children's", "Film-Noir"]


@dataclass(frozen=True)
class Small:
    lake: Lake
    events: pl.DataFrame
    items: pl.DataFrame

    def append(self, events: pl.DataFrame) -> None:
        self.lake.table("processed", "tiny", "events").append(events, partition_by=["date"])


def events_of(seed: int, n: int = 1500, users: int = 6, days: int = 80) -> pl.DataFrame:
    """Days without any event, midnights, equal times, items without genres, and users with more than 200 events."""
    random = np.random.default_rng(seed)
    day = random.choice(random.choice(days, size=days // 3, replace=False), size=n)
    time = START + day * DAY + random.choice([0, 1, DAY - 1, *random.integers(0, DAY, 40)], size=n)
    rating = random.choice([None, 0.5, 1.0, 2.5, 3.7, 5.0], size=n)
    user = np.minimum(random.zipf(1.6, size=n), users)
    return (
        pl.DataFrame({"user": user, "item": random.integers(1, 40, n), "timestamp": time, "rating": rating.tolist()})
        .unique(["user", "item", "timestamp"], maintain_order=True)
        .with_columns(pl.col("timestamp").cast(pl.Datetime("ms", "UTC")))
        .with_columns(
            pl.lit("rating").alias("action"),
            pl.lit(None).alias("event_id"),
            pl.lit(None).alias("request_id"),
            pl.col("timestamp").dt.date().alias("date"),
        )
        .with_row_index("source_row")
        .select(LAKE_EVENTS.names())
        .cast(dict(LAKE_EVENTS))
    )


@pytest.fixture
def small(tmp_path):
    lake = Lake((tmp_path / "lake").as_uri())
    items = pl.DataFrame(
        {
            "item": range(1, 36),  # 36..39 occur and are not in the list
            "title": [f"Film {item}" for item in range(1, 36)],
            "genres": [[name for bit, name in enumerate(GENRES) if item >> bit & 1] for item in range(1, 36)],
            "year": [1990] * 35,
        },
        schema=ITEMS,
    )
    lake.table("processed", "tiny", "items").replace(items)
    users = {"user": [1, 2], "gender": ["F", None], "age": [25, None], "occupation": ["1", None], "zip": ["0", None]}
    lake.table("processed", "tiny", "users").replace(pl.DataFrame(users, schema=USERS))
    return Small(lake, events_of(seed=1), items)
