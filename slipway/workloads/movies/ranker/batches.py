"""Training batches: windows of histories, bucketed by length. Knows index space and arrays; knows no model.

Everything is drawn from (seed, epoch), so that an epoch can be run again, or shared among workers, exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipway.workloads.movies.interactions import IntArray, Interactions

BUCKET = 8  # windows whose lengths differ by less share batches in random order; longer ones wait for their own kind


@dataclass(frozen=True)
class Batch:
    """items: (B, L) int64, right-padded with 0; targets: (B, L), the item after each, 0 at padding; users: (B,), + 1"""

    items: Tensor
    targets: Tensor
    users: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in (self.items, self.targets, self.users)))


def windows(train: Interactions, max_len: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
    """begin, length, user of each window; window (b, n) has inputs items[b:b + n] and targets items[b + 1:b + n + 1].

    Together they hold every (history, next item) pair of `train` once. A longer history is cut at a phase drawn anew
    each epoch, so that no pair is always seen with a short context.
    """
    pairs = np.maximum(train.lengths - 1, 0)
    first = np.where(pairs > max_len, rng.integers(1, max_len + 1, size=len(pairs)), pairs)
    count = np.where(pairs > 0, 1 + -(-(pairs - first) // max_len), 0)
    user = np.repeat(np.arange(len(pairs)), count)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    offset = np.where(nth == 0, 0, first[user] + (nth - 1) * max_len)
    length = np.where(nth == 0, first[user], np.minimum(max_len, pairs[user] - offset))
    return train.indptr[user] + offset, length, user


def batches(
    train: Interactions, max_len: int, tokens: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[Batch]:
    """One worker's share of an epoch: about `tokens` padded tokens each; all workers get the same number, no overlap.

    At most world_size - 1 batches of an epoch go to nobody: another epoch draws others.
    """
    return list(_assemble(train, max_len, tokens, np.random.default_rng([seed, epoch]), rank, world_size))


def _assemble(
    train: Interactions, max_len: int, tokens: int, rng: np.random.Generator, rank: int, world_size: int
) -> Iterator[Batch]:
    begin, length, user = windows(train, max_len, rng)
    order = rng.permutation(len(length))
    order = order[np.argsort(length[order] // BUCKET, kind="stable")]
    cuts = _cut(length[order], tokens)
    chosen = rng.permutation(len(cuts) - 1)
    chosen = chosen[: len(chosen) // world_size * world_size][rank::world_size]
    for number in chosen:
        rows = order[cuts[number] : cuts[number + 1]]
        offsets = np.arange(length[rows].max())
        real = offsets < length[rows, None]  # (B, L)
        places = np.where(real, begin[rows, None] + offsets, 0)
        yield Batch(
            items=torch.from_numpy(np.where(real, train.items[places], 0).astype(np.int64)),
            targets=torch.from_numpy(np.where(real, train.items[np.where(real, places + 1, 0)], 0).astype(np.int64)),
            users=torch.from_numpy(user[rows] + 1),
        )


def _cut(lengths: IntArray, tokens: int) -> list[int]:
    """Borders of batches of at most `tokens` padded tokens (one row at least) over nearly ascending lengths."""
    cuts, start, widest = [0], 0, 0
    for index, length in enumerate(lengths.tolist()):
        widest = max(widest, length)
        if index > start and widest * (index - start + 1) > tokens:
            cuts.append(index)
            start, widest = index, length
    if len(lengths):
        cuts.append(len(lengths))
    return cuts
