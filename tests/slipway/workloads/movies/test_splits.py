import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slipway.errors import TrainingError
from slipway.workloads.movies import splits
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.splits import Protocol

SECONDS = st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=12), min_size=1, max_size=12)


def interactions(seconds: list[list[int]], timed: bool = True) -> Interactions:
    """Users' event times; every event has an item of its own, so that a leak can be seen."""
    rows = [(user, second) for user, times in enumerate(seconds) for second in sorted(times)]
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "item": range(1, len(rows) + 1),
            "timestamp": [second * 1000 if timed else None for _, second in rows],
            "source_row": range(1, len(rows) + 1),
        },
        schema_overrides={"timestamp": pl.Datetime("ms", "UTC")},
    )
    return Interactions.from_events(frame)


@given(SECONDS)
def test_leave_one_out_hides_the_last_two_items(seconds: list[list[int]]) -> None:
    assume(any(len(times) >= 3 for times in seconds))
    whole = interactions(seconds)
    split = splits.leave_one_out(whole)
    long = [u for u in range(whole.n_users) if len(whole.history(u)) >= 3]
    assert whole.items[split.test].tolist() == [whole.history(u)[-1] for u in long]
    assert whole.items[split.validation].tolist() == [whole.history(u)[-2] for u in long]
    hidden = set(whole.items[split.test].tolist()) | set(whole.items[split.validation].tolist())
    assert not hidden & set(split.train.items.tolist())
    assert len(split.train.items) == len(whole.items) - 2 * len(long)


@given(SECONDS)
def test_the_temporal_split_trains_on_nothing_that_comes_later(seconds: list[list[int]]) -> None:
    whole = interactions(seconds)
    try:
        split = splits.temporal(whole)
    except TrainingError:
        assume(False)
    assert whole.times is not None
    assert split.train.times is not None
    asked = np.concatenate([split.validation, split.test])
    assert split.train.times.max() < whole.times[asked].min()
    assert whole.times[split.validation].max() < whole.times[split.test].min()
    assert not set(whole.items[asked].tolist()) & set(split.train.items.tolist())
    assert not np.isin(asked, whole.indptr[:-1]).any(), "every case has a history"


def test_the_temporal_split_by_hand() -> None:
    whole = interactions([list(range(0, 100, 2)), list(range(1, 100, 2))])
    split = splits.temporal(whole, test_share=0.1, validation_share=0.2)
    assert whole.times is not None
    assert sorted(whole.times[split.test] // 1000) == list(range(90, 100))
    assert sorted(whole.times[split.validation] // 1000) == list(range(70, 90))


def test_no_times_no_temporal_split() -> None:
    with pytest.raises(TrainingError, match="no times"):
        splits.temporal(interactions([[1, 2, 3, 4]], timed=False))


def test_one_instant_cannot_be_split() -> None:
    with pytest.raises(TrainingError, match="temporal split leaves 0 events"):
        splits.temporal(interactions([[5, 5, 5], [5, 5]]))


def test_short_histories_cannot_leave_one_out() -> None:
    with pytest.raises(TrainingError, match="three interactions"):
        splits.leave_one_out(interactions([[1, 2], [3]]))


def test_auto_prefers_times() -> None:
    assert splits.choose("auto", timed=True) is Protocol.TEMPORAL
    assert splits.choose("auto", timed=False) is Protocol.LEAVE_ONE_OUT
    assert splits.choose("loo", timed=True) is Protocol.LEAVE_ONE_OUT


@given(SECONDS, st.integers(1, 6))
def test_sampled_users_keep_all_their_cases(seconds: list[list[int]], limit: int) -> None:
    whole = interactions(seconds)
    positions = np.arange(len(whole.items))
    sampled = splits.sample_users(whole, positions, limit)
    chosen = np.unique(whole.users[sampled])
    assert len(chosen) == min(limit, whole.n_users)
    assert sampled.tolist() == positions[np.isin(whole.users, chosen)].tolist()
    assert sampled.tolist() == splits.sample_users(whole, positions, limit).tolist()


@given(SECONDS, st.integers(1, 6))
def test_sampled_cases_are_at_most_so_many_of_each_user(seconds: list[list[int]], per_user: int) -> None:
    whole = interactions(seconds)
    sampled = splits.sample_cases(whole, np.arange(len(whole.items)), per_user)
    assert sampled.tolist() == sorted(set(sampled.tolist()))
    assert np.bincount(whole.users[sampled]).tolist() == np.minimum(whole.lengths, per_user).tolist()
