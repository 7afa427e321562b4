import numpy as np
import polars as pl
import pytest

from slipway.analytics import drift
from slipway.analytics.drift import Level


def test_formulas_on_known_values():
    r, c = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    assert drift.psi(r, c) == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2))
    assert drift.jensen_shannon(r, r) == 0
    assert drift.jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)


def test_a_shift_is_major_and_noise_is_stable():
    rng = np.random.default_rng(0)
    before = pl.DataFrame({"calm": rng.normal(size=5000), "moved": rng.normal(size=5000), "kind": ["a", "b"] * 2500})
    now = pl.DataFrame({"calm": rng.normal(size=3000), "moved": rng.normal(1, 1, 3000), "kind": ["a", "c"] * 1500})
    calm, moved, kind = drift.compare(before, now, prefix="view:")
    assert calm.feature == "view:calm"
    assert [calm.level, moved.level, kind.level] == [Level.STABLE, Level.MAJOR, Level.MAJOR]
    assert len(moved.bins) == drift.BINS
    assert kind.bins == ("a", "b", "other") or set(kind.bins) == {"a", "b", "other"}
    for found in (calm, moved, kind):
        assert sum(found.reference) == pytest.approx(1)
        assert sum(found.current) == pytest.approx(1)


def test_few_numbers_are_bins_in_order_and_missing_values_show():
    (found,) = drift.compare(
        pl.DataFrame({"rating": [5.0, 1.0, 3.0, None] * 20}),
        pl.DataFrame({"rating": [5.0, 3.0, None, float("nan")] * 20}),
    )
    assert found.bins == ("1", "3", "5", "missing")
    assert found.reference == (0.25, 0.25, 0.25, 0.25)
    assert found.current == (0, 0.25, 0.25, 0.5)


def test_too_little_or_nothing_says_so():
    (few,) = drift.compare(pl.DataFrame({"x": [1, 2]}), pl.DataFrame({"x": [1]}))
    (none,) = drift.compare(pl.DataFrame({"x": [1, 2]}), pl.DataFrame({"x": []}, schema={"x": pl.Int64}))
    assert few.level is none.level is Level.UNKNOWN
    assert np.isnan(none.psi)


def test_keys_times_and_lists_are_no_features():
    schema = pl.Schema(
        {"user": pl.Int64(), "age": pl.Int32(), "at": pl.Datetime(), "past": pl.List(pl.Int64), "sex": pl.String()}
    )
    assert drift.comparable(schema, skip=("user",)) == ["age", "sex"]
