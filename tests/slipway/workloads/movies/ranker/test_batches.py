"""That an epoch holds every pair once, however it is cut, shared, accumulated or gone on with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import shards
from slipway.workloads.movies.ranker.batches import Batch, Draw, Step, batches, steps
from slipway.workloads.movies.ranker.shards import Shards

LENGTHS = [0, 1, 2, 3, 9, 10, 11, 12, 57, 100, 5, 5, 5, 5]
Write = Callable[..., tuple[Interactions, Shards]]


def draw(tokens: int = 64, seed: int = 0, epoch: int = 0) -> Draw:
    return Draw(10, tokens, seed, epoch)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Every event is an item of its own, so that a pair says where it comes from."""

    def written(lengths: list[int], shard_events: int = 10**6) -> tuple[Interactions, Shards]:
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        items = np.arange(1, indptr[-1] + 1, dtype=np.int32)
        whole = Interactions(indptr, items, None, np.arange(len(lengths)), np.arange(-1, len(items)))
        return whole, shards.write(whole, (tmp_path / f"{len(lengths)}-{shard_events}").as_uri(), shard_events)

    return written


def parts(found: list[Step]) -> list[Batch]:
    return [part for step in found for part in step.parts]


def pairs(found: list[Step]) -> list[tuple[int, int]]:
    return [
        (int(i), int(t))
        for b in parts(found)
        for i, t in zip(b.items.flatten(), b.targets.flatten(), strict=True)
        if int(t) > 0 or int(i) > 0
    ]


@pytest.mark.parametrize("shard_events", [10**6, 60, 1])
def test_every_pair_is_there_once(write: Write, shard_events: int) -> None:
    whole, data = write(LENGTHS, shard_events)
    expected = [
        (int(whole.items[p]), int(whole.items[p + 1]))
        for user in range(whole.n_users)
        for p in range(whole.indptr[user], whole.indptr[user + 1] - 1)
    ]
    assert data.pairs == len(expected)
    for epoch in range(3):
        assert sorted(pairs(list(steps(data, draw(epoch=epoch))))) == sorted(expected)


def test_windows_are_right_padded_oldest_first_and_know_their_user(write: Write) -> None:
    whole, data = write(LENGTHS, 60)
    for batch in parts(list(steps(data, draw()))):
        assert batch.items.dtype == batch.targets.dtype == batch.users.dtype == torch.int64
        assert batch.items.numel() <= 64
        assert batch.tokens == (batch.targets > 0).sum()
        for items, targets, user in zip(batch.items, batch.targets, batch.users, strict=True):
            real = int((items > 0).sum())
            assert 1 <= real <= 10
            assert (items[real:] == 0).all()
            assert (targets[real:] == 0).all()
            assert (items[:real].diff() == 1).all()
            begin, end = whole.indptr[user - 1], whole.indptr[user]
            assert begin < items[0] <= targets[real - 1] <= end


def test_equal_draws_for_equal_seed_and_epoch(write: Write) -> None:
    data = write(LENGTHS, 60)[1]
    first = pairs(list(steps(data, draw(epoch=3))))
    assert first == pairs(list(steps(data, draw(epoch=3))))
    assert first != pairs(list(steps(data, draw(epoch=4))))
    assert first != pairs(list(steps(data, draw(seed=1, epoch=3))))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_workers_share_an_epoch_without_overlap(write: Write, accumulation: int) -> None:
    data = write([20] * 31, 110)[1]
    assert len(data) > 4
    alone = list(steps(data, draw(40)))
    shares = [list(steps(data, draw(40), accumulation, rank, 3)) for rank in range(3)]
    for together in zip(*shares, strict=True):  # as many steps each
        assert len({len(step.parts) for step in together}) == 1
        assert {step.tokens for step in together} == {sum(p.tokens for step in together for p in step.parts)}
        assert {step.batches for step in together} == {sum(len(step.parts) for step in together)}
        assert len({step.done for step in together}) == 1
    assert sum(step.batches for step in shares[0]) == len(alone) // 3 * 3
    found = [pair for share in shares for pair in pairs(share)]
    assert len(found) == len(set(found))
    assert set(found) <= set(pairs(alone))


def test_an_epoch_goes_on_where_it_was_left(write: Write) -> None:
    data = write([20] * 31, 110)[1]
    whole = list(steps(data, draw(40), 2, 1, 2))
    for done in (1, 5, len(whole) - 1):
        rest = list(steps(data, draw(40), 2, 1, 2, skip=sum(step.batches for step in whole[:done])))
        assert pairs(rest) == pairs(whole[done:])
        assert [step.done for step in rest] == [step.done for step in whole[done:]]


def test_similar_lengths_meet(write: Write) -> None:
    rng = np.random.default_rng(0)
    data = write(rng.integers(2, 60, size=500).tolist())[1]
    found = parts(list(steps(data, Draw(50, 1024, 0, 0))))
    padded = sum(b.items.numel() for b in found)
    assert sum(b.tokens for b in found) > 0.8 * padded


def test_data_in_memory_are_cut_alike(write: Write) -> None:
    whole, data = write(LENGTHS)
    found = batches(whole, 10, 64, 0, 0)
    streamed = parts(list(steps(data, draw())))
    assert sum(b.tokens for b in found) == sum(b.tokens for b in streamed) == data.pairs
    assert {int(u) for b in found for u in b.users} == {int(u) for b in streamed for u in b.users}


def test_too_few_for_so_many_workers(write: Write) -> None:
    assert list(steps(write([3])[1], draw(), world_size=2)) == []
