"""What is in the lake: tables, partitions, snapshots, rejected rows, freshness, sizes. Reads logs and records, no data.

The one exception is the quarantine, whose reasons are not in its log: two columns of it are read.
"""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from slipway.lake import ledger
from slipway.lake.compaction import TIMES
from slipway.lake.lake import AREAS, Area, Lake
from slipway.lake.ledger import Ingested
from slipway.lake.table import Table
from slipway.package import Frozen

QUARANTINE = "quarantine"


class TableStatus(Frozen):
    area: Area
    name: str
    version: int
    rows: int
    bytes: int
    files: int
    partitions: int  # 1 where the table has none
    first: str | None  # partition, of the first partition column
    last: str | None
    newest: datetime | None  # time of the newest row, as far as the writers noted it
    committed: datetime  # when the version was
    compactable: int  # files that slipway data compact would save


class SnapshotStatus(Frozen):
    id: str
    table: str  # area/name
    version: int
    rows: int
    bytes: int
    created: datetime


class DataSetStatus(Frozen):
    name: str
    tables: tuple[TableStatus, ...]
    files: tuple[Ingested, ...]
    snapshots: tuple[SnapshotStatus, ...]
    quarantine: dict[str, int]  # reason → rows that are not repaired
    repaired: int
    sizes: dict[Area, int]  # bytes of the newest versions; in raw of the source files too, in models of the records


class Status(Frozen):
    uri: str
    at: datetime
    data_sets: tuple[DataSetStatus, ...]


def status(lake: Lake, data_set: str | None = None) -> Status:
    """Of one data set or of all. Raises StorageError when a table's log cannot be read."""
    tables: dict[str, list[tuple[Area, Table]]] = {name: [] for name in lake.data_sets()}
    for area, owner, table in lake.tables():
        tables[owner].append((area, table))
    chosen = [name for name in tables if data_set in (None, name)]
    return Status(
        uri=lake.uri,
        at=datetime.now(UTC),
        data_sets=tuple(_data_set(lake, name, tables[name]) for name in chosen),
    )


def _data_set(lake: Lake, name: str, tables: list[tuple[Area, Table]]) -> DataSetStatus:
    found = tuple(_table(area, table) for area, table in tables)
    files = tuple(ledger.records(lake, name))
    sizes = dict.fromkeys(AREAS, 0)
    for one in found:
        sizes[one.area] += one.bytes
    sizes["raw"] += sum(file.bytes for file in files)
    sizes["models"] += sum(size for _, size in lake.objects.sizes(f"models/{name}/"))
    reasons, repaired = _quarantine(lake.table("raw", name, QUARANTINE))
    return DataSetStatus(
        name=name,
        tables=found,
        files=files,
        snapshots=tuple(
            SnapshotStatus(
                id=s.id, table=f"{s.area}/{s.table}", version=s.version, rows=s.rows, bytes=s.bytes, created=s.created
            )
            for s in lake.snapshots(name)
        ),
        quarantine=reasons,
        repaired=repaired,
        sizes=sizes,
    )


def _table(area: Area, table: Table) -> TableStatus:
    delta = table.open()
    files = table.files()
    keys = [f"partition.{key}" for key in table.partition_by]
    values = files[keys[0]].drop_nulls() if keys else pl.Series(dtype=pl.String)
    partitions = files.n_unique(keys) if keys else 1
    moments = [files[f"max.{name}"].max() for name in TIMES if f"max.{name}" in files.columns and files.height]
    return TableStatus(
        area=area,
        name=table.name,
        version=int(delta.version()),
        rows=int(files["rows"].sum()),
        bytes=int(files["bytes"].sum()),
        files=files.height,
        partitions=partitions,
        first=None if values.is_empty() else str(values.min()),
        last=None if values.is_empty() else str(values.max()),
        newest=next((_utc(moment) for moment in moments if moment is not None), None),
        committed=table.committed(),
        compactable=max(0, files.height - partitions),
    )


def _utc(moment: Any) -> datetime:
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert isinstance(moment, date)
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


def _quarantine(table: Table) -> tuple[dict[str, int], int]:
    if not table.exists():
        return {}, 0
    counts = table.scan().group_by("reason", "repaired").len().sort("len", descending=True).collect()
    reasons: dict[str, int] = {}
    repaired = 0
    for reason, is_repaired, count in counts.iter_rows():
        if is_repaired:
            repaired += count
        else:
            reasons[reason] = reasons.get(reason, 0) + count
    return reasons, repaired
