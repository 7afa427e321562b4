"""A snapshot names what was read: the same bytes are the same id, other bytes are noticed, and what is pinned stays."""

from datetime import timedelta

import polars as pl
import pytest

from slipway import storage
from slipway.errors import IntegrityError, ObjectNotFoundError, StorageError
from slipway.lake.lake import Lake
from slipway.workloads.movies.dataset import LAKE_EVENTS


def test_a_snapshot_is_read_again_after_retention_removed_every_other_version(lake, events):
    table = lake.table("processed", "x", "events")
    table.append(events(5), ["date"])
    table.append(events(5, day=1))
    pinned = lake.snapshot("processed", "x", "events")
    assert (pinned.version, pinned.rows, len(pinned.files)) == (1, 10, 2)
    assert (pinned.area, pinned.data_set, pinned.table) == ("processed", "x", "events")
    assert pinned.bytes == table.files()["bytes"].sum()
    assert lake.snapshot("processed", "x", "events", 1).id == pinned.id
    table.append(events(3, first=9))
    unpinned = table.version
    assert table.compact() == 1
    assert table.scan(unpinned).collect().height == 13
    would = table.vacuum(timedelta(0), lake.snapshots("x"), dry_run=True)
    assert table.vacuum(timedelta(0), lake.snapshots("x")) == would
    assert len(would.files) == 1
    assert would.bytes > 1000
    expected = pl.concat([events(5), events(5, day=1)])
    for rows in (table.scan(1, schema=LAKE_EVENTS), pinned.scan(lake.endpoint_url, LAKE_EVENTS)):
        assert rows.collect().sort("date", "timestamp").equals(expected)
    assert lake.stored_snapshot("x", pinned.id[:8]) == lake.snapshots("x")[0] == pinned
    pinned.verify(lake.endpoint_url)
    assert table.scan().collect().height == 13
    with pytest.raises(ObjectNotFoundError):
        lake.stored_snapshot("x", "feed")


def test_a_file_that_was_hashed_is_not_read_again_and_ids_do_not_depend_on_the_place(folder_lake, events, tmp_path):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(5), ["date"])
    first = table.snapshot()
    table.append(events(5, day=1))
    known = dict.fromkeys(first.hashes, "0" * 64)  # not true: so we see that it was taken at its word
    assert sorted(table.snapshot(known=known).hashes.values())[0] == "0" * 64
    (tmp_path / "elsewhere" / "processed").mkdir(parents=True)
    (tmp_path / "a store" / "processed" / "x").rename(tmp_path / "elsewhere" / "processed" / "x")
    moved = Lake((tmp_path / "elsewhere").as_uri())
    again = moved.snapshot("processed", "x", "events", 0)
    assert (again.id, again.uri) != (first.id, first.uri)
    assert again.id == first.id
    assert moved.snapshot("processed", "x", "events").id != first.id


def test_changed_and_missing_files_and_lists_are_named(lake, events):
    table = lake.table("processed", "x", "events")
    table.append(events(5), ["date"])
    taken = lake.snapshot("processed", "x", "events")
    [file] = taken.files
    objects = storage.store(table.uri, lake.endpoint_url)
    whole = objects.read(file.path)
    objects.write(file.path, whole[:-1] + b"x")
    with pytest.raises(IntegrityError, match=f"{file.path} is not what snapshot {taken.id[:16]} of version 0"):
        taken.verify(lake.endpoint_url)
    objects.delete(file.path)
    with pytest.raises(IntegrityError, match=f"lacks .*{file.path}"):
        taken.verify(lake.endpoint_url)
    with pytest.raises(IntegrityError, match=f"lacks {file.path}"):
        table.snapshot()
    key = f"models/x/snapshots/{taken.id}.json"
    lake.objects.write(key, lake.objects.read(key).replace(file.sha256.encode(), b"0" * 64))
    with pytest.raises(IntegrityError, match=f"{key} was changed"):
        lake.snapshots("x")
    lake.objects.write(key, b"{}")
    with pytest.raises(IntegrityError, match="is no snapshot"):
        lake.snapshots("x")
    with pytest.raises(StorageError, match="no version 7"):
        table.snapshot(7)
