"""Blocks of users are independent, and what they do obeys the model's terms."""

import numpy as np

from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.rollout import blocks, live
from slipway.workloads.movies.simulator.streams import BLOCK
from slipway.workloads.movies.simulator.world import World

THREE_BLOCKS = TINY.model_copy(update={"users": 2 * BLOCK + 100, "sessions": 2.0, "session_length": 5.0})


def test_blocks_can_be_lived_alone_and_in_any_order():
    world = World.build(THREE_BLOCKS)
    forward = [live(world, THREE_BLOCKS, b) for b in range(blocks(THREE_BLOCKS))]
    assert [len(np.unique(b.user)) for b in forward] == [BLOCK, BLOCK, 100]
    assert (forward[1].film[:500] != forward[0].film[:500]).any()
    for block in (2, 0, 1):
        alone = live(World.build(THREE_BLOCKS), THREE_BLOCKS, block)
        for field in ("user", "film", "rating", "times"):
            assert (getattr(alone, field) == getattr(forward[block], field)).all()


def _same_shelf_after_three(satiation: float) -> float:
    """How often a fourth film in a row comes from the shelf of the three before it."""
    config = TINY.model_copy(update={"satiation": satiation})
    world = World.build(config)
    lived = live(world, config, 0)
    shelf = world.shelf[lived.film]
    session = np.cumsum(np.concatenate([[0], (np.diff(lived.times) > 3_600) | (np.diff(lived.user) != 0)]))
    run = (shelf[:-3] == shelf[1:-2]) & (shelf[:-3] == shelf[2:-1]) & (session[:-3] == session[3:])
    return float((shelf[3:] == shelf[2:-1])[run].mean())


def test_having_enough_of_a_shelf_makes_people_leave_it():
    assert _same_shelf_after_three(6.0) < 0.5 * _same_shelf_after_three(0.0)


def _early_late_agreement(drift: float) -> float:
    """Mean cosine of the shelves that long-standing users chose in the first and in the second half."""
    config = TINY.model_copy(update={"drift": drift, "satiation": 0.0})
    world = World.build(config)
    lived = live(world, config, 0)
    agreement = []
    for user in np.unique(lived.user):
        shelves = world.shelf[lived.film[lived.user == user]]
        if len(shelves) >= 60:
            halves = [np.bincount(h, minlength=world.shelves) for h in np.array_split(shelves, 2)]
            agreement.append(halves[0] @ halves[1] / np.linalg.norm(halves[0]) / np.linalg.norm(halves[1]))
    return float(np.mean(agreement))


def test_tastes_drift():
    assert _early_late_agreement(2.0) < _early_late_agreement(0.0) - 0.05


def test_nobody_runs_out_of_films():
    config = TINY.model_copy(update={"items": 64, "shelves": 6, "sessions": 40.0, "session_length": 30.0, "users": 300})
    world = World.build(config)
    lived = live(world, config, 0)
    assert len(np.unique(np.column_stack([lived.user, lived.film]), axis=0)) == len(lived.user)
    assert np.bincount(lived.user).max() == int(world.available[0].sum() * 0.9)  # the longest reach the cap
