"""How sure a mean over users is. Knows (users,) numbers; knows no metric.

Users are resampled with replacement, whole, because one user's cases depend on each other; all columns share the same
resamples, so that the difference of two columns is the paired bootstrap (Efron & Tibshirani 1993, ch. 8; Sakai 2006).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slipway.package import Frozen

Floats = npt.NDArray[np.float64]

CHUNK_CELLS = 1 << 22  # resamples × users held at once: 32 MB


class Interval(Frozen):
    """value: the mean over users; low and high: its percentile interval."""

    value: float
    low: float
    high: float


def resampled_weights(users: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """(some, users) how often each user is drawn with replacement, in chunks until there are `resamples` rows."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // users)
    for begin in range(0, resamples, step):
        n = min(step, resamples - begin)
        drawn = rng.integers(0, users, size=(n, users)) + np.arange(n)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=n * users).reshape(n, users)


def resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    """(resamples, columns) means of values (users, columns), each over users drawn with replacement."""
    users = len(values)
    drawn = resampled_weights(users, resamples, seed)
    return np.concatenate([weights.astype(np.float64) @ values / users for weights in drawn])


def intervals(values: Floats, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> list[Interval]:
    """One two-sided interval per column of values (users, columns)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_means(values, resamples, seed), [tail, 1 - tail], axis=0)
    return [
        Interval(value=float(v), low=float(a), high=float(b))
        for v, a, b in zip(values.mean(axis=0), low, high, strict=True)
    ]
