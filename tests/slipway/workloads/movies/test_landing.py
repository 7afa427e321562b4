"""Files come into the lake once: however often they are brought, however large they are, whatever is wrong in them."""

import os
import shutil
from fcntl import LOCK_EX, flock
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.errors import BusyError, QuarantineLimitError, SourceError, StorageError
from slipway.lake import ledger
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workloads.movies import dataset, days
from slipway.workloads.movies.dataset import LAKE_EVENTS, USERS
from slipway.workloads.movies.ingest import ingest
from slipway.workloads.movies.intake import IngestConfig
from slipway.workloads.movies.landing import land
from slipway.workloads.movies.messages import CATALOGUE, QUARANTINE

WHEN = 978_300_760
DAY = 86_400


def quiet(what, share, metrics):
    assert 0 <= share <= 1


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield Lake((tmp_path / "lake").as_uri())
    settings.cache_clear()


def events(lake, name="x"):
    return (
        lake.table("processed", name, "events")
        .scan(schema=LAKE_EVENTS)
        .collect()
        .sort("user", "timestamp", "source_row")
    )


def quarantine(lake, name="x"):
    rows = lake.table("raw", name, "quarantine").scan(schema=QUARANTINE).sort("source", "line").collect()
    return rows.select("source", "reason", "line", "text", "repaired").rows()


def ratings(rows: int, spread: int, users: int = 40, seed: int = 0) -> bytes:
    """Distinct pairs over `spread` days, half of them on one of these days."""
    random = np.random.default_rng(seed)
    pairs = random.permutation(users * 500)[:rows]
    when = WHEN + np.where(random.random(rows) < 0.5, 3, random.integers(0, spread, rows)) * DAY
    return "".join(
        f"{p // 500 + 1}::{p % 500 + 1}::{p % 5 + 1}::{t}\n" for p, t in zip(pairs, when, strict=True)
    ).encode()


@pytest.fixture
def files(source_files, tmp_path):
    """source_files, any number of times."""

    def make(form: str, **replaced: bytes | None) -> Path:
        shutil.rmtree(tmp_path / form, ignore_errors=True)
        return source_files(form, **replaced)

    return make


@pytest.fixture
def many(files):
    films = "".join(f"{i}::Film {i} (1999)::Drama\n" for i in range(1, 501)).encode()
    people = "".join(f"{u}::F::25::4::12345\n" for u in range(1, 41)).encode()

    def make(text: bytes) -> Path:
        return files("ml-1m", **{"ratings.dat": text, "movies.dat": films, "users.dat": people})

    return make


@pytest.mark.parametrize("form", ["ml-100k", "ml-1m", "ml-csv", "wikipedia"])
def test_each_format_lands_as_the_data_set_has_it(lake, source_files, tmp_path, form):
    folder = source_files(form)
    landed = land(folder, lake, "x", IngestConfig(max_bad_share=0.5), quiet)
    ingest(folder, tmp_path / "out", IngestConfig(max_bad_share=0.5), quiet)
    expected = dataset.scan_events(tmp_path / "out").collect().sort("user", "timestamp", "source_row")
    found = events(lake)
    assert found.schema == LAKE_EVENTS
    assert found.select(expected.columns).cast({"action": pl.String}).equals(expected.cast({"action": pl.String}))
    assert (found["date"] == found["timestamp"].dt.date()).all()
    assert landed.events == found.height
    for name, schema, key in (("items", CATALOGUE, "item"), ("users", USERS, "user")):
        table = lake.table("processed", "x", name).scan(schema=schema).collect().sort(key)
        listed = pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
        assert table.select(listed.columns).equals(listed)
    files = {record.file: record for record in ledger.records(lake, "x")}
    assert set(files) == set(landed.files)
    for record in files.values():
        kept = f"raw/x/files/{record.sha256[:16]}/{record.file}"
        assert lake.objects.read(kept) == (folder / record.file).read_bytes()


def test_any_block_size_and_any_size_of_days_give_the_same_lake_in_one_commit(lake, many, monkeypatch):
    folder = many(ratings(3000, 50))
    first = land(folder, lake, "x", IngestConfig(), quiet)
    monkeypatch.setattr(days.Days.__init__, "__defaults__", (100,))
    second = land(folder, lake, "y", IngestConfig(block_bytes=5_000), quiet)
    assert (first.events, first.version, second.events, second.version) == (3000, 0, 3000, 0)
    assert events(lake, "x").equals(events(lake, "y"))
    files = lake.table("processed", "y", "events").files()
    assert files["rows"].max() < 400  # of a day with 1,500: it was spread
    assert lake.table("processed", "x", "events").files().height == files["partition.date"].n_unique() == 50


def test_what_was_ingested_is_skipped_and_a_file_that_grew_brings_only_what_is_new(lake, many):
    text = ratings(300, 30)
    land(many(text), lake, "x", IngestConfig(), quiet)
    again = land(many(text), lake, "x", IngestConfig(), quiet)
    assert (again.files, set(again.skipped)) == ((), {"ratings.dat", "movies.dat", "users.dat"})
    assert again.version == 0
    grown = many(text + f"1::499::5::{WHEN + 90 * DAY}\n1::498::5::{WHEN + 3 * DAY}\n".encode())
    third = land(grown, lake, "x", IngestConfig(), quiet)
    assert (third.files, third.events, third.known) == (("ratings.dat",), 2, 300)
    assert events(lake).height == 302
    assert events(lake)["source_row"].max() == 302
    versions = {name: lake.table("processed", "x", name).version for name in ("events", "items", "users")}
    assert versions == {"events": 1, "items": 0, "users": 0}


def test_bad_rows_are_quarantined_once_with_line_and_reason(lake, many):
    folder = many(ratings(300, 5) + b"1::7\n1::9999::3::978300760\n")
    land(folder, lake, "x", IngestConfig(), quiet)
    assert quarantine(lake) == [
        ("files:ratings.dat", "fields", 301, "1::7", False),
        ("files:ratings.dat", "unknown_item", 302, "1::9999::3::978300760", False),
    ]
    land(many((folder / "ratings.dat").read_bytes() + b"one more\n"), lake, "x", IngestConfig(), quiet)
    assert len(quarantine(lake)) == 5  # another file: all of its bad lines


def test_above_the_limit_the_rows_are_shown_and_no_event_lands(lake, many):
    folder = many(ratings(100, 5) + b"bad\n" * 3)
    with pytest.raises(QuarantineLimitError, match=r"3 of 103 rows .*fields: 3") as error:
        land(folder, lake, "x", IngestConfig(), quiet)
    assert "raw/x/quarantine" in error.value.remedy
    assert len(quarantine(lake)) == 3
    assert not lake.table("processed", "x", "events").exists()
    assert land(folder, lake, "x", IngestConfig(max_bad_share=0.1), quiet).events == 100
    assert len(quarantine(lake)) == 3


@pytest.mark.parametrize("share", [0.2, 0.61, 1.01])
def test_a_killed_ingestion_leaves_no_half_and_is_gone_on_with(lake, many, share, monkeypatch):
    folder = many(ratings(2000, 300) + b"bad\n")
    config = IngestConfig(block_bytes=8_000)

    def kill(what, done, metrics):
        if done >= share:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record", lambda *_: kill("record", 2, {}))
        with pytest.raises(KeyboardInterrupt):
            land(folder, lake, "x", config, kill)
    committed = share > 1  # what is missing then is the record
    assert lake.table("processed", "x", "events").exists() == committed
    assert land(folder, lake, "x", config, quiet).events == (0 if committed else 2000)
    assert events(lake).height == 2000
    assert len(quarantine(lake)) == 1
    assert not list((settings().home / "scratch" / "x").iterdir())


def test_files_that_change_while_they_are_read_are_refused(lake, many):
    folder = many(ratings(300, 30))

    def change(what, done, metrics):
        if 0.4 < done < 0.5:
            (folder / "users.dat").write_bytes((folder / "users.dat").read_bytes() + b"41::F::25::4::12345\n")

    with pytest.raises(SourceError, match="changed while they were read"):
        land(folder, lake, "x", IngestConfig(block_bytes=2_000), change)
    assert not lake.table("processed", "x", "events").exists()
    assert land(folder, lake, "x", IngestConfig(), quiet).events == 300


def test_what_cannot_land_is_refused_with_the_remedy(lake, files, many):
    with pytest.raises(SourceError, match="knows an order and no times") as error:
        land(files("ml-1m-sas"), lake, "x", IngestConfig(), quiet)
    assert "slipway run --data" in error.value.remedy
    with pytest.raises(SourceError, match="holds no event"):
        land(many(b""), lake, "x", IngestConfig(max_bad_share=1), quiet)
    land(files("ml-1m"), lake, "x", IngestConfig(), quiet)
    renamed = (files("ml-1m") / "movies.dat").read_bytes().replace(b"James", b"Jane").replace(b"Return", b"End")
    with pytest.raises(SourceError, match="2 of 2 films have another title") as error:
        land(files("ml-1m", **{"movies.dat": renamed}), lake, "x", IngestConfig(), quiet)
    assert "--data-set" in error.value.remedy
    assert len(list(lake.objects.keys("raw/x/files/"))) == 3  # of the films that were not refused
    lock = os.open(settings().home / "scratch" / "x", os.O_RDONLY)
    flock(lock, LOCK_EX)
    with pytest.raises(BusyError):
        land(files("ml-csv"), lake, "x", IngestConfig(), quiet)
    os.close(lock)
    key = f"raw/x/ingested/{ledger.records(lake, 'x')[0].sha256[:16]}.json"
    lake.objects.write(key, b"{")
    with pytest.raises(StorageError, match=f"{key} is no record"):
        land(files("ml-1m"), lake, "x", IngestConfig(), quiet)
