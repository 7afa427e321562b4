"""Good tables pass, and every rule that is broken is named, counted and shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandera.polars as pa
import polars as pl
import pytest
from pydantic import ValidationError

from slipway import workload
from slipway.errors import ConfigError, DataQualityError
from slipway.lake import ledger
from slipway.lake.columns import kept_schema
from slipway.validation import keys, tables
from slipway.validation.report import SHOWN, Report, render
from slipway.validation.suite import Rule
from slipway.validation.validate import validate
from slipway.workloads.movies import checking, logsuites, suites
from slipway.workloads.movies.attribution import EXAMPLES
from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.features.views import VIEWS
from slipway.workloads.movies.messages import EXPOSURES

SUITE = suites.events("ml-1m")
KNOWN = {"items": pl.Series(range(1, 41))}
FIRST = pl.int_range(pl.len()) < 3  # the first three rows
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def kept(frame):
    """As the lake gives it back."""
    return frame.cast(kept_schema(frame.schema)).lazy()


def bad(column, value):
    return pl.when(FIRST).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def test_a_good_table_passes_and_the_report_is_data(lake):
    report = tables.check(lake.table("processed", "ml-1m", "events"), SUITE, known=KNOWN, now=NOW)
    assert report.passed
    assert not report.warned
    report.raise_if_failed()
    assert (report.rows, report.suite, report.version, report.snapshot) == (2000, "events-ml-1m", SUITE.version, 0)
    assert Report.model_validate_json(report.model_dump_json()) == report.model_copy(update={"profile": None})
    with pytest.raises(ValidationError):
        report.rows = 3
    metrics = report.metrics()
    assert metrics["validation_events-ml-1m_rows"] == 2000
    assert metrics["validation_events-ml-1m_item_known"] == 0
    assert metrics["validation_events-ml-1m_duplicates_user_item"] == 0
    assert "Yes: every check passed." in render([report])


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("user_not_null", {"user": bad("user", None)}),
        ("user_least", {"user": bad("user", -1)}),
        ("item_known", {"item": bad("item", 41)}),
        ("rating_range", {"rating": bad("rating", 6.0)}),
        ("rating_whole", {"rating": bad("rating", 2.5)}),
        ("rating_of_ratings", {"rating": bad("rating", None)}),
        ("action_values", {"action": bad("action", "click"), "rating": bad("rating", None)}),
        ("date_of_time", {"date": bad("date", datetime(2001, 2, 1, tzinfo=UTC).date())}),
        ("timestamp_not_in_future", {"timestamp": bad("timestamp", NOW + timedelta(minutes=6))}),
        ("timestamp_not_before", {"timestamp": bad("timestamp", datetime(1990, 1, 1, tzinfo=UTC))}),
        ("source_row_least", {"source_row": bad("source_row", 0)}),
        ("no_event_id", {"event_id": bad("event_id", "x")}),
    ],
)
def test_a_broken_rule_is_named_counted_and_shown(rows, monkeypatch, check, change):
    monkeypatch.setattr(keys, "BATCH", 300)  # the rows of a check come from several batches
    frame = rows(1000).with_columns(**change)
    if check != "date_of_time":
        frame = frame.with_columns(date=pl.col("timestamp").dt.date())
    frame = pl.concat([frame.slice(3), frame.head(3)])
    report = validate(kept(frame.cast(LAKE_EVENTS)), SUITE, known=KNOWN, now=NOW)
    [failed] = report.failures
    assert (failed.name, failed.rows, len(failed.examples)) == (check, 3, 3)
    with pytest.raises(DataQualityError, match=check) as refused:
        report.raise_if_failed()
    assert f"{failed.column}=" in refused.value.message
    assert refused.value.failed == {f"events-ml-1m.{check}": 3}
    assert "✗ failed" in render([report])


def test_examples_are_few_and_everything_is_escaped(rows):
    frame = rows(500, item=pl.lit(99)).with_columns(event_id=pl.lit("<script>"))
    report = validate(kept(frame), SUITE, known=KNOWN, now=NOW)
    assert {c.name: (c.rows, len(c.examples)) for c in report.failures} == {
        "item_known": (500, SHOWN),
        "no_event_id": (500, SHOWN),
    }
    page = render([report])
    assert "<script>" not in page
    assert "The first 20 of 500 failing rows" in page


def test_a_key_is_unique_over_batches_and_passes(rows, monkeypatch):
    monkeypatch.setattr(keys, "BATCH", 700)
    monkeypatch.setattr(keys, "HELD", 900)  # 4 passes over 3,000 keys
    frame = rows(3000, source_row=pl.lit(None), event_id=pl.format("e{}", pl.int_range(pl.len())))
    stream = suites.events("stream")
    assert validate(kept(frame), stream, known=KNOWN, now=NOW).passed
    numbers = np.arange(3000)
    numbers[2000:2030] = numbers[:30]  # 30 ids twice
    numbers[2500:2510] = numbers[0]  # and one twelve times
    twice = frame.with_columns(event_id=pl.format("e{}", pl.Series(numbers)))
    report = validate(kept(twice), stream, known=KNOWN, now=NOW)
    [failed] = report.failures
    assert (failed.name, failed.rows) == ("event_id_unique", 40)
    assert len({row["event_id"] for row in failed.examples}) < len(failed.examples) == SHOWN
    again = frame.with_columns(
        user=pl.lit(1), item=pl.lit(2), timestamp=pl.Series(numbers).cast(frame.schema["timestamp"])
    )
    soft = keys.Keys(("user", "item", "timestamp"), 3000, exact=False)
    soft.add(again)
    soft.finish(again.lazy(), 0)
    assert soft.doubles == pytest.approx(40, abs=25), "of a quarter of the hashes, times four"
    nameless = validate(kept(frame.with_columns(event_id=pl.lit(None, pl.String))), stream, known=KNOWN, now=NOW)
    assert [c.name for c in nameless.failures] == ["event_id_not_null"], "no names are no doubles"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.rename({"rating": "stars"}), "rating is missing, and stars is new and of its type: renamed?"),
        (lambda f: f.drop("rating"), "rating is missing"),
        (lambda f: f.with_columns(extra=pl.lit(1)), r"extra \(Int32\) is new"),
        (lambda f: f.with_columns(user=pl.col("user").cast(pl.String)), "user is String, not Int64"),
    ],
)
def test_changed_columns_are_named_before_a_row_is_read(rows, change, says):
    report = validate(change(kept(rows(10))), SUITE, known=KNOWN)
    [failed] = report.failures
    assert failed.name == "columns"
    assert {c.status for c in report.checks} == {"failed", "skipped"}
    assert report.profile is None
    with pytest.raises(DataQualityError, match=says):
        report.raise_if_failed()
    assert "columns" in render([report])


def test_an_empty_table_and_a_column_of_nothing(rows, lake):
    empty = validate(kept(rows(1).head(0)), SUITE, known=KNOWN)
    assert [c.name for c in empty.failures] == ["not_empty"]
    assert "there are 0" in empty.failures[0].message
    silent = validate(kept(pl.DataFrame(schema=EXPOSURES)), logsuites.EXPOSURES_SUITE, known=KNOWN)
    assert silent.passed, "nobody was shown anything yet"
    people = lake.table("processed", "ml-1m", "users").scan().with_columns(age=pl.lit(None, pl.Int32))
    report = validate(people, suites.users("ml-1m"))
    assert [(c.name, c.message) for c in report.warnings] == [("nulls_age", "nothing but nulls")]


def test_a_version_is_a_hash_of_what_the_suite_says():
    assert suites.events("ml-1m").version == SUITE.version
    assert suites.events("ml-csv").version != SUITE.version
    other = [
        replace(SUITE, minimum=2),
        replace(SUITE, soft=SUITE.soft[1:]),
        replace(SUITE, past={"timestamp": timedelta(minutes=6)}),
        replace(SUITE, references={}),
        replace(SUITE, rules=(*SUITE.rules[1:], Rule("r", "user", pl.col("user") > 1, "is more"))),
        replace(SUITE, rules=(*SUITE.rules[1:], Rule("r", "user", pl.col("user") > 2, "is more"))),
        replace(SUITE, schema=SUITE.schema.update_column("rating", nullable=False)),
        replace(SUITE, schema=SUITE.schema.update_column("rating", checks=[pa.Check.in_range(1, 4)])),
        replace(SUITE, schema=SUITE.schema.update_column("rating", checks=[pa.Check.in_range(1, 3)])),
    ]
    assert len({SUITE.version, *(suite.version for suite in other)}) == len(other) + 1


def test_every_source_and_table_has_a_suite_with_its_own_facts():
    assert {suites.events(source).name for source in suites.SOURCES} == {f"events-{s}" for s in suites.SOURCES}
    with pytest.raises(ConfigError, match="no suite for the source 'netflix'"):
        suites.events("netflix")
    every = [
        *map(suites.events, suites.SOURCES),
        *logsuites.TABLES.values(),
        suites.TRAINING_SUITE,
        *map(logsuites.view, VIEWS),
    ]
    for suite in every:
        assert set(suite.ids) <= set(suite.schema.columns)
        assert suite.time is None or suite.time in suite.schema.columns
        assert {rule.column for rule in suite.rules} <= set(suite.schema.columns)
        looked_at = {c for e in suite.soft for c in getattr(e, "columns", ()) or [getattr(e, "column", None)] if c}
        assert looked_at <= set(suite.schema.columns), suite.name


def exposures(**columns):
    shown = {
        "request_id": ["a", "b"],
        "user": [1, 2],
        "timestamp": [NOW - timedelta(hours=1)] * 2,
        "items": [[1, 2], [3]],
        "scores": [[0.5, 0.1], [0.3]],
        "sources": [["ranker", "counts"], ["ranker"]],
        "propensities": [[1.0, 0.5], [0.1]],
        "milliseconds": [1.0, 2.0],
        "date": [(NOW - timedelta(hours=1)).date()] * 2,
        **columns,
    }
    return pl.DataFrame({**dict.fromkeys(EXPOSURES, None), **shown}, schema=EXPOSURES)


@pytest.mark.parametrize(
    ("columns", "check"),
    [
        ({}, None),
        ({"propensities": None, "scores": None}, None),
        ({"propensities": [[1.0, 0.5], [0.0]]}, "propensities_in_0_1"),
        ({"propensities": [[1.0, 1.5], [0.1]]}, "propensities_in_0_1"),
        ({"propensities": [[1.0, None], [0.1]]}, "propensities_in_0_1"),
        ({"propensities": [[1.0], [0.1]]}, "propensities_beside_items"),
        ({"scores": [[0.5, float("nan")], [0.3]]}, "scores_finite"),
        ({"items": [[1, 1], [3]]}, "items_once"),
        ({"items": [[1, 99], [3]]}, "items_known"),
        ({"request_id": ["a", "a"]}, "request_id_unique"),
    ],
)
def test_exposures(columns, check):
    report = validate(kept(exposures(**columns)), logsuites.EXPOSURES_SUITE, known=KNOWN, now=NOW)
    assert [c.name for c in report.failures] == ([check] if check else [])


def test_examples_and_features():
    shown = {"request_id": "a", "position": 1, "user": 1, "item": 1, "event_timestamp": NOW, "closes": NOW, "click": 1}
    examples = pl.DataFrame([{**dict.fromkeys(EXAMPLES), **shown, "date": NOW.date()}], schema=EXAMPLES)
    report = validate(kept(examples), logsuites.EXAMPLES_SUITE, known=KNOWN, now=NOW)
    assert {c.name for c in report.failures} == {"seconds_of_clicks", "closes_later"}

    view = VIEWS["user_history"]
    history = {"user": [1, 2], "items": [[1, 2], [1]], "times": [[2, 1], [1, 2]], "window": None}
    stamps = {"event_timestamp": NOW, "created_timestamp": NOW, "date": NOW.date()}
    frame = pl.DataFrame({**history, **stamps}, schema={**view.schema, "date": pl.Date})
    report = validate(kept(frame), logsuites.view("user_history"), now=NOW)
    assert {(c.name, c.rows) for c in report.failures} == {("times_ascending", 1), ("times_beside_items", 1)}


def test_a_data_set_is_checked_as_a_whole(lake, rows):
    stream = rows(200, source_row=pl.lit(None), event_id=pl.format("e{}", pl.int_range(pl.len())))
    stream = stream.with_columns(request_id=pl.when(pl.col("user") == 1).then(pl.lit("r")))
    lake.table("processed", "ml-1m", "events").append(stream)
    lake.table("logs", "ml-1m", "exposures").append(exposures(propensities=[[0.0, 1.0], [1.0]]), partition_by=["date"])
    told = []
    reports = {r.suite: r for r in checking.check(lake, "ml-1m", lambda *a: told.append(a))}
    assert {name: r.rows for name, r in reports.items()} == {
        "events-files": 2000,
        "events-stream": 200,
        "events-production": 20,
        "items-files": 40,
        "users-files": 100,
        "exposures": 2,
    }
    assert [name for name, r in reports.items() if not r.passed] == ["exposures"]
    assert {what for what, _, _ in told} == {f"validate {name}" for name in reports}
    assert "No: 1 of 6 suites refused the data." in render(list(reports.values()))

    def ingested(file, source):
        ledger.record(
            lake,
            "ml-1m",
            ledger.Ingested(
                file=file,
                sha256=f"{file:x<16}",
                bytes=1,
                source=source,
                at=NOW,
                repeats=False,
                events=0,
                known=0,
                quarantined={},
            ),
        )
        return checking.source(lake, "ml-1m")

    assert ingested("ratings.dat", "ml-1m") == "ml-1m"
    old = "age_hours"
    assert old in {c.name for r in checking.check(lake, "ml-1m", lambda *_: None) for c in r.checks}
    assert ingested("oracle.json", "ml-1m") == "simulated"
    simulated = checking.check(lake, "ml-1m", lambda *_: None)
    assert old not in {c.name for r in simulated for c in r.checks}, "a simulated world has its own calendar"
    assert checking.source(lake, "mine") == "files"


def test_a_training_set_is_what_a_model_can_learn_from(lake, tmp_path):
    movies = workload.load("movies")
    movies.training_set(lake, "ml-1m", None, tmp_path / "set", lambda *_: None)
    assert checking.check_training_set(tmp_path / "set", lambda *_: None).passed
    [part, *_] = sorted((tmp_path / "set" / "events").glob("*.parquet"))
    pl.read_parquet(part).with_columns(item=pl.lit(77, pl.Int64)).write_parquet(part)
    with pytest.raises(DataQualityError, match="item_known"):
        checking.check_training_set(tmp_path / "set", lambda *_: None).raise_if_failed()
