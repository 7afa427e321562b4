"""The step stops at broken rules with the rows shown, and goes on with a warning where something only moved."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from components.report import PREFIX
from components.validate.step import run
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workloads.movies.dataset import LAKE_EVENTS

START = int(datetime(2001, 1, 1, tzinfo=UTC).timestamp() * 1000)


def events(rows, first=0, rating=None):
    number = pl.int_range(first, first + rows, eager=True)
    frame = pl.DataFrame({"user": number // 10 + 1, "item": number % 10, "source_row": number + 1}).with_columns(
        timestamp=(START + number * 600_000).cast(LAKE_EVENTS["timestamp"]),
        rating=pl.lit(rating, pl.Float32) if rating else number % 5 + 1,
        action=pl.lit("rating"),
        event_id=None,
        request_id=None,
    )
    frame = frame.with_columns(date=pl.col("timestamp").dt.date())
    return frame.select(LAKE_EVENTS.names()).cast(LAKE_EVENTS)


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_STORE_URI", tmp_path.as_uri())
    monkeypatch.setenv("SLIPWAY_DATA_SET", "ml-1m")
    settings.cache_clear()
    table = Lake().table("processed", "ml-1m", "events")
    table.append(events(600), partition_by=["date"])
    yield table
    settings.cache_clear()


def told(capsys):
    lines = [line.removeprefix(PREFIX) for line in capsys.readouterr().out.splitlines() if line.startswith(PREFIX)]
    return [event for line in lines if (event := json.loads(line))["event"] != "progress"]


def test_good_data_passes_moved_data_warns_bad_data_stops(table, tmp_path, capsys):
    report = tmp_path / "out" / "report.html"
    metrics = run("movies", "", report)
    assert metrics["validation_events-files_rows"] == 600
    assert [event["event"] for event in told(capsys)] == ["start", "done"]
    assert "every check passed" in report.read_text()

    table.append(events(400, first=600, rating=5))
    metrics = run("movies", "ml-1m", report)
    assert metrics["validation_events-files_warned"] == 2
    _, *warnings, done = told(capsys)
    assert {(w["event"], w["suite"], w["check"]) for w in warnings} == {
        ("warning", "events-files", "mean_rating"),
        ("warning", "events-files", "psi_rating"),
    }
    assert done["event"] == "done"
    assert "Yes, with warnings" in report.read_text()

    table.append(events(3, first=1000, rating=9))
    with pytest.raises(SystemExit) as ended:
        run("movies", "ml-1m", report)
    assert ended.value.code == 1
    error = told(capsys)[-1]
    assert error["event"] == "error"
    assert "refused by events-files (events-files.rating_range: 3)" in error["message"]
    assert "user=101, item=2, timestamp=2001-01-07 23:00:00.000Z, rating=9.0" in error["message"]
    assert "docs/validation.md" in error["remedy"]
    assert "1 of 1 suites refused" in report.read_text(), "the page is there also when the step fails"


def test_a_data_set_that_is_not_there(table, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("movies", "never-seen", tmp_path / "report.html")
    assert "no data set 'never-seen'" in told(capsys)[-1]["message"]
