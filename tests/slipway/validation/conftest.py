"""A small lake as ingestion leaves it: a week of ratings, films, people and what was rejected."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.lake.lake import Lake
from slipway.workloads.movies.dataset import LAKE_EVENTS, USERS
from slipway.workloads.movies.messages import CATALOGUE, QUARANTINE

START = datetime(2001, 1, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]


def ratings(rows: int, start: datetime = START, days: float = 7, seed: int = 0, **columns: object) -> pl.DataFrame:
    """LAKE_EVENTS of a file; no user rates an item twice. columns: replace some, by expressions or values."""
    random = np.random.default_rng(seed)
    at = np.sort(random.integers(0, int(days * 86_400_000), rows)) + int(start.timestamp() * 1000)
    number = np.arange(rows)
    frame = pl.DataFrame(
        {
            "user": number // 20 + 1,
            "item": number % 20 * 2 + random.integers(1, 3, rows),
            "timestamp": pl.Series(at).cast(LAKE_EVENTS["timestamp"]),
            "rating": random.integers(1, 6, rows).astype(np.float32),
            "action": "rating",
            "source_row": number + 1 + seed * 1_000_000,
            "event_id": None,
            "request_id": None,
        }
    ).with_columns(**{name: v if isinstance(v, pl.Expr) else pl.lit(v) for name, v in columns.items()})
    return frame.with_columns(date=pl.col("timestamp").dt.date()).select(LAKE_EVENTS.names()).cast(LAKE_EVENTS)


@pytest.fixture(scope="session")
def rows() -> Rows:
    return ratings


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """The data set "ml-1m": 2,000 events, films 1 to 40, users 1 to 100. The folder's name has a space."""
    lake = Lake((tmp_path / "a lake").as_uri())
    lake.table("processed", "ml-1m", "events").append(ratings(2000), partition_by=["date"])
    films = {"item": range(1, 41), "title": [f"Film {n}" for n in range(1, 41)], "genres": [["Drama"]] * 40}
    lake.table("processed", "ml-1m", "items").replace(
        pl.DataFrame({**films, "year": 1990, "released": None}, schema=CATALOGUE)
    )
    people = {"user": range(1, 101), "gender": ["F", "M"] * 50, "age": 25, "occupation": "1", "zip": "0"}
    lake.table("processed", "ml-1m", "users").replace(pl.DataFrame(people, schema=USERS))
    return lake


@pytest.fixture(scope="session")
def reject() -> Callable[..., None]:
    """reject(lake, "files:ratings.dat", [(7, "fields", "a line"), …]): into the quarantine of "ml-1m"."""

    def put(lake: Lake, source: str, bad: list[tuple[int | None, str, str]], days_ago: int = 0) -> None:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        frame = pl.DataFrame(bad, schema={"line": pl.Int64, "reason": pl.String, "text": pl.String}, orient="row")
        marks = {"rejected_at": at, "source": source, "repaired": False, "day": at.date()}
        rows = frame.with_columns(**{name: pl.lit(value) for name, value in marks.items()})
        lake.table("raw", "ml-1m", "quarantine").append(
            rows.select(QUARANTINE.names()).cast(QUARANTINE), partition_by=["day"]
        )

    return put
