"""How many people an experiment in production needs. Knows means and variances per person; knows no model.

Randomised by person, the metric is a ratio of sums (plays over visits), so its variance is the delta method's
(Deng, Knoblich & Lu 2018, "Applying the Delta Method in Metric Analytics"):

    Var(plays / visits) = (Var(p) - 2 m Cov(p, v) + m² Var(v)) / (n · mean(v)²)      m = mean(p) / mean(v)
    n in each arm      = 2 (z_(1-α/2) + z_(power))² · σ² / (m · δ)²                   σ² = that, times n

for a relative effect δ (Kohavi, Tang & Xu 2020, ch. 17).
"""

import math
from statistics import NormalDist

import numpy as np

from slipway.workloads.movies.business.trial import Floats


def people_needed(plays: Floats, visits: Floats, effect: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """In each of two arms, to find a relative change `effect` of plays per visit; plays, visits: (people,) sums of
    people who came. Raises ValueError when nobody played anything.
    """
    per_visit, variance = _moments(plays, visits)
    return math.ceil(2 * (_z(alpha, power) ** 2) * variance / (per_visit * effect) ** 2)


def detectable(plays: Floats, visits: Floats, people: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest relative change that so many people in each arm show."""
    per_visit, variance = _moments(plays, visits)
    return _z(alpha, power) * math.sqrt(2 * variance / people) / per_visit


def _moments(plays: Floats, visits: Floats) -> tuple[float, float]:
    """Plays per visit, and the variance of one person's contribution to it."""
    if not plays.sum():
        raise ValueError("nobody played anything: there is no relative change of nothing")
    per_visit = float(plays.sum() / visits.sum())
    return per_visit, float(np.var(plays - per_visit * visits, ddof=1) / visits.mean() ** 2)


def _z(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
