"""Training steps: windows of histories, bucketed by length, streamed shard by shard. Knows arrays; knows no model.

Everything is drawn from (seed, epoch), so that an epoch can be run again, gone on with in its middle, or shared among
workers, exactly. The batches of an epoch are the same for any number of workers: batch i goes to worker i modulo their
number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.ranker.shards import Shard, Shards

BUCKET = 8  # windows whose lengths differ by less share batches in random order; longer ones wait for their own kind


@dataclass(frozen=True)
class Batch:
    """items: (B, L) int64, right-padded with 0; targets: (B, L), the item after each, 0 at padding; users: (B,), + 1.

    tokens: the real positions, those with a target.
    """

    items: Tensor
    targets: Tensor
    users: Tensor
    tokens: int

    def to(self, device: torch.device) -> "Batch":
        items, targets, users = (t.to(device, non_blocking=True) for t in (self.items, self.targets, self.users))
        return Batch(items, targets, users, self.tokens)


@dataclass(frozen=True)
class Step:
    """parts: this worker's batches; tokens: of all workers' parts; batches: how many those are.

    done: the share of the epoch's tokens that came before it, the same for all workers.
    """

    parts: list[Batch]
    tokens: int
    batches: int
    done: float


@dataclass(frozen=True)
class Draw:
    """What decides the batches of an epoch."""

    max_len: int
    tokens: int
    seed: int
    epoch: int


def steps(
    shards: Shards, draw: Draw, accumulation: int = 1, rank: int = 0, world_size: int = 1, skip: int = 0
) -> Iterator[Step]:
    """One worker's share of an epoch after its first `skip` batches; one shard is held at a time.

    All workers get the same number of steps and of parts in each; a last step may have fewer than `accumulation`
    parts. At most world_size - 1 batches of an epoch go to nobody: another epoch draws others.
    """
    mine: list[Batch] = []
    sizes: list[int] = []
    passed = number = 0
    for which in np.random.default_rng([draw.seed, draw.epoch]).permutation(len(shards)).tolist():
        plan = _plan(shards.read(which), draw, which)
        for place in range(len(plan.cuts)):
            number += 1
            if number <= skip:
                passed += plan.size(place)
                continue
            if len(sizes) % world_size == rank:
                mine.append(plan.batch(place))
            sizes.append(plan.size(place))
            if len(sizes) == world_size * accumulation:
                yield Step(mine, sum(sizes), len(sizes), passed / shards.pairs)
                passed += sum(sizes)
                mine, sizes = [], []
        del plan  # before the next one is read
    rounds = len(sizes) // world_size
    if rounds:
        whole = sizes[: rounds * world_size]
        yield Step(mine[:rounds], sum(whole), len(whole), passed / shards.pairs)


def batches(train: Interactions, max_len: int, tokens: int, seed: int, epoch: int) -> list[Batch]:
    """An epoch of one worker, of data that are in memory anyway: what an experiment trains on."""
    learning = train.lengths >= 2
    if not learning.any():
        return []
    kept = train.keep(learning[train.users])
    users = np.flatnonzero(learning)
    shard = Shard(users, np.append(kept.indptr[users], len(kept.items)), kept.items)
    plan = _plan(shard, Draw(max_len, tokens, seed, epoch), 0)
    return [plan.batch(place) for place in range(len(plan.cuts))]


def windows(shard: Shard, max_len: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
    """begin, length, row of each window; window (b, n) has inputs items[b:b + n] and targets items[b + 1:b + n + 1].

    Together they hold every (history, next item) pair of the shard once. A longer history is cut at a phase drawn anew
    each epoch, so that no pair is always seen with a short context.
    """
    pairs = np.diff(shard.indptr) - 1
    first = np.where(pairs > max_len, rng.integers(1, max_len + 1, size=len(pairs)), pairs)
    count = 1 + -(-(pairs - first) // max_len)
    row = np.repeat(np.arange(len(pairs)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    offset = np.where(nth == 0, 0, first[row] + (nth - 1) * max_len)
    length = np.where(nth == 0, first[row], np.minimum(max_len, pairs[row] - offset))
    return shard.indptr[row] + offset, length, row


@dataclass(frozen=True, eq=False)
class _Plan:
    """The batches of one shard, in the order of training: batch i has the windows cuts[i] of begin, length, user."""

    shard: Shard
    begin: IntArray
    length: IntArray
    user: IntArray
    cuts: list[slice]

    def size(self, place: int) -> int:
        return int(self.length[self.cuts[place]].sum())

    def batch(self, place: int) -> Batch:
        rows = self.cuts[place]
        begin, length, items = self.begin[rows], self.length[rows], self.shard.items
        offsets = np.arange(length.max())
        real = offsets < length[:, None]  # (B, L)
        places = np.where(real, begin[:, None] + offsets, 0)
        return Batch(
            items=torch.from_numpy(np.where(real, items[places], 0).astype(np.int64)),
            targets=torch.from_numpy(np.where(real, items[np.where(real, places + 1, 0)], 0).astype(np.int64)),
            users=torch.from_numpy(self.user[rows] + 1),
            tokens=int(length.sum()),
        )


def _plan(shard: Shard, draw: Draw, number: int) -> _Plan:
    rng = np.random.default_rng([draw.seed, draw.epoch, number])
    begin, length, row = windows(shard, draw.max_len, rng)
    order = rng.permutation(len(length))
    order = order[np.argsort(length[order] // BUCKET, kind="stable")]
    borders = _cut(length[order], draw.tokens)
    chosen = rng.permutation(len(borders) - 1).tolist()
    cuts = [slice(borders[cut], borders[cut + 1]) for cut in chosen]
    return _Plan(shard, begin[order], length[order], shard.users[row[order]], cuts)


def _cut(lengths: IntArray, tokens: int) -> list[int]:
    """Borders of batches of at most `tokens` padded tokens (one row at least) over nearly ascending lengths."""
    borders, start, widest = [0], 0, 0
    for index, length in enumerate(lengths.tolist()):
        widest = max(widest, length)
        if index > start and widest * (index - start + 1) > tokens:
            borders.append(index)
            start, widest = index, length
    borders.append(len(lengths))
    return borders
