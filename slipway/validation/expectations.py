"""Soft expectations: numbers of a whole table, mostly against a former version's. Knows profiles, no rows.

Each says what it saw, where it would have warned, and warns; none stops anything. Those that compare are skipped as
long as there is nothing to compare with.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from slipway.package import Frozen
from slipway.validation.profile import Distribution, Profile, hour
from slipway.validation.report import Result

ENOUGH = 100  # rows, below which no share is worth comparing


@dataclass(frozen=True)
class Seen:
    """now: of the rows that are judged (what came since the reference, where the table only grows); total: of all.

    sample: at most profile.SAMPLE of the judged rows; reference: a former version's, or None; doubles: name of a
    key → rows beyond the first; at: the moment of the check.
    """

    now: Profile
    total: Profile
    sample: pl.DataFrame
    reference: Profile | None
    doubles: dict[str, int]
    at: datetime


class Expectation(Frozen):
    def look(self, seen: Seen) -> Iterator[Result]:
        """One result per thing that is looked at."""
        raise NotImplementedError


def _result(name: str, observed: float | None, limit: float, message: str, *, warn: bool) -> Result:
    status = "skipped" if observed is None else "warned" if warn else "passed"
    return Result(name=name, hard=False, status=status, message=message, observed=observed, limit=limit)


def _skipped(name: str, why: str) -> Result:
    return Result(name=name, hard=False, status="skipped", message=why)


class RowCount(Expectation):
    """Between two versions a table neither shrinks by more than `loss` of its rows nor grows beyond `growth` times."""

    loss: float = Field(0.0, ge=0, le=1)
    growth: float = Field(3.0, gt=1)

    def look(self, seen: Seen) -> Iterator[Result]:
        if seen.reference is None or not seen.reference.rows:
            yield _skipped("row_count", "nothing to compare with: no former version was checked")
            return
        ratio = seen.total.rows / seen.reference.rows
        warn = not 1 - self.loss <= ratio <= self.growth
        yield _result(
            "row_count",
            ratio,
            self.growth if ratio >= 1 else 1 - self.loss,
            f"{seen.total.rows:,} rows; the former version had {seen.reference.rows:,}",
            warn=warn,
        )


class NullShare(Expectation):
    """A column is not null throughout, nor by more than `more` (absolute) oftener than before."""

    columns: tuple[str, ...]
    more: float = Field(0.05, ge=0, le=1)

    def look(self, seen: Seen) -> Iterator[Result]:
        for column in self.columns:
            found = seen.now.columns.get(column)
            if found is None or not seen.now.rows:
                yield _skipped(f"nulls_{column}", "no new rows")
                continue
            before = seen.reference.columns.get(column) if seen.reference else None
            limit = min((before.nulls if before else 0.0) + self.more, 1.0) if before else 1.0
            everything = found.nulls == 1.0 and (before is None or before.nulls < 1.0)
            message = (
                "nothing but nulls"
                if everything
                else f"{found.nulls:.2%} are null" + (f"; it was {before.nulls:.2%}" if before else "")
            )
            yield _result(f"nulls_{column}", found.nulls, limit, message, warn=everything or found.nulls > limit)


class Mean(Expectation):
    """A column's mean stays within `sigmas` standard errors and `effect` standard deviations of the former one.

    The second term is there because with millions of rows every difference is significant and few matter (Cohen's d).
    """

    column: str
    sigmas: float = Field(3.0, gt=0)
    effect: float = Field(0.1, ge=0)

    def look(self, seen: Seen) -> Iterator[Result]:
        name = f"mean_{self.column}"
        now = seen.now.columns.get(self.column)
        before = seen.reference.columns.get(self.column) if seen.reference else None
        if seen.reference is None or before is None or before.mean is None or before.deviation is None:
            yield _skipped(name, "nothing to compare with: no former version was checked")
            return
        known = seen.now.rows * (1 - now.nulls) if now else 0.0
        if now is None or now.mean is None or known < 2:
            yield _skipped(name, "no new values")
            return
        former = max(seen.reference.rows * (1 - before.nulls), 1.0)
        spread = before.deviation or (now.deviation or 0.0)
        limit = spread * (self.sigmas * math.sqrt(1 / known + 1 / former) + self.effect)
        off = abs(now.mean - before.mean)
        yield _result(name, off, limit, f"mean {now.mean:.4g}; it was {before.mean:.4g}", warn=off > limit)


class Drift(Expectation):
    """The population stability index of each column against the former version is below `limit`.

    PSI = Σ (p - q) ln(p / q) over the reference's bins; 0.1 is a shift, 0.25 a large one (Siddiqi, "Credit Risk
    Scorecards", 2006). Of equal populations its mean is (bins - 1)(1/n + 1/m) (Yurdakul 2018), which is added to
    the limit three times, so that few rows do not warn by chance.
    """

    columns: tuple[str, ...]
    limit: float = Field(0.2, gt=0)

    def look(self, seen: Seen) -> Iterator[Result]:
        for column in self.columns:
            name = f"psi_{column}"
            before = seen.reference.columns.get(column) if seen.reference else None
            if before is None or not before.shares:
                yield _skipped(name, "nothing to compare with: no former version was checked")
                continue
            size = len(seen.sample) - seen.sample[column].null_count() if column in seen.sample.columns else 0
            if size < ENOUGH:
                yield _skipped(name, f"{size:,} new values are too few for a distribution (at least {ENOUGH})")
                continue
            now = before.of(seen.sample[column])
            found = psi(now, np.asarray(before.shares))
            limit = self.limit + 3 * (len(now) - 1) * (1 / size + 1 / max(before.sampled, 1))
            yield _result(name, found, limit, _moved(before, now), warn=found > limit)


class New(Expectation):
    """At most `share` of the distinct ids in a column were not there in the former version."""

    column: str
    share: float = Field(0.5, gt=0, le=1)

    def look(self, seen: Seen) -> Iterator[Result]:
        name = f"new_{self.column}"
        before = seen.reference.ids.get(self.column) if seen.reference else None
        if before is None:
            yield _skipped(name, "nothing to compare with: no former version was checked")
            return
        now = seen.now.ids[self.column]
        if not now.hashes:
            yield _skipped(name, "no new rows")
            return
        found = now.unknown(before)
        message = f"{found:.2%} of about {now.distinct:,.0f} are new"
        yield _result(name, found, self.share, message, warn=found > self.share and now.distinct >= ENOUGH)


class Doubles(Expectation):
    """At most `share` of the rows repeat another's `columns`."""

    columns: tuple[str, ...]
    share: float = Field(0.01, ge=0, le=1)

    def look(self, seen: Seen) -> Iterator[Result]:
        name = "_".join(self.columns)
        found = seen.doubles[name] / max(seen.total.rows, 1)
        message = f"{seen.doubles[name]:,} rows repeat another's {', '.join(self.columns)}"
        yield _result(f"duplicates_{name}", found, self.share, message, warn=found > self.share)


class Gap(Expectation):
    """No stretch without any row is longer than `hours`, or than the former version's longest."""

    hours: int = Field(24, gt=0)

    def look(self, seen: Seen) -> Iterator[Result]:
        if seen.now.first is None or seen.now.last is None:
            yield _skipped("gap_hours", "no new rows")
            return
        gap = seen.now.gap
        if seen.reference and seen.reference.last is not None:
            gap = max(gap, seen.now.first - seen.reference.last - 1)
        limit = max(self.hours, seen.reference.gap if seen.reference else 0)
        yield _result(
            "gap_hours", float(gap), float(limit), f"{gap:,} hours without any is the longest stretch", warn=gap > limit
        )


class Fresh(Expectation):
    """The newest row is at most `hours` old."""

    hours: int = Field(gt=0)

    def look(self, seen: Seen) -> Iterator[Result]:
        if seen.total.last is None:
            yield _skipped("age_hours", "no rows")
            return
        age = max(hour(seen.at) - seen.total.last, 0)
        said = f"{age:,} hours" if age < 96 else f"{age // 24:,} days"
        message = f"the newest row is {said} old"
        yield _result("age_hours", float(age), float(self.hours), message, warn=age > self.hours)


def psi(now: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    """now, reference: (bins,) shares; an empty bin counts as 0.0001, as is the custom."""
    p, q = np.maximum(now, 1e-4), np.maximum(reference, 1e-4)
    return float(np.sum((p - q) * np.log(p / q)))


def _moved(before: Distribution, now: npt.NDArray[np.float64]) -> str:
    """Which part grew or shrank most."""
    was = np.asarray(before.shares)
    place = int(np.argmax(np.abs(now - was)))
    if before.values is not None:
        part = before.values[place] if place < len(before.values) else "other values"
    else:
        edges = before.edges or ()
        low = f"{edges[place - 1]:.4g}" if place else "-∞"
        part = f"{low} to {f'{edges[place]:.4g}' if place < len(edges) else '∞'}"
    return f"most of it: {part} has {now[place]:.1%}; it had {was[place]:.1%}"
