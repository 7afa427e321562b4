"""What has moved since a former version warns, and what has not is silent; both against a stored profile."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from slipway.lake.columns import kept_schema
from slipway.validation import tables
from slipway.validation.expectations import psi
from slipway.validation.profile import SAMPLE, SKETCH, Measure, Profile
from slipway.validation.validate import validate
from slipway.workloads.movies import suites

SUITE = suites.events("ml-1m")
KNOWN = {"items": pl.Series(range(1, 41))}
LATER = datetime(2001, 1, 8, tzinfo=UTC)  # right after the week that the reference has


def kept(frame):
    return frame.cast(kept_schema(frame.schema)).lazy()


@pytest.fixture(scope="module")
def reference(rows):
    return validate(kept(rows(2000)), SUITE, known=KNOWN).profile


def warned(rows, more, reference, suite=SUITE):
    """The warnings about 2,000 rows, known by the reference, and these."""
    report = validate(kept(pl.concat([rows(2000), more])), suite, reference=reference, known=KNOWN)
    assert report.passed, report.failures
    return {c.name: c.message for c in report.warnings}


def more(rows, number=1000, seed=1, start=LATER, **columns):
    """New users with further ratings of the known items."""
    columns = {"user": pl.int_range(pl.len()) // 20 + 101, **columns}
    return rows(number, start=start, days=3, seed=seed, **columns)


@pytest.mark.parametrize("seed", range(1, 9))
def test_more_of_the_same_is_silent(rows, reference, seed):
    assert warned(rows, more(rows, number=100 * seed, seed=seed), reference) == {}


@pytest.mark.parametrize(
    ("change", "warns", "says"),
    [
        ({"rating": 5.0}, {"mean_rating", "psi_rating"}, "4.5 to ∞ has 100.0%"),
        ({"start": LATER + timedelta(days=60)}, {"gap_hours"}, "hours without any"),
        ({"source_row": 1, "user": 1000, "item": 7}, {"duplicates_user_item"}, "999 rows repeat"),
    ],
)
def test_what_moved_warns(rows, reference, change, warns, says):
    found = warned(rows, more(rows, **change), reference)
    assert set(found) == warns
    assert says in " ".join(found.values())


def test_new_ids_and_shrinking_tables(rows, reference):
    known = {"items": pl.Series(range(1, 2000))}
    new = more(rows, user=pl.int_range(pl.len()) // 5 + 500, item=pl.int_range(pl.len()) % 500 + 41)
    report = validate(kept(pl.concat([rows(2000), new])), SUITE, reference=reference, known=known)
    assert {c.name: round(c.observed, 2) for c in report.warnings} == {"new_item": 1.0, "new_user": 1.0}
    fewer = validate(kept(rows(2000).head(1500)), SUITE, reference=reference, known=KNOWN)
    assert [c.name for c in fewer.warnings] == ["row_count"]
    assert {c.name for c in fewer.checks if c.status == "skipped"} >= {"psi_rating", "new_item"}, "no new rows"


def test_a_few_rows_do_not_warn_by_chance(rows, reference):
    assert warned(rows, more(rows, number=120, seed=5), reference) == {}
    assert "psi_rating" not in warned(rows, more(rows, number=60, rating=5.0), reference), "too few to say"


def test_a_stream_that_stopped_is_old(rows):
    frame = rows(300, source_row=pl.lit(None), event_id=pl.format("e{}", pl.int_range(pl.len())))
    stream = suites.events("stream")
    late = validate(kept(frame), stream, known=KNOWN, now=LATER + timedelta(days=3))
    assert [c.name for c in late.warnings] == ["age_hours"]
    assert not validate(kept(frame), stream, known=KNOWN, now=LATER).warned


def test_a_check_compares_with_the_last_version_that_passed(lake, rows):
    table = lake.table("processed", "ml-1m", "events")
    first = tables.check(table, SUITE, known=KNOWN)
    assert Profile.read(table, SUITE.name, before=1) == first.profile
    assert next(c for c in first.checks if c.name == "psi_rating").status == "skipped"
    table.append(more(rows, user=pl.int_range(pl.len()) // 20 + 200, item=99))
    assert not tables.check(table, SUITE, known=KNOWN).passed, "item 99 is nobody's"
    assert Profile.read(table, SUITE.name, before=99) == first.profile, "what failed is no reference"
    table.append(more(rows, seed=2, user=pl.int_range(pl.len()) // 20 + 400, rating=5.0))
    wider = {"items": pl.Series([*range(1, 41), 99])}
    assert "psi_rating" in {c.name for c in tables.check(table, SUITE, known=wider).warnings}
    again = tables.check(table, SUITE, known=KNOWN, version=0)
    same = {"seconds", "checked_at"}
    assert again.model_dump(exclude=same) == first.model_dump(exclude=same), "against what came before that version"
    (lake.objects.root / "processed/ml-1m/events/_profiles" / SUITE.name / f"{2:012}.json").write_text("{broken")
    assert Profile.read(table, SUITE.name, before=99) is None, "another release's page is no reference, and no error"


def test_a_profile_is_exact_where_it_says_so_and_close_where_it_samples():
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "id": random.integers(0, 60_000, 500_000),
            "number": random.normal(3, 2, 500_000),
            "word": random.choice(["a", "b", "c"], 500_000, p=[0.7, 0.2, 0.1]),
            "list": pl.Series(random.integers(0, 5, 500_000)).to_frame().select(pl.lit(1).repeat_by("")).to_series(),
            "nothing": pl.Series([None] * 500_000, dtype=pl.Float32),
        }
    )
    measure = Measure(frame.schema, ids=("id",))
    for batch in frame.iter_slices(70_000):
        measure.add(batch)
    profile = measure.profile()
    assert len(measure.sample()) < 2 * SAMPLE
    assert profile.rows == 500_000
    number = profile.columns["number"]
    assert number.mean == pytest.approx(frame["number"].mean())
    assert number.deviation == pytest.approx(frame["number"].std(ddof=0))
    assert number.shares == pytest.approx([0.1] * 10, abs=1e-3)
    assert number.edges == pytest.approx(np.quantile(frame["number"], np.linspace(0.1, 0.9, 9)), abs=0.02)
    assert dict(zip(profile.columns["word"].values, profile.columns["word"].shares, strict=False)) == pytest.approx(
        {"a": 0.7, "b": 0.2, "c": 0.1}, abs=0.005
    )
    assert profile.columns["list"].mean == pytest.approx(frame["list"].list.len().mean())
    assert profile.columns["nothing"].nulls == 1.0
    assert profile.ids["id"].distinct == pytest.approx(frame["id"].n_unique(), rel=0.05)
    assert len(profile.ids["id"].hashes) == SKETCH
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert len(profile.model_dump_json()) < 200_000
    half = Measure(frame.schema, ids=("id",))
    half.add(frame.with_columns(pl.col("id") + 30_000))
    assert half.profile().ids["id"].unknown(profile.ids["id"]) == pytest.approx(0.5, abs=0.04)


def test_psi_is_siddiqi_s():
    # Σ (p - q) ln(p / q): (0.1 - 0.3) ln(1/3) + (0.9 - 0.7) ln(9/7)
    assert psi(np.array([0.1, 0.9]), np.array([0.3, 0.7])) == pytest.approx(0.2 * np.log(3) + 0.2 * np.log(9 / 7))
