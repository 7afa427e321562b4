"""The data set on disk: one event schema for every source. Knows Parquet and columns, no source format.

<folder>/dataset.json     what it is (DataSet)
<folder>/events/*.parquet partitioned by user range; within a file sorted by (user, timestamp, source_row)
<folder>/items.parquet    item, title, genres, year
<folder>/users.parquet    user and the attributes that the source has
<folder>/quarantine.parquet  file, line, reason, text
"""

from pathlib import Path
from typing import Literal

import polars as pl

from slipway.package import Frozen

EVENTS = pl.Schema(
    {
        "user": pl.Int64(),
        "item": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),  # null throughout where the source gives only an order
        "rating": pl.Float32(),  # null where the action is not a rating
        "action": pl.Enum(["rating", "edit", "interaction", "click"]),
        "source_row": pl.Int64(),  # 1-based line in the source: the tie-breaker
    }
)
ITEMS = pl.Schema({"item": pl.Int64(), "title": pl.String(), "genres": pl.List(pl.String()), "year": pl.Int32()})
USERS = pl.Schema(
    {
        "user": pl.Int64(),
        "gender": pl.String(),
        "age": pl.Int32(),
        "occupation": pl.String(),
        "zip": pl.String(),
    }
)
QUARANTINE = pl.Schema({"file": pl.String(), "line": pl.Int64(), "reason": pl.String(), "text": pl.String()})


class DataSet(Frozen):
    """dataset.json."""

    source: Literal["ml-100k", "ml-1m", "ml-csv", "wikipedia", "ml-1m-sas"]
    events: int
    users: int
    items: int
    quarantined: dict[str, int]  # reason → rows
    timed: bool  # False: an order only, so no temporal split
    repeats: bool  # True: people come back to the same item, so the seen-filter must be off
    sha256: str  # of the event files' hashes: the data snapshot's identity


def read(folder: Path) -> DataSet:
    return DataSet.model_validate_json((folder / "dataset.json").read_bytes())


def scan_events(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "events" / "*.parquet", schema=EVENTS)
