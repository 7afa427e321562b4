from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from slipway.analytics import response


def test_rates_carry_the_interval_of_few_impressions():
    rows = pl.LazyFrame({"position": [1] * 10 + [2] * 10, "click": [1] + [0] * 19})
    found = response.rates(rows, "position")
    assert found.select("position", "shown", "clicked", "ctr").rows() == [(1, 10, 1, 0.1), (2, 10, 0, 0.0)]
    assert found["low"].to_list() == pytest.approx([0.0179, 0.0], abs=1e-4)  # Wilson, from a table
    assert found["high"].to_list() == pytest.approx([0.4042, 0.2775], abs=1e-4)


def test_answers_by_day():
    rows = pl.LazyFrame(
        {
            "date": [date(2024, 1, 1)] * 4,
            "fallback": ["none", "", None, "ranker failed"],
            "milliseconds": [1.0, 2.0, 3.0, 100.0],
        }
    )
    found = response.answers(rows).row(0, named=True)
    assert (found["requests"], found["fallbacks"]) == (4, 1)
    assert found["p99"] == 100


@pytest.mark.parametrize(
    ("span", "step"),
    [({"minutes": 5}, "1m"), ({"days": 3}, "1h"), ({"days": 40}, "1d"), ({"days": 800}, "1w"), ({"days": 2000}, "1mo")],
)
def test_a_curve_has_a_readable_number_of_points(span, step):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert response.grain(start, start + timedelta(**span)) == step
    assert response.grain(start, start + timedelta(days=30), points=10) == "1w"
