"""Days share partitions evenly, and every day lies in its own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.workloads.movies.days import DAY, Days


@settings(max_examples=50, deadline=None)
@given(
    blocks=st.lists(st.lists(st.integers(-3 * DAY, 40 * DAY), min_size=1, max_size=60), min_size=1, max_size=4),
    at_once=st.integers(1, 50),
)
def test_a_partition_holds_whole_days_or_a_part_of_one_and_neighbours_fill_it(blocks, at_once):
    days = Days(at_once)
    for block in blocks:
        days.see(np.array(block))
    plan = days.plan()
    seconds = np.array([s for block in blocks for s in block])
    users = np.arange(len(seconds))
    owners = plan.owners(seconds, users)
    assert owners.max(initial=0) < plan.count
    on, owner_of = seconds // DAY, owners.astype(int)
    for owner in range(plan.count):
        mine = np.unique(on[owner_of == owner])
        assert len(mine) <= 1 or (owner_of == owner).sum() <= at_once
    for day in np.unique(on):
        spread = np.unique(owner_of[on == day])
        assert len(spread) <= -(-(on == day).sum() // at_once)
