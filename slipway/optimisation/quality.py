"""How much worse another graph answers than the original one. Knows (users,) numbers and lists of items; no metric."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.evaluation.bootstrap import resampled_means
from slipway.package import Frozen


@dataclass(frozen=True, eq=False)
class Answers:
    """per_user: (users,) of the metric, higher is better; top: (cases, k) items, 0 where there are fewer. finite:
    whether every score was.
    """

    per_user: npt.NDArray[np.float64]
    top: npt.NDArray[np.int64]
    finite: bool = True


class Quality(Frozen):
    """value: the metric's mean over users; drop: original minus this one; drop_bound: one-sided upper bound of it by
    the paired bootstrap; overlap: mean share of the original's items that are answered, too.
    """

    value: float
    drop: float
    drop_bound: float
    overlap: float
    finite: bool = True


def compare(original: Answers, found: Answers, confidence: float, resamples: int, seed: int) -> Quality:
    """Of the same users and cases in the same order. Raises ValueError when they are not."""
    if original.per_user.shape != found.per_user.shape or original.top.shape != found.top.shape:
        raise ValueError("a paired comparison needs the same users and cases")
    drops = original.per_user - found.per_user
    bound = np.quantile(resampled_means(drops[:, None], resamples, seed)[:, 0], confidence)
    return Quality(
        value=float(found.per_user.mean()),
        drop=float(drops.mean()),
        drop_bound=float(bound),
        overlap=overlap(original.top, found.top),
        finite=found.finite,
    )


def overlap(original: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    """Mean over cases of the share of the original's items, whatever their order; 1 where it has none."""
    kept = ((original[:, :, None] == found[:, None, :]).any(axis=2) & (original > 0)).sum(axis=1)
    asked = (original > 0).sum(axis=1)
    return float(np.where(asked > 0, kept / np.maximum(asked, 1), 1).mean())
