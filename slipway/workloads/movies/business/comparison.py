"""Two arms on the same people: how much more one is worth, and how sure that is. Knows sums per person, no model."""

from pathlib import Path

import numpy as np

from slipway.errors import SourceError
from slipway.evaluation.bootstrap import Interval, resampled_means
from slipway.evaluation.measurement import Kind, Measurement
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.business import trial
from slipway.workloads.movies.business.arms import Editorial, Scored
from slipway.workloads.movies.business.market import Market, Setting, Span
from slipway.workloads.movies.business.trial import Floats, Taken

NAME = "business_uplift"
QUICK = Span(days=7, visits=1_500)
RESAMPLES = 2_000


class Worth(Frozen):
    """One arm. plays: from the row per visit; success: share of visits with one; weekly: films per person and week from
    anywhere; daily: plays of each day; stars: mean rating of plays from the row; wait: median s to the first play, in
    visits with one.
    """

    plays: Interval
    success: Interval
    weekly: Interval
    daily: tuple[float, ...]
    stars: float | None
    wait: float | None
    films: int
    visits: int
    people: int


def worth(taken: Taken, days: int) -> Worth:
    """Means over visits (people for weekly) with 95 % intervals over people who came at least once."""
    came = taken.visits > 0
    visits = taken.visits[came]
    rated = taken.rated.sum()
    return Worth(
        plays=ratio(taken.plays[came], visits),
        success=ratio(taken.successes[came], visits),
        weekly=ratio((taken.plays + taken.found)[came] * 7 / days, np.ones(len(visits))),
        daily=tuple(taken.daily.tolist()),
        stars=float(taken.stars.sum() / rated) if rated else None,
        wait=float(np.median(taken.waits)) if len(taken.waits) else None,
        films=taken.films,
        visits=int(visits.sum()),
        people=len(visits),
    )


def ratio(top: Floats, bottom: Floats, minus: float = 0.0, seed: int = 0) -> Interval:
    """sum(top) / sum(bottom) - minus of (P,) people, with its 95 % percentile interval over people drawn anew.

    A ratio of sums and not a mean of ratios: people who come often count as often as they come, in every resample too.
    """
    means = resampled_means(np.stack([top, bottom], axis=1), RESAMPLES, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = means[:, 0] / means[:, 1] - minus
    low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975]) if np.isfinite(drawn).any() else (0.0, 0.0)
    total = bottom.sum()
    return Interval(value=float(top.sum() / total - minus) if total else 0.0, low=float(low), high=float(high))


def gain(arm: Taken, status_quo: Taken) -> Interval:
    """Relative: 0.1 is ten per cent more plays per visit. Paired: a resample draws the same people in both arms."""
    came = status_quo.visits > 0
    return ratio(arm.plays[came], status_quo.plays[came], minus=1.0)


def uplift(data: Path, subject: Subject, progress: Progress, span: Span = QUICK) -> Measurement:
    """Relative gain in plays from the row per visit of what subject serves over the editorial row; a few CPU-seconds.

    Measured only on simulated people whose past is this data set: elsewhere cases is 0, and detail says why.
    """
    try:
        market = Market.open(data, subject.whole, Setting(), span)
    except SourceError as error:
        return Measurement(name=NAME, kind=Kind.METRIC, value=None, cases=0, detail=f"{error.message}: {error.remedy}")
    before = trial.run(market, Editorial(market), progress)
    after = trial.run(market, Scored("served", subject, market), progress)
    if not before.plays.sum():
        return Measurement(
            name=NAME, kind=Kind.METRIC, value=None, cases=0, detail="nobody played anything from the editorial row"
        )
    found = gain(after, before)
    visits, people = int(before.visits.sum()), int((before.visits > 0).sum())
    means = [taken.plays.sum() / visits for taken in (after, before)]
    detail = (
        f"{means[0]:.2f} plays per visit instead of the editorial row's {means[1]:.2f}: {people:,} simulated people in "
        f"{span.days} days, so it holds in the simulator's world"
    )
    return Measurement(
        name=NAME, kind=Kind.METRIC, value=found.value, cases=visits, low=found.low, high=found.high, detail=detail
    )
