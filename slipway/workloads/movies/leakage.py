"""Whether a split gives away what it asks, and whom and what it has never seen. Knows positions and times, no model.

`splits.split` runs the check on everything it returns, so training and evaluation both fail on a leak; a split that
somebody else built is refused the same way.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slipway.errors import LeakError
from slipway.package import Frozen
from slipway.workloads.movies.interactions import IntArray, Interactions

if TYPE_CHECKING:
    from slipway.workloads.movies.splits import Split


class Unseen(Frozen):
    """Users or items that the training part has no event of. ids: the source's, ascending; cases: asked about them."""

    count: int
    cases: int
    ids: tuple[int, ...]


class SplitReport(Frozen):
    """split.json beside a training set. validation_from, test_from: of the temporal split, else null."""

    protocol: str
    validation_from: datetime | None
    test_from: datetime | None
    train: int
    validation: int
    test: int
    unseen_users: Unseen
    unseen_items: Unseen


def check(whole: Interactions, split: "Split") -> None:
    """Raises LeakError, with the number of rows and one of them, unless

    1. what is trained on is, user by user, the beginning of the history: nothing added, nothing skipped;
    2. every asked event comes after that beginning, and is asked once;
    3. with instants: training < the first <= validation < the second <= test, for everybody.
    """
    train, asked = split.train, np.concatenate([split.validation, split.test])
    if split.instants is not None:
        _in_time(whole, split)
    starts, lengths = whole.indptr[:-1], train.lengths
    fits = np.minimum(lengths, whole.lengths)
    offsets = np.arange(len(train.items)) - np.repeat(train.indptr[:-1], lengths)
    expected = np.repeat(starts, lengths) + np.minimum(offsets, np.repeat(np.maximum(fits - 1, 0), lengths))
    foreign = (offsets >= np.repeat(fits, lengths)) | (train.items != whole.items[expected])
    if train.times is not None and whole.times is not None:
        foreign |= train.times != whole.times[expected]
    _refuse(foreign, "training rows are not the beginning of their user's history", train)
    owners = np.searchsorted(whole.indptr, asked, side="right") - 1
    _refuse(asked - starts[owners] < lengths[owners], "asked events are trained on", whole, asked)
    twice = np.ones(len(asked), dtype=bool)
    twice[np.unique(asked, return_index=True)[1]] = False
    _refuse(twice, "events are asked twice, in validation and in test", whole, asked)


def report(whole: Interactions, split: "Split") -> SplitReport:
    """Who and what the models of this split meet for the first time when they are asked."""
    asked = np.concatenate([split.validation, split.test])
    owners = np.searchsorted(whole.indptr, asked, side="right") - 1
    trained = np.bincount(split.train.items, minlength=whole.n_items + 1)[1:]
    occurs = np.bincount(whole.items, minlength=whole.n_items + 1)[1:]
    strangers = (split.train.lengths == 0) & (whole.lengths > 0)
    news = (trained == 0) & (occurs > 0)
    instants = [None, None] if split.instants is None else [_instant(at) for at in split.instants]
    return SplitReport(
        protocol=split.protocol.value,
        validation_from=instants[0],
        test_from=instants[1],
        train=len(split.train.items),
        validation=len(split.validation),
        test=len(split.test),
        unseen_users=_unseen(strangers, strangers[owners], whole.user_ids),
        unseen_items=_unseen(news, news[whole.items[asked] - 1], whole.item_ids[1:]),
    )


def _in_time(whole: Interactions, split: "Split") -> None:
    assert split.instants is not None
    begin, end = split.instants
    if whole.times is None or split.train.times is None:
        raise LeakError(len(split.train.items), "training rows have no time", "all of them")
    _refuse(split.train.times >= begin, f"training rows lie at or after {_instant(begin):%F %T}", split.train)
    for name, asked, first, last in (
        ("validation", split.validation, begin, end),
        ("test", split.test, end, np.inf),
    ):
        times = whole.times[asked]
        _refuse(times < first, f"{name} events lie before {_instant(first):%F %T}", whole, asked)
        _refuse(times >= last, f"{name} events lie at or after {_instant(end):%F %T}", whole, asked)


def _refuse(wrong: npt.NDArray[np.bool_], what: str, events: Interactions, positions: IntArray | None = None) -> None:
    """wrong: of `positions` of events, or of all of them."""
    if not wrong.any():
        return
    place = int(np.flatnonzero(wrong)[0])
    position = place if positions is None else int(positions[place])
    user = events.user_ids[np.searchsorted(events.indptr, position, side="right") - 1]
    item = events.item_ids[events.items[position]]
    when = "" if events.times is None else f" at {_instant(events.times[position]):%F %T}"
    raise LeakError(int(wrong.sum()), what, f"user {user}, item {item}{when}")


def _unseen(mask: npt.NDArray[np.bool_], cases: npt.NDArray[np.bool_], ids: IntArray) -> Unseen:
    return Unseen(count=int(mask.sum()), cases=int(cases.sum()), ids=tuple(ids[mask].tolist()))


def _instant(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
