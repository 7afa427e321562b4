from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from slipway.workloads.movies.behaviour import Subject
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.scorer import RankerScorer


def test_asks_an_invented_history_as_the_evaluation_asks_a_real_one(world: Subject) -> None:
    cases = world.cases(50, "some")
    histories = [world.history(int(case)) for case in cases]
    owners = np.searchsorted(world.whole.indptr, cases, side="right") - 1
    expected = world.score_cases(cases)
    assert np.array_equal(world.ask(histories, owners), expected)
    assert np.array_equal(world.ask(histories), expected)  # counts know no users
    assert np.array_equal(
        world.ask([*histories[:3], *histories[:3]], np.array([7, 7, -1, 7, 8, 7])), expected[[0, 1, 2] * 2]
    )


def test_says_who_asks_and_when(world: Subject, scoring: Callable[..., object]) -> None:
    seen = []

    def note(whole, positions):  # type: ignore[no-untyped-def]
        owners = np.searchsorted(whole.indptr, positions, side="right") - 1
        seen.append((owners, whole.times[positions], whole.items, whole.user_ids))
        return np.zeros((len(positions), whole.n_items + 1), dtype=np.float32)

    asked = replace(world, scorer=scoring(note))
    asked.ask([[3, 4], [5], []], np.array([9, -1, -1]), np.array([10**12, 2 * 10**12, 3 * 10**12]))
    owners, times, items, ids = seen[0]
    users = world.whole.n_users
    assert owners.tolist() == [9, users, users + 1]  # nobody who is unknown has a known user's index
    assert times.tolist() == [10**12, 2 * 10**12, 3 * 10**12]
    assert items.tolist() == [3, 4, 1, 5, 1, 1]  # each history, then a placeholder
    assert len(ids) == users + 2
    assert (np.diff(ids) > 0).all()


def test_shows_what_is_left_and_nothing_else(world: Subject) -> None:
    everything = np.arange(1, world.n_items + 1)
    left = everything[[5, 50, 150]]
    shown = world.top([np.setdiff1d(everything, left), everything, [0, world.n_items + 1]], 10)
    assert sorted(shown[0][shown[0] > 0].tolist()) == left.tolist()
    assert not shown[1].any()
    assert (shown[2] > 0).all()  # ids that nobody knows are no history
    assert len(np.unique(shown[2])) == 10
    unfiltered = replace(world, filter_seen=False).top([everything], 10)
    assert (unfiltered > 0).all()


def test_ranks_real_cases_without_what_was_seen(world: Subject) -> None:
    cases = world.cases(40, "some")
    found = world.ranking(cases, 10)
    assert found.finite
    for case, top, rank in zip(cases.tolist(), found.top, found.ranks.tolist(), strict=True):
        assert not np.isin(top, world.history(case)).any()
        assert (int(world.whole.items[case]) in top) == (rank < 10)


def test_a_stranger_is_the_unknown_user_of_a_model_that_knows_users(world: Subject) -> None:
    torch.manual_seed(0)
    model = Ranker(RankerConfig(dim=16, user_dim=16, max_len=10), world.n_items, world.whole.n_users).eval()
    asked = replace(world, scorer=RankerScorer(model))
    history = [3, 4, 5]
    stranger, known = asked.ask([history, history], np.array([-1, 5]))
    with torch.inference_mode():
        unknown = model.newest(torch.tensor([history]))[0].numpy()
    assert np.allclose(stranger, unknown, atol=1e-5)
    assert not np.allclose(known, unknown, atol=1e-5)
