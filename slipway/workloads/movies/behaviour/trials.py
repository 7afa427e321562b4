"""How a test that was tried many times becomes one measurement. Knows trials, shares and intervals; knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.evaluation.bootstrap import resampled_means
from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.share import wilson

Floats = npt.NDArray[np.float64]

SHOWN = 5  # examples of one measurement
RESAMPLES = 1000
FEW = 30  # cases; a ratio of fewer is noise


@dataclass(frozen=True)
class Trial:
    """One question and whether its answer was wrong; words: the question and the answer, for a person.

    badness orders failures, the worst first.
    """

    failed: bool
    words: str
    badness: float = 0.0


def failure_rate(name: str, kind: Kind, trials: Sequence[Trial], detail: str, absent: str = "") -> Measurement:
    """The share of trials that failed, with the worst of them. absent: why there may be no trial at all."""
    if not trials:
        return unmeasured(name, kind, absent)
    failures = sorted((trial for trial in trials if trial.failed), key=lambda trial: -trial.badness)
    low, high = wilson(len(failures), len(trials))
    return Measurement(
        name=name,
        kind=kind,
        value=len(failures) / len(trials),
        cases=len(trials),
        low=low,
        high=high,
        detail=f"share of failures, smaller is better: {detail}",
        examples=tuple(trial.words for trial in failures[:SHOWN]),
    )


def mean(
    name: str,
    kind: Kind,
    values: npt.ArrayLike,
    detail: str,
    examples: Sequence[str] = (),
    absent: str = "",
    seed: int = 0,
) -> Measurement:
    """The mean of values (cases,), with its bootstrap interval."""
    column = np.asarray(values, dtype=np.float64)
    if not len(column):
        return unmeasured(name, kind, absent)
    low, high = np.quantile(resampled_means(column[:, None], RESAMPLES, seed)[:, 0], [0.025, 0.975])
    return Measurement(
        name=name,
        kind=kind,
        value=float(column.mean()),
        cases=len(column),
        low=float(low),
        high=float(high),
        detail=detail,
        examples=tuple(examples[:SHOWN]),
    )


def ratio(
    name: str,
    kind: Kind,
    above: Floats,
    below: Floats,
    detail: str,
    absent: str = "",
    paired: bool = True,
    seed: int = 0,
) -> Measurement:
    """mean(above) / mean(below) with its bootstrap interval. paired: both are of the same cases, drawn together."""
    if min(len(above), len(below)) < FEW:
        return unmeasured(name, kind, absent or f"there are fewer than {FEW} cases")
    if not below.any():
        return unmeasured(name, kind, f"what it is divided by is 0: {detail}")
    if paired:
        means = resampled_means(np.stack([above, below], axis=1), RESAMPLES, seed)
        numerators, denominators = means[:, 0], means[:, 1]
    else:
        numerators = resampled_means(above[:, None], RESAMPLES, seed)[:, 0]
        denominators = resampled_means(below[:, None], RESAMPLES, seed + 1)[:, 0]
    drawn = numerators[denominators > 0] / denominators[denominators > 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Measurement(
        name=name,
        kind=kind,
        value=float(above.mean() / below.mean()),
        cases=min(len(above), len(below)),
        low=float(low),
        high=float(high),
        detail=f"{detail} ({above.mean():.4f} against {below.mean():.4f})",
    )


def unmeasured(name: str, kind: Kind, why: str) -> Measurement:
    return Measurement(name=name, kind=kind, value=None, cases=0, detail=f"could not be asked: {why}")
