from datetime import UTC, date, datetime

import polars as pl

from slipway.analytics import quarantine


def test_rejected_rows_by_day_reason_and_source():
    at = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 1, 2)]
    rows = pl.LazyFrame(
        {
            "rejected_at": at,
            "source": ["files:a.dat", "files:a.dat", "stream:events"],
            "reason": ["rating", "user", "rating"],
            "line": [3, 4, None],
            "text": ["x", "y", "z"],
            "repaired": [False, True, False],
            "day": [moment.date() for moment in at],
        }
    )
    assert quarantine.per_day(rows, "source").rows() == [
        (date(2024, 1, 1), "files:a.dat", 2, 1),
        (date(2024, 1, 2), "stream:events", 1, 0),
    ]
    assert quarantine.totals(rows)["rows"].to_list() == [1, 1, 1]
    chosen = quarantine.selected(rows, reasons=("rating",))
    assert quarantine.newest(chosen, 10)["text"].to_list() == ["z", "x"]
    assert quarantine.newest(chosen, 10, date(2024, 1, 1))["text"].to_list() == ["x"]
    assert quarantine.newest(quarantine.selected(rows, sources=("nowhere",)), 10).is_empty()
