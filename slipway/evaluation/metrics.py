"""Ranking metrics with one relevant item per case. Knows scores, ranks and owners; knows no model and no data set.

Ties count against the model: an item that scores the same as the answer stands before it. A constant score is then
the worst model, not a perfect one. Means are taken over a user's cases first and over users second, so that each user
weighs the same and users can be resampled.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]

CHUNK_BYTES = 32 << 20  # of one (cases, items) float32 matrix


def chunk_cases(n_items: int) -> int:
    """How many cases to score at once, so that no matrix grows beyond CHUNK_BYTES."""
    return max(1, CHUNK_BYTES // (4 * (n_items + 1)))


def metric_name(metric: str, k: int, protocol: str, filtered: bool, among: str = "full") -> str:
    """ndcg10_full_loo_filtered: metric and cut-off, ranked among the full catalogue, split, and whether seen items were
    left out.
    """
    return f"{metric}{k}_{among}_{protocol}_{'filtered' if filtered else 'unfiltered'}"


@dataclass(frozen=True, eq=False)
class Ranking:
    """ranks: (cases,) int64, 0 = the answer came first; top: (cases, k) int64, best first; both in index space.

    -inf says "never" and may be given; a case with NaN or +inf among its scores ranks last, and finite is False.
    """

    ranks: Ints
    top: Ints
    finite: bool


def rank(scores: Scores, targets: Ints, k: int, seen: tuple[Ints, Ints] | None = None) -> Ranking:
    """Rank items 1..n_items of scores (cases, n_items + 1); column 0, the padding, never counts.

    targets: (cases,) the answers. seen: rows and items that are left out; an answer is never left out.
    """
    rows = np.arange(len(scores))
    finite = (scores[:, 1:] < np.inf).all(axis=1)  # false for NaN, too
    allowed = scores.astype(np.float32)  # a copy: what is masked belongs to us
    wanted = allowed[rows, targets]
    if seen is not None:
        allowed[seen] = -np.inf
    allowed[:, 0] = -np.inf
    allowed[rows, targets] = wanted
    ranks = (allowed >= wanted[:, None]).sum(axis=1) - 1
    ranks[~finite] = scores.shape[1] - 1
    allowed[~finite] = -np.inf
    k = min(k, scores.shape[1] - 1)
    best = np.argpartition(allowed, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(allowed, best, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(best, order, axis=1)
    top[np.take_along_axis(allowed, top, axis=1) == -np.inf] = 0
    return Ranking(ranks.astype(np.int64), top.astype(np.int64), bool(finite.all()))


def ndcg(ranks: Ints, k: int) -> Floats:
    """(cases,) NDCG@k. With one relevant item the ideal DCG is 1 (Järvelin & Kekäläinen 2002, eq. 2)."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def hit_rate(ranks: Ints, k: int) -> Floats:
    """(cases,) 1 where the answer is among the first k: recall@k of one relevant item."""
    return (ranks < k).astype(np.float64)


def reciprocal_rank(ranks: Ints, k: int) -> Floats:
    """(cases,) 1 / (1 + rank) among the first k, else 0 (Voorhees 1999)."""
    return np.where(ranks < k, 1 / (ranks + 1.0), 0.0)


METRICS = {"ndcg": ndcg, "hr": hit_rate, "mrr": reciprocal_rank}


def user_means(values: Floats, owners: Ints, users: int) -> Floats:
    """(users,) means of values (cases,) over each user's cases; owners: (cases,) in 0..users - 1, all of them."""
    return np.bincount(owners, values, minlength=users) / np.bincount(owners, minlength=users)


def recall_curve(ranks: Ints, owners: Ints, users: int, longest: int = 100) -> Floats:
    """(longest,) recall at 1, 2, … longest, mean over users."""
    weights = (1 / np.bincount(owners, minlength=users))[owners] / users
    return np.cumsum(np.bincount(np.minimum(ranks, longest), weights, minlength=longest + 1)[:longest])


def coverage(top: Ints, n_items: int) -> float:
    """Share of the catalogue that is recommended to anybody at all."""
    return len(np.unique(top[top > 0])) / n_items


def novelty(top: Ints, popularity: npt.NDArray[np.floating]) -> float:
    """Mean self-information of what is recommended, in bits (Vargas & Castells 2011, eq. 5).

    popularity: (n_items + 1,) training events per item; one is added to each, so that a new item is finite.
    """
    share = (popularity[1:] + 1.0) / (popularity[1:].sum() + len(popularity) - 1)
    recommended = top[top > 0]
    return float(-np.log2(share[recommended - 1]).mean()) if len(recommended) else 0.0
