from datetime import date

import polars as pl
import pytest

from slipway.analytics import popularity


def test_curve_and_gini_over_the_whole_catalogue():
    even, one = pl.Series([5, 5, 5, 5]), pl.Series([20])
    assert popularity.gini(even, 4) == pytest.approx(0)
    assert popularity.gini(one, 4) == pytest.approx(0.75)  # 1 - 1/n
    curve = popularity.lorenz(pl.Series([1, 6, 3]), 5)
    assert curve.rows()[0] == (0, 0)
    assert curve.rows()[-1] == (1, 1)
    assert curve.filter(pl.col("items") == 0.2)["events"].item() == pytest.approx(0.6)
    assert popularity.head_share(pl.Series([1, 6, 3]), 10, 0.1) == pytest.approx(0.6)
    assert popularity.gini(pl.Series([], dtype=pl.Int64), 0) == 0
    assert popularity.lorenz(pl.Series([], dtype=pl.Int64), 3)["events"].to_list() == [0, 0, 0, 0]


def test_items_coverage_and_genres(events):
    rows = events((1, 1, "2024-01-01 10:00"), (2, 1, "2024-01-02 10:00"), (1, 2, "2024-01-02 11:00"))
    assert popularity.by_item(rows).select("item", "events").rows() == [(1, 2), (2, 1)]
    assert popularity.coverage(rows, 4, "1d").rows() == [(date(2024, 1, 1), 1, 0.25), (date(2024, 1, 2), 2, 0.5)]
    items = pl.LazyFrame({"item": [1, 2], "genres": [["Drama", "War"], []]})
    found = popularity.genres(rows, items, "1w", most=2)
    assert found.select("genre", "events").rows() == [("Drama", 1.0), ("War", 1.0), ("others", 1.0)]
    assert found["share"].sum() == pytest.approx(1)
    assert popularity.period(date(2024, 1, 1), date(2024, 2, 1)) == "1d"
    assert popularity.period(date(2020, 1, 1), date(2024, 2, 1)) == "1mo"
