"""The lake as pages read it: snapshots by version, facts from the tables' logs. Knows where, not what is drawn.

A version never changes, so whatever is computed from a Snapshot may be kept: st.cache_data takes it as a key, and a
new version is a new key. Facts come from the log of versions, so no data file is opened for them.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import streamlit as st

from slipway.lake import ledger
from slipway.lake.lake import Area, Lake
from slipway.lake.ledger import Ingested

SECONDS = 10.0
"""How long a look at the lake's newest versions may be old."""


@dataclass(frozen=True)
class Snapshot:
    """One version of one table."""

    area: Area
    data_set: str
    name: str
    version: int

    def scan(self) -> pl.LazyFrame:
        return lake().table(self.area, self.data_set, self.name).scan(self.version)


@dataclass(frozen=True)
class Facts:
    """What the log says of a table: rows, bytes and files now; when it was last written; its partitions' days."""

    snapshot: Snapshot
    rows: int
    size: int
    files: int
    written: datetime | None
    days: tuple[tuple[date, int], ...]  # (partition, rows), sorted; () where it has no days
    newest: datetime | None  # the greatest time of an event in it

    @property
    def first(self) -> date | None:
        return self.days[0][0] if self.days else None

    @property
    def last(self) -> date | None:
        return self.days[-1][0] if self.days else None


@st.cache_resource
def lake() -> Lake:
    return Lake()


@st.cache_data(ttl=SECONDS, show_spinner=False)
def snapshots() -> list[Snapshot]:
    """Every table of the lake in its newest version."""
    return [Snapshot(area, data_set, table.name, table.version) for area, data_set, table in lake().tables()]


def data_sets() -> list[str]:
    return sorted({snapshot.data_set for snapshot in snapshots()})


def find(area: Area, data_set: str, name: str) -> Snapshot | None:
    """None where there is no such table yet."""
    wanted = (area, data_set, name)
    return next((s for s in snapshots() if (s.area, s.data_set, s.name) == wanted), None)


def of(data_set: str, area: Area | None = None) -> list[Snapshot]:
    return [s for s in snapshots() if s.data_set == data_set and area in (None, s.area)]


@st.cache_data(show_spinner=False, max_entries=256)
def facts(snapshot: Snapshot) -> Facts:
    table = lake().table(snapshot.area, snapshot.data_set, snapshot.name)
    files = table.files(snapshot.version)
    day = next((name for name in ("partition.date", "partition.day") if name in files.columns), None)
    days = []
    if day:
        by = files.group_by(pl.col(day).cast(pl.Date)).agg(pl.col("rows").sum()).drop_nulls().sort(day)
        days = list(by.iter_rows())
    times = [name for name in ("max.timestamp", "max.event_timestamp", "max.rejected_at") if name in files.columns]
    newest = files[times[0]].max() if times else None
    last = table.open(snapshot.version).history(1)
    return Facts(
        snapshot=snapshot,
        rows=int(files["rows"].sum() or 0) if files.height else 0,
        size=int(files["bytes"].sum() or 0) if files.height else 0,
        files=files.height,
        written=_instant(last[0].get("timestamp")) if last else None,
        days=tuple(days),
        newest=newest if isinstance(newest, datetime) else None,
    )


@st.cache_data(show_spinner=False, max_entries=256)
def commits(snapshot: Snapshot, limit: int = 50) -> pl.DataFrame:
    """when, operation, rows (added), version: the newest first."""
    table = lake().table(snapshot.area, snapshot.data_set, snapshot.name)
    rows = [
        {
            "when": _instant(entry.get("timestamp")),
            "operation": str(entry.get("operation", "")).title(),
            "rows": int(entry.get("operationMetrics", {}).get("num_added_rows") or 0),
            "version": int(entry["version"]),
        }
        for entry in table.open(snapshot.version).history(limit)
    ]
    kinds: dict[str, Any] = {
        "when": pl.Datetime("ms", "UTC"),
        "operation": pl.String,
        "rows": pl.Int64,
        "version": pl.Int64,
    }
    return pl.DataFrame(rows, schema=kinds)


@st.cache_data(ttl=SECONDS, show_spinner=False)
def ingested(data_set: str) -> list[Ingested]:
    """The source files that are in the lake, the oldest first."""
    return ledger.records(lake(), data_set)


def _instant(milliseconds: object) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if isinstance(milliseconds, int | float) else None
