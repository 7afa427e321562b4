"""What is trained on and what is asked, per protocol. Knows time and order; knows no model.

A case is a position p in `Interactions.items`: the history is everything of that user before p, the answer is
items[p]. So a case costs eight bytes, and a leak would have to be written on purpose.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from slipway.errors import TrainingError
from slipway.workloads.movies import leakage
from slipway.workloads.movies.interactions import IntArray, Interactions


class Protocol(StrEnum):
    TEMPORAL = "temporal"  # one instant splits everybody: what production does
    LEAVE_ONE_OUT = "loo"  # each user's last item: what the papers report


@dataclass(frozen=True)
class Split:
    """train: what models may learn from; validation and test: (cases,) int64 positions in the whole.

    instants: of the temporal split, when validation and test begin, in ms since 1970 UTC; what is trained on lies
    before the first.
    """

    protocol: Protocol
    train: Interactions
    validation: IntArray
    test: IntArray
    instants: tuple[float, float] | None = None


def leave_one_out(whole: Interactions) -> Split:
    """Last item of each user to test, the one before to validation (Kang & McAuley 2018, users of >= 3 items)."""
    last = whole.indptr[1:] - 1
    usable = whole.lengths >= 3
    if not usable.any():
        raise TrainingError("no user has three interactions", "leave-one-out needs longer histories")
    test, validation = last[usable], last[usable] - 1
    mask = np.ones(len(whole.items), dtype=bool)
    mask[test] = mask[validation] = False
    return Split(Protocol.LEAVE_ONE_OUT, whole.keep(mask), validation, test)


def temporal(whole: Interactions, test_share: float = 0.1, validation_share: float = 0.05) -> Split:
    """One instant for everybody (Klenitskiy et al. 2024, "Time to Split", target `successive`).

    Trains before the (1 - test - validation) quantile of event times; asks for every later event of users with a
    history, in validation up to the (1 - test) quantile and in test after it. Raises TrainingError without times.
    """
    if whole.times is None:
        raise TrainingError("this source gives an order but no times", "use evaluate.protocol=loo")
    begin, end = np.quantile(whole.times, [1 - test_share - validation_share, 1 - test_share])
    has_history = np.ones(len(whole.items), dtype=bool)
    has_history[whole.indptr[:-1][whole.lengths > 0]] = False
    before = whole.times < begin
    validation = np.flatnonzero(~before & (whole.times < end) & has_history)
    test = np.flatnonzero((whole.times >= end) & has_history)
    if not before.any() or not len(test) or not len(validation):
        raise TrainingError(
            f"the temporal split leaves {before.sum()} events to train, {len(validation)} to validate and "
            f"{len(test)} to test",
            "bring data that spans more time, or use evaluate.protocol=loo",
        )
    return Split(Protocol.TEMPORAL, whole.keep(before), validation, test, (float(begin), float(end)))


def choose(protocol: str, timed: bool) -> Protocol:
    """ "auto" is the temporal split where the data set has times, else leave-one-out; a name is itself."""
    if protocol == "auto":
        return Protocol.TEMPORAL if timed else Protocol.LEAVE_ONE_OUT
    return Protocol(protocol)


def split(whole: Interactions, protocol: Protocol) -> Split:
    """What every step splits with: the split is checked, so a leak fails the step. Raises TrainingError, LeakError."""
    found = leave_one_out(whole) if protocol is Protocol.LEAVE_ONE_OUT else temporal(whole)
    leakage.check(whole, found)
    return found


def sample_users(whole: Interactions, positions: IntArray, limit: int, seed: int = 0) -> IntArray:
    """All cases of at most `limit` users, drawn once by seed: whole users, because the bootstrap resamples users."""
    owners = whole.users[positions]
    users = np.unique(owners)
    if len(users) <= limit:
        return positions
    chosen = np.random.default_rng(seed).choice(users, limit, replace=False)
    return positions[np.isin(owners, chosen)]


def sample_cases(whole: Interactions, positions: IntArray, per_user: int, seed: int = 0) -> IntArray:
    """At most per_user of each user's cases, drawn once by seed: a user's mean stays unbiased, and a few heavy users no
    longer cost as much as all others.
    """
    shuffled = np.random.default_rng(seed).permutation(positions)
    owners = np.searchsorted(whole.indptr, shuffled, side="right")
    order = np.argsort(owners, kind="stable")
    sorted_owners = owners[order]
    nth = np.arange(len(order)) - np.searchsorted(sorted_owners, sorted_owners)
    return np.sort(shuffled[order[nth < per_user]])
