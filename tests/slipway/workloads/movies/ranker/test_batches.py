import numpy as np
import pytest
import torch

from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.batches import Batch, batches


def histories(lengths: list[int]) -> Interactions:
    """Every event is an item of its own, so that a pair says where it comes from."""
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    items = np.arange(1, indptr[-1] + 1, dtype=np.int32)
    return Interactions(indptr, items, None, np.arange(len(lengths)), np.arange(-1, len(items)))


LENGTHS = [0, 1, 2, 3, 9, 10, 11, 12, 57, 100, 5, 5, 5, 5]


def pairs(found: list[Batch]) -> list[tuple[int, int]]:
    return [
        (int(i), int(t))
        for b in found
        for i, t in zip(b.items.flatten(), b.targets.flatten(), strict=True)
        if int(t) > 0 or int(i) > 0
    ]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_every_pair_is_there_once(epoch: int) -> None:
    whole = histories(LENGTHS)
    expected = [
        (int(whole.items[p]), int(whole.items[p + 1]))
        for user in range(whole.n_users)
        for p in range(whole.indptr[user], whole.indptr[user + 1] - 1)
    ]
    assert sorted(pairs(batches(whole, 10, 64, 0, epoch))) == sorted(expected)


def test_windows_are_right_padded_oldest_first_and_know_their_user() -> None:
    whole = histories(LENGTHS)
    for batch in batches(whole, 10, 64, 0, 0):
        assert batch.items.dtype == batch.targets.dtype == batch.users.dtype == torch.int64
        assert batch.items.numel() <= 64
        for items, targets, user in zip(batch.items, batch.targets, batch.users, strict=True):
            real = int((items > 0).sum())
            assert 1 <= real <= 10
            assert (items[real:] == 0).all()
            assert (targets[real:] == 0).all()
            assert (items[:real].diff() == 1).all()
            begin, end = whole.indptr[user - 1], whole.indptr[user]
            assert begin < items[0] <= targets[real - 1] <= end


def test_equal_draws_for_equal_seed_and_epoch() -> None:
    whole = histories(LENGTHS)
    first = pairs(batches(whole, 10, 64, 0, 3))
    assert first == pairs(batches(whole, 10, 64, 0, 3))
    assert first != pairs(batches(whole, 10, 64, 0, 4))
    assert first != pairs(batches(whole, 10, 64, 1, 3))


def test_workers_share_an_epoch_without_overlap() -> None:
    whole = histories([20] * 31)
    alone = batches(whole, 10, 40, 0, 0)
    shares = [batches(whole, 10, 40, 0, 0, rank, 3) for rank in range(3)]
    assert {len(share) for share in shares} == {len(alone) // 3}
    together = [pair for share in shares for pair in pairs(share)]
    assert len(together) == len(set(together))
    assert set(together) <= set(pairs(alone))


def test_similar_lengths_meet() -> None:
    rng = np.random.default_rng(0)
    found = batches(histories(rng.integers(2, 60, size=500).tolist()), 50, 1024, 0, 0)
    padded = sum(b.items.numel() for b in found)
    assert sum(int((b.items > 0).sum()) for b in found) > 0.8 * padded


def test_nothing_to_learn_from() -> None:
    assert batches(histories([1, 0, 1]), 10, 64, 0, 0) == []
