"""Whether a score that is shown as a probability is one. Knows probabilities and hits; knows no model."""

import numpy as np
import numpy.typing as npt

from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.share import wilson
from slipway.package import Frozen

Floats = npt.NDArray[np.float64]

BINS = 10


class Bin(Frozen):
    """Of the answers in it: the mean probability, the share that was right and its Wilson (1927) interval."""

    answers: int
    predicted: float
    observed: float
    low: float
    high: float


def reliability(probabilities: Floats, hits: Floats, bins: int = BINS) -> tuple[Bin, ...]:
    """Equally filled bins by probability, the smallest first; both (answers,). Equal probabilities share a bin."""
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    part = np.searchsorted(edges, probabilities, side="left")
    found = []
    for number in np.unique(part):
        inside = part == number
        n, observed = int(inside.sum()), float(hits[inside].mean())
        low, high = wilson(observed * n, n)
        found.append(
            Bin(answers=n, predicted=float(probabilities[inside].mean()), observed=observed, low=low, high=high)
        )
    return tuple(found)


def expected_error(bins: tuple[Bin, ...]) -> float:
    """Mean distance of predicted and observed, weighted by answers: ECE (Naeini et al. 2015; Guo et al. 2017)."""
    return float(np.average([abs(b.predicted - b.observed) for b in bins], weights=[b.answers for b in bins]))


def measurements(bins: tuple[Bin, ...], why: str = "") -> list[Measurement]:
    """calibration_error: ECE; calibration_ratio: hits that were promised over hits that came. why: there are none."""
    answers = sum(b.answers for b in bins)
    names = ("calibration_error", "calibration_ratio")
    if not answers:
        return [Measurement(name=n, kind=Kind.CALIBRATION, value=None, cases=0, detail=why) for n in names]
    promised = sum(b.predicted * b.answers for b in bins)
    came = sum(b.observed * b.answers for b in bins)
    detail = f"{promised:,.0f} hits were promised by {answers:,} answers, {came:,.0f} came"
    values = (expected_error(bins), promised / max(came, 0.5))
    return [
        Measurement(name=n, kind=Kind.CALIBRATION, value=value, cases=answers, detail=detail)
        for n, value in zip(names, values, strict=True)
    ]
