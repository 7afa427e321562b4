from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.workloads.movies.interactions import Interactions

HISTORIES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=6)


def events(rows: list[tuple[int, int, int | None, int]]) -> pl.DataFrame:
    """rows: user, item, second or None, source_row."""
    frame = pl.DataFrame(rows, schema=["user", "item", "second", "source_row"], orient="row")
    return frame.with_columns(
        (pl.col("second").cast(pl.Int64) * 1000).cast(pl.Datetime("ms", "UTC")).alias("timestamp")
    )


def test_orders_by_time_and_then_by_source_row() -> None:
    whole = Interactions.from_events(events([(7, 30, 5, 3), (7, 10, 5, 1), (7, 20, 4, 2), (2, 20, 9, 4)]))
    assert whole.user_ids.tolist() == [2, 7]
    assert whole.item_ids.tolist() == [-1, 10, 20, 30]
    assert [whole.history(u).tolist() for u in range(2)] == [[2], [2, 1, 3]]
    assert whole.times is not None
    assert whole.times.tolist() == [9000, 4000, 5000, 5000]
    assert whole.users.tolist() == [0, 1, 1, 1]
    assert datetime.fromtimestamp(whole.times[0] / 1000, UTC).second == 9


def test_without_times_the_source_row_is_the_order() -> None:
    whole = Interactions.from_events(events([(1, 5, None, 2), (1, 6, None, 1)]))
    assert whole.times is None
    assert whole.item_ids[whole.items].tolist() == [6, 5]


def test_a_catalogue_may_be_larger_than_the_events_but_not_smaller() -> None:
    rows = [(1, 5, 1, 1), (1, 7, 2, 2)]
    assert Interactions.from_events(events(rows), np.array([7, 6, 5])).items.tolist() == [1, 3]
    with pytest.raises(ValueError, match="outside the catalogue"):
        Interactions.from_events(events(rows), np.array([5, 6]))


@given(HISTORIES, st.integers(1, 5))
def test_recent_agrees_with_a_naive_loop(histories: list[list[int]], limit: int) -> None:
    rows = [(u, item, i, i) for u, history in enumerate(histories) for i, item in enumerate(history)]
    whole = Interactions.from_events(events(rows), np.arange(1, 10))
    positions = np.arange(len(rows))
    found = whole.recent(positions, limit)
    expected = []
    for history in histories:
        for i in range(len(history)):
            newest = history[max(0, i - limit) : i]
            expected.append(newest + [0] * (limit - len(newest)))
    assert found.tolist() == expected


@given(HISTORIES, st.data())
def test_keep_leaves_users_and_catalogue_in_place(histories: list[list[int]], data: st.DataObject) -> None:
    rows = [(u, item, i, i) for u, history in enumerate(histories) for i, item in enumerate(history)]
    whole = Interactions.from_events(events(rows), np.arange(1, 10))
    mask = np.array([data.draw(st.booleans()) for _ in rows])
    kept = whole.keep(mask)
    assert kept.n_users == whole.n_users
    assert kept.n_items == whole.n_items
    for user in range(whole.n_users):
        of_user = mask[whole.indptr[user] : whole.indptr[user + 1]]
        assert kept.history(user).tolist() == whole.history(user)[of_user].tolist()
