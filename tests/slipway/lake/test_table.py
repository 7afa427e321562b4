"""Commits: whole or not at all, each once, whoever writes beside; and what cannot be read or written, said clearly."""

import subprocess
import sys
import textwrap
from datetime import date

import polars as pl
import pytest

from slipway.errors import ColumnsError, StorageError
from slipway.workloads.movies.dataset import LAKE_EVENTS


def read(table, version=None):
    return table.scan(version, schema=LAKE_EVENTS).collect().sort("date", "timestamp")


def ids(table):
    return sorted(table.scan().select("event_id").collect().to_series())


def test_appends_come_back_in_their_types_once_per_writer_and_version_by_version(lake, events):
    table = lake.table("processed", "x", "events")
    assert not table.exists()
    with pytest.raises(StorageError, match="slipway ingest"):
        table.scan()
    assert table.append(events(3), ["date"], ("stream", 7))
    assert not table.append(events(3), ["date"], ("stream", 7))
    assert table.append(events(2, day=1), writer=("stream", 8))
    assert table.written("stream") == 8
    assert table.written("somebody") is None
    assert (table.version, table.partition_by) == (1, ["date"])
    assert read(table).equals(pl.concat([events(3), events(2, day=1)]))
    assert read(table, 0).equals(events(3))
    assert table.scan().filter(pl.col("date") == date(2001, 1, 2)).collect().height == 2
    with pytest.raises(StorageError, match="no version 9"):
        table.scan(9)
    assert table.files()["rows"].sum() == 5
    assert [(area, data_set, one.name) for area, data_set, one in lake.tables()] == [("processed", "x", "events")]
    assert lake.data_sets() == ["x"]


def test_a_batch_is_many_files_and_one_commit(lake, events):
    table = lake.table("processed", "x", "events")
    with table.batch(LAKE_EVENTS, ["date"], ("files:a", 1), {"source": "ml-1m"}) as batch:
        batch.add(pl.concat([events(2, day=5), events(4, day=3)]))
        assert not table.exists()
        batch.add(events(1, day=5, first=9))
    assert (batch.rows, table.version, table.written("files:a")) == (7, 0, 1)
    assert table.files().sort("path")["rows"].to_list() == [4, 2, 1]
    assert (
        read(table)
        .drop("event_id")
        .equals(
            pl.concat([events(4, day=3), events(2, day=5), events(1, day=5)]).sort("date", "timestamp").drop("event_id")
        )
    )
    assert table.commit_info()["source"] == "ml-1m"

    before = sorted(lake.objects.keys())
    with pytest.raises(ZeroDivisionError), table.batch(LAKE_EVENTS, ["date"]) as batch:  # noqa: PT012
        batch.add(events(5, day=6))
        raise ZeroDivisionError
    assert (table.version, sorted(lake.objects.keys())) == (0, before)
    table.append(events(1, day=7))
    with table.batch(LAKE_EVENTS) as batch:
        batch.add(events(1, day=8))
    assert read(table).height == 9


def test_other_columns_are_refused_by_name_and_nothing_is_written(folder_lake, events):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(1), ["date"])
    changed = events(2).drop("rating").with_columns(pl.col("item").cast(pl.String), surprise=pl.lit(1))
    with pytest.raises(
        ColumnsError, match=r"rating is missing; surprise is new; item is String and was Int64"
    ) as error:
        table.append(changed)
    assert "table of another name" in error.value.remedy
    with pytest.raises(ColumnsError, match="rating is missing"):
        table.batch(changed.schema)
    assert table.version == 0
    table.append(events(1).with_columns(rating=pl.lit(None)).select(reversed(LAKE_EVENTS.names())))
    assert read(table).height == 2
    with pytest.raises(ColumnsError, match="nothing but nulls"):
        folder_lake.table("processed", "x", "new").append(pl.DataFrame({"a": [None]}))
    table.replace(changed.with_columns(tags=pl.lit(["a"], pl.List(pl.Categorical))))
    assert table.schema["tags"] == pl.List(pl.String)
    assert read(table, 1).height == 2
    with pytest.raises(ColumnsError, match="rating is missing"):
        table.scan(schema=LAKE_EVENTS)


def test_a_table_that_somebody_created_meanwhile_is_joined_or_refused_by_its_columns(folder_lake, events):
    table, other = (folder_lake.table("processed", "x", "events") for _ in range(2))
    with table.batch(LAKE_EVENTS, ["date"]) as batch:
        batch.add(events(2))
        other.append(events(1, first=5), ["date"])
    assert (table.version, read(table).height) == (1, 3)
    table, other = (folder_lake.table("processed", "y", "events") for _ in range(2))
    with pytest.raises(ColumnsError, match="rating is new"), table.batch(LAKE_EVENTS, ["date"]) as batch:  # noqa: PT012
        batch.add(events(2))
        other.append(events(1).drop("rating"), ["date"])
    assert (table.version, len(list(table.folder.rglob("*.parquet")))) == (0, 1)


WRITER = """
    import sys
    import polars as pl
    from slipway.lake.table import Table
    me, table = sys.argv[1], Table(*sys.argv[2:])
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(8):
        rows = pl.DataFrame({"event_id": [f"{me}-{n}-{i}" for i in range(5)], "day": [n % 2] * 5})
        assert table.append(rows, ["day"], (me, n))
"""


@pytest.mark.slow
def test_two_processes_that_append_at_once_from_the_first_version_on_lose_nothing(lake):
    table = lake.table("processed", "x", "events")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), name, table.uri, *filter(None, [lake.endpoint_url])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(240) for writer in writers] == [0, 0]
    assert ids(table) == sorted(f"{who}-{n}-{i}" for who in "ab" for n in range(8) for i in range(5))
    assert table.version == 15


def test_a_file_that_was_cut_off_or_is_gone_is_named(folder_lake, events):
    table = folder_lake.table("processed", "x", "events")
    table.append(events(100), ["date"])
    table.append(events(50, day=1))
    path = table.files()["path"][0]
    file = table.folder / path
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=rf"{path} is {len(whole) // 2:,} bytes long") as error:
        table.scan()
    assert "raw/" in error.value.remedy
    file.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(StorageError, match=f"{path} cannot be read"):
        table.read_file(path)
    file.unlink()
    with pytest.raises(StorageError, match=f"{path} is missing"):
        table.scan()


FULL = """
    import resource, sys
    import polars as pl
    from slipway.errors import StorageError
    from slipway.lake.table import Table
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # what a full disk does, to this process alone
    table = Table(sys.argv[1])
    rows = pl.DataFrame({"event_id": pl.Series(range(200_000)).hash().cast(pl.String), "day": 0})
    def batch():
        with table.batch(rows.schema) as many:
            many.add(rows)
    for write in (lambda: table.append(rows), batch):
        try:
            write()
        except StorageError as error:
            print(error.message[-200:], "→", error.remedy)
"""


def test_a_full_disk_leaves_the_former_version_and_says_so(folder_lake):
    table = folder_lake.table("processed", "x", "events")
    table.append(pl.DataFrame({"event_id": ["a"], "day": [0]}, schema_overrides={"day": pl.Int32}), ["day"])
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), table.uri], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout.splitlines()
    assert len(said) == 2
    assert all("File too large" in line and line.endswith("→ free some space and do it again") for line in said)
    assert (table.version, ids(table)) == (0, ["a"])
    assert len(list(table.folder.rglob("*.parquet"))) == 1
