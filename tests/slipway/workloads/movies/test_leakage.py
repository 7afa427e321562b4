"""Every leak that is planted is caught and shown; what our own splits give passes; who is unseen is named."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from slipway.errors import LeakError
from slipway.workloads.movies import leakage, splits
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.splits import Protocol

DAY = 86_400_000


@pytest.fixture(scope="module")
def whole() -> Interactions:
    """Users 10 … 59 with an event a day for forty days, from the first day on or from the 30th, items by day."""
    rows = [(user, day) for user in range(10, 60) for day in range(30 if user >= 55 else 0, 40)]
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "item": [1000 + (user * 7 + day) % 60 if day < 38 else 2000 + day for user, day in rows],
            "timestamp": [day * DAY + user * 1000 for user, day in rows],
            "source_row": range(len(rows)),
        },
        schema_overrides={"timestamp": pl.Datetime("ms", "UTC")},
    )
    return Interactions.from_events(frame)


@pytest.fixture(params=Protocol)
def split(request, whole) -> splits.Split:
    return splits.split(whole, request.param)  # checked


def kept(whole: Interactions, split: splits.Split) -> np.ndarray:
    """(events,) bool: what is trained on, as a mask of the whole."""
    rank = np.arange(len(whole.items)) - np.repeat(whole.indptr[:-1], whole.lengths)
    return rank < np.repeat(split.train.lengths, whole.lengths)


def test_a_test_event_in_training_is_caught(whole, split) -> None:
    mask = kept(whole, split)
    mask[split.test[3]] = True
    with pytest.raises(LeakError, match=r"the split leaks: \d+ .*user \d+, item \d+ at 1970-"):
        leakage.check(whole, replace(split, train=whole.keep(mask)))


def test_a_history_that_ends_with_an_asked_event_is_caught(whole, split) -> None:
    mask = kept(whole, split)
    first = split.validation[0]
    mask[first] = True  # the very next event: the beginning of a history still, and asked
    with pytest.raises(LeakError, match="lie at or after" if split.instants else "asked events are trained on"):
        leakage.check(whole, replace(split, train=whole.keep(mask)))


def test_a_test_event_before_the_boundary_is_caught(whole) -> None:
    split = splits.temporal(whole)
    early = whole.indptr[0] + 2
    with pytest.raises(LeakError, match=r"1 test events lie before 1970-02-0\d .*user 10, item .* at 1970-01-03"):
        leakage.check(whole, replace(split, test=np.append(split.test, early)))
    with pytest.raises(LeakError, match="validation events lie at or after"):
        leakage.check(whole, replace(split, validation=split.test[:1]))


def test_a_training_row_after_the_boundary_is_caught(whole) -> None:
    split = splits.temporal(whole)
    late = replace(split.train, times=split.train.times + np.where(np.arange(len(split.train.items)) == 7, 50 * DAY, 0))
    with pytest.raises(LeakError, match=r"1 training rows lie at or after .* at 1970-02-2\d"):
        leakage.check(whole, replace(split, train=late))


def test_an_instant_that_was_moved_is_caught(whole) -> None:
    split = splits.temporal(whole)
    begin, end = split.instants
    with pytest.raises(LeakError, match="training rows lie at or after"):
        leakage.check(whole, replace(split, instants=(begin - DAY, end)))


def test_rows_of_other_data_and_cases_asked_twice_are_caught(whole, split) -> None:
    train = split.train
    swapped = replace(train, items=train.items[::-1].copy())
    with pytest.raises(LeakError, match="not the beginning of their user's history"):
        leakage.check(whole, replace(split, train=swapped))
    more = np.repeat(np.arange(len(train.items)), np.where(np.arange(len(train.items)) == 4, 99, 1))
    padded = replace(
        train,
        items=train.items[more],
        times=train.times[more],
        indptr=np.concatenate([[0], train.indptr[1:] + 98]),
    )
    with pytest.raises(LeakError, match="not the beginning of their user's history"):
        leakage.check(whole, replace(split, train=padded))
    with pytest.raises(LeakError, match="asked twice"):
        leakage.check(whole, replace(split, test=np.append(split.test, split.test[0])))


def test_who_and_what_is_unseen_is_named(whole) -> None:
    split = splits.split(whole, Protocol.TEMPORAL)
    said = leakage.report(whole, split)
    assert said.train + said.validation + said.test <= len(whole.items)
    assert said.validation_from < said.test_from
    trained_users = set(whole.user_ids[np.flatnonzero(split.train.lengths)])
    assert said.unseen_users.ids == tuple(sorted(set(whole.user_ids) - trained_users))
    assert said.unseen_items.ids == (2038, 2039)
    assert said.unseen_items.cases == 100
    assert leakage.SplitReport.model_validate_json(said.model_dump_json()) == said
    loo = leakage.report(whole, splits.split(whole, Protocol.LEAVE_ONE_OUT))
    assert (loo.validation_from, loo.unseen_users.count) == (None, 0)
