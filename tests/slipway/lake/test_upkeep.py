"""Compaction keeps every row once, whatever is written meanwhile; retention keeps what is young, pinned or in use."""

import os
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from slipway.errors import ConflictError, StorageError
from slipway.lake import compaction
from slipway.lake.status import status

DAY = 86_400


def test_compaction_sorts_and_keeps_the_first_of_what_two_writers_let_in(folder_lake, events):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(4), ["date"])
    table.append(events(6).with_columns(item=pl.lit(99, pl.Int64)))  # 0-0 … 0-3 again, and two more
    table.append(events(1, day=3))
    nameless = events(2).with_columns(event_id=pl.lit(None, pl.String))
    table.append(nameless)
    [found] = status(folder_lake).data_sets
    assert found.tables[0].compactable == 2
    assert table.compact() == 2
    rows = table.scan().collect()
    assert rows.filter(pl.col("event_id").is_not_null()).sort("date", "timestamp")["item"].to_list() == [
        *events(4)["item"],
        99,
        99,
        0,
    ]
    assert rows.height == 9  # what has no id is nobody's double
    files = table.files()
    assert files.sort("path")["rows"].to_list() == [8, 1]
    assert table.read_file(files.sort("path")["path"][0])["timestamp"].is_sorted()
    assert table.compact() == 0
    assert table.open().version() == 4
    assert (table.folder / "_delta_log" / "_last_checkpoint").is_file()


def test_what_is_appended_while_a_partition_is_compacted_stays(folder_lake, events, monkeypatch):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(2), ["date"])
    table.append(events(2, first=2))
    table.append(events(2, day=1))
    table.append(events(2, day=1, first=2))
    read, others = table.read_file, folder_lake.table("processed", "x", "events")

    def read_while_somebody_appends(path):
        rows = read(path)
        others.append(events(1, first=100 + others.version))
        return rows

    monkeypatch.setattr(table, "read_file", read_while_somebody_appends)
    assert compaction.compact(table) == 2
    assert table.scan().collect().height == 12
    assert sorted(table.files()["rows"]) == [1, 1, 1, 1, 4, 4]


def test_two_that_compact_the_same_partition_do_not_double_it(folder_lake, events, monkeypatch):
    table, other = (folder_lake.table("processed", "x", "events") for _ in range(2))
    table.append(events(2), ["date"])
    table.append(events(2, first=2))
    read = table.read_file

    def read_while_the_other_compacts(path):
        rows = read(path)
        other.compact()
        return rows

    monkeypatch.setattr(table, "read_file", read_while_the_other_compacts)
    with pytest.raises(ConflictError, match="do it again"):
        compaction.compact(table)
    assert table.scan().collect().height == 4
    assert table.files()["rows"].to_list() == [4]


def test_retention_forgets_the_old_log_but_not_a_pinned_version(folder_lake, events):
    table = folder_lake.table("processed", "x", "events")
    for n in range(60):
        table.append(events(1, first=n), ["date"])
        if n == 54:
            pinned = folder_lake.snapshot("processed", "x", "events")
    table.compact()
    log = table.folder / "_delta_log"
    for path in [*log.iterdir(), *table.folder.rglob("*.parquet")]:
        age = 40 * DAY if path.parent != log or int(path.name[:20] if path.name[0] == "0" else 99) < 58 else 0
        os.utime(path, (time.time() - age,) * 2)
    aged = pinned.model_copy(update={"committed": datetime.now(UTC) - timedelta(days=45)})
    assert not table.vacuum(timedelta(days=30), [aged]).files  # the compaction is young: its past is kept 30 days
    assert table.scan(54).collect().height == 55
    assert (log / f"{0:020}.json").exists()
    removed = table.vacuum(timedelta(0), [aged])
    assert len(removed.files) == 5
    assert table.scan(54).collect().height == 55
    assert table.vacuum(timedelta(0)).bytes > 0
    table.vacuum(timedelta(days=30))
    assert not (log / f"{0:020}.json").exists()
    assert table.scan().collect().height == 60
    with pytest.raises(StorageError, match="has no version 3"):
        table.scan(3)


def test_a_writer_that_was_killed_leaves_files_that_go_when_they_are_old(folder_lake, events):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(2), ["date"])
    left = table.folder / "date=2001-01-01" / "part-00000-killed.parquet"
    left.write_bytes(b"half")
    assert not table.vacuum(timedelta(hours=2)).files
    os.utime(left, (time.time() - 3 * 3600,) * 2)
    assert table.vacuum(timedelta(hours=2)).files == ("date=2001-01-01/part-00000-killed.parquet",)
    assert table.scan().collect().height == 2
    assert not left.exists()


def test_logs_expire_by_whole_days_and_leave_the_disk_with_their_versions(folder_lake, events):
    from slipway.lake.retention import expire

    table = folder_lake.table("logs", "x", "exposures")
    for day in (1, 2, 3):
        table.append(events(4, day=day), ["date"])
    dates = sorted(table.scan().collect()["date"].unique())
    version = table.version
    assert expire(table, dates[2], dry_run=True) == 8
    assert table.scan().collect().height == 12
    assert expire(table, dates[2]) == 8
    assert table.scan().collect()["date"].unique().to_list() == [dates[2]]
    assert table.scan(version).collect().height == 12
    assert expire(table, dates[2]) == 0
    table.vacuum(timedelta(0))
    assert len(list(table.folder.rglob("part-*.parquet"))) == 1
    items = folder_lake.table("processed", "x", "items")
    items.append(pl.DataFrame({"item": [1]}))
    with pytest.raises(StorageError, match="not partitioned by date"):
        expire(items, dates[0])
