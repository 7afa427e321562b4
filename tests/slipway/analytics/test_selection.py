from datetime import date

import polars as pl

from slipway.analytics.selection import Selection, segments

USERS = pl.LazyFrame(
    {"user": [1, 2, 3], "gender": ["F", "M", None], "age": [25, 18, 25], "occupation": ["artist", "4", "10"]}
)


def test_dates_are_inclusive_and_segments_choose_users(events):
    rows = events(
        (1, 1, "2024-01-01 23:59"),
        (2, 1, "2024-01-02 00:00"),
        (1, 2, "2024-01-03 10:00", "click"),
        (9, 9, "2024-01-09 00:00"),
    )
    day = Selection(start=date(2024, 1, 2), end=date(2024, 1, 3))
    assert day.apply(rows).collect()["user"].to_list() == [2, 1]
    assert Selection(actions=("click",)).apply(rows).collect()["item"].to_list() == [2]
    older = Selection(segment=("age", "25"))
    assert set(older.apply(rows, USERS).collect()["user"]) == {1}
    assert older.apply(rows).collect().is_empty()  # a segment without a table of users selects nobody
    assert Selection().apply(rows).collect().height == 4


def test_segments_are_listed_as_people_read_them():
    assert segments(USERS) == [
        ("gender", "F"),
        ("gender", "M"),
        ("age", "18"),
        ("age", "25"),
        ("occupation", "4"),
        ("occupation", "10"),
        ("occupation", "artist"),
    ]
