"""What is said to be in the lake is what is there; on a folder and on S3."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from slipway.lake.status import status
from slipway.settings import settings
from slipway.workloads.movies.intake import IngestConfig
from slipway.workloads.movies.landing import land

WHEN = 978_300_760  # 2000-12-31


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.usefixtures("home")
def test_status_counts_what_landed_and_sees_what_can_be_saved(lake, tmp_path, events):
    assert status(lake).data_sets == ()
    source = tmp_path / "source"
    source.mkdir()
    (source / "movies.dat").write_text("".join(f"{i}::Film {i} (1999)::Drama\n" for i in range(5)))
    (source / "users.dat").write_text("1::F::1::10::48067\n")
    ratings = "".join(f"1::{i}::4::{WHEN + 86_400 * (i % 3)}\n" for i in range(5))
    (source / "ratings.dat").write_text(ratings + "1::4\n1::99::4::978300760\n")
    landed = land(source, lake, "films", IngestConfig(max_bad_share=0.5), lambda *_: None)
    assert (landed.events, landed.items, landed.users, landed.quarantined) == (
        5,
        5,
        1,
        {"fields": 1, "unknown_item": 1},
    )
    again = land(source, lake, "films", IngestConfig(), lambda *_: None)
    assert (again.files, again.version) == ((), 0)
    taken = lake.snapshot("processed", "films", "events")
    lake.table("processed", "films", "events").append(events(1))
    lake.table("logs", "others", "feedback").append(events(2), ["date"])

    found = status(lake)
    films, others = found.data_sets
    tables = {f"{t.area}/{t.name}": t for t in films.tables}
    assert set(tables) == {"raw/quarantine", "processed/events", "processed/items", "processed/users"}
    of = tables["processed/events"]
    assert (of.version, of.rows, of.files, of.partitions, of.compactable) == (1, 6, 4, 3, 1)
    assert (of.first, of.last) == ("2000-12-31", "2001-01-02")
    assert of.newest == datetime.fromtimestamp(WHEN + 2 * 86_400, UTC)
    assert timedelta(0) <= datetime.now(UTC) - of.committed < timedelta(minutes=5)
    assert films.quarantine == {"fields": 1, "unknown_item": 1}
    assert [(f.file, f.events) for f in films.files] == [("ratings.dat", 5), ("movies.dat", 0), ("users.dat", 0)]
    assert films.sizes["raw"] == tables["raw/quarantine"].bytes + sum(p.stat().st_size for p in source.iterdir())
    assert films.sizes["processed"] == sum(tables[t].bytes for t in tables if t.startswith("processed/"))
    assert [(s.id, s.table, s.version) for s in films.snapshots] == [(taken.id, "processed/events", 0)]
    assert (others.name, others.sizes["logs"] > 0, others.files) == ("others", True, ())
    assert status(lake, "others").data_sets == (others,)
    assert (
        lake.table("processed", "films", "events").scan().filter(pl.col("date") == date(2001, 1, 1)).collect().height
        == 3
    )
    settled = (
        lake.table("raw", "films", "quarantine").scan().with_columns(repaired=pl.col("reason") == "fields").collect()
    )
    lake.table("raw", "films", "quarantine").replace(settled, ["day"])
    assert (status(lake, "films").data_sets[0].quarantine, status(lake, "films").data_sets[0].repaired) == (
        {"unknown_item": 1},
        1,
    )
