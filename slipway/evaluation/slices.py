"""A metric over parts of the cases, with the uncertainty of each. Knows cases, owners and membership; knows no model.

As in the whole table each user weighs the same: a slice's figure is the mean over its users of each one's mean over the
cases in the slice. Users are resampled, whole, with the same resamples for every slice and column, so the gain is the
paired bootstrap; the number of users in a slice varies with the resample as it would with the sample (Efron &
Tibshirani 1993, ch. 8). A slice without members, or with too few to tell, says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.evaluation.bootstrap import resampled_weights
from slipway.evaluation.measurement import Kind, Measurement
from slipway.package import Frozen

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SERVED, BAR, GAIN = "served", "bar", "gain"
FEW = 10  # users; the bootstrap's interval over fewer is too narrow to be believed


class Estimate(Frozen):
    """low, high: a 95 % interval; null where there are too few users for one."""

    value: float
    low: float | None = None
    high: float | None = None


class Slice(Frozen):
    """values: by SERVED, BAR and GAIN, the paired difference; empty without cases. note: why there is less to tell."""

    key: str
    label: str
    cases: int
    users: int
    values: dict[str, Estimate]
    note: str = ""


class Slicing(Frozen):
    """One way to divide the cases. absent: why this data set cannot be divided so; then it has no parts."""

    key: str
    title: str
    parts: tuple[Slice, ...]
    absent: str = ""


@dataclass(frozen=True, eq=False)
class Division:
    """members: (cases, len(labels)) which case belongs to which part, none, one or several; labels: key → in words."""

    key: str
    title: str
    labels: Mapping[str, str]
    members: Flags
    absent: str = ""

    @classmethod
    def of(cls, key: str, title: str, labels: Mapping[str, str], part: Ints) -> "Division":
        """part: (cases,) the number of each case's part, -1 for none."""
        return cls(key, title, labels, part[:, None] == np.arange(len(labels)))

    @classmethod
    def impossible(cls, key: str, title: str, labels: Mapping[str, str], cases: int, why: str) -> "Division":
        return cls(key, title, labels, np.zeros((cases, len(labels)), dtype=np.bool_), why)


def measure(
    divisions: Iterable[Division], served: Floats, bar: Floats, owners: Ints, resamples: int, seed: int
) -> tuple[Slicing, ...]:
    """served, bar: (cases,) of the same metric; owners: (cases,) in 0..users - 1."""
    divisions = list(divisions)
    users = int(owners.max(initial=-1)) + 1
    columns: list[Floats] = []  # of each part: is the user in it, his mean of served, his mean of bar
    for division in divisions:
        for inside in division.members.T:
            of = owners[inside]
            times = np.bincount(of, minlength=users)
            columns.append((times > 0).astype(np.float64))
            for values in (served, bar):
                columns.append(np.bincount(of, values[inside], minlength=users) / np.maximum(times, 1))
    if not columns:
        return tuple(Slicing(key=d.key, title=d.title, parts=(), absent=d.absent) for d in divisions)
    matrix = np.stack(columns, axis=1)
    bounds = _bounds(matrix, resamples, seed)
    sums = matrix.sum(axis=0).reshape(-1, 3)
    found, column = [], 0
    for division in divisions:
        parts = []
        for part, (key, label) in enumerate(division.labels.items()):
            cases = int(division.members[:, part].sum())
            parts.append(_slice(key, label, cases, sums[column], bounds[:, column], division.absent))
            column += 1
        found.append(Slicing(key=division.key, title=division.title, parts=tuple(parts), absent=division.absent))
    return tuple(found)


def _bounds(matrix: Floats, resamples: int, seed: int) -> Floats:
    """(2, parts, 3) the 2.5 % and 97.5 % quantiles of served, bar and gain over resampled users."""
    narrow = matrix.astype(np.float32)  # sums of thousands of numbers below 1: 1e-5 of them is more than enough
    drawn = [weights.astype(np.float32) @ narrow for weights in resampled_weights(len(matrix), resamples, seed)]
    sums = np.concatenate(drawn).reshape(resamples, -1, 3).astype(np.float64)
    with np.errstate(invalid="ignore"):  # no user of the part among those drawn: nothing to average
        means = sums[:, :, 1:] / sums[:, :, :1]
    values = np.concatenate([means, means[:, :, :1] - means[:, :, 1:]], axis=2)
    empty = np.isnan(values).all(axis=0)
    values[:, empty] = 0  # a part without members: not looked at
    quantiles: Floats = np.nanquantile(values, [0.025, 0.975], axis=0)
    return quantiles


def _slice(key: str, label: str, cases: int, sums: Floats, bounds: Floats, absent: str) -> Slice:
    users = round(sums[0])
    if not users:
        return Slice(key=key, label=label, cases=0, users=0, values={}, note=absent or "no cases")
    served, bar = sums[1] / users, sums[2] / users
    means = {SERVED: served, BAR: bar, GAIN: served - bar}
    if users < FEW:
        values = {name: Estimate(value=value) for name, value in means.items()}
        note = f"{users} user{'s are' if users > 1 else ' is'} too few for an interval"
        return Slice(key=key, label=label, cases=cases, users=users, values=values, note=note)
    values = {
        name: Estimate(value=value, low=bounds[0, column], high=bounds[1, column])
        for column, (name, value) in enumerate(means.items())
    }
    return Slice(key=key, label=label, cases=cases, users=users, values=values)


def measurements(slicings: Iterable[Slicing], metric: str, bar: str) -> list[Measurement]:
    """slice_<key>_<part>: the served model's metric; slice_<key>_<part>_gain: over the bar; and, of each slicing,
    slices_<key>_least_gain: its part with the least gain, where enough users are to tell, and slices_<key>_sure_gain:
    the smallest upper end of those intervals. Below 0, some part is worse off than under the bar beyond doubt.
    """
    found = []
    for slicing in slicings:
        for part in slicing.parts:
            name = f"slice_{slicing.key}_{part.key}"
            for suffix, column in (("", SERVED), ("_gain", GAIN)):
                estimate = part.values.get(column)
                about = f"{metric} over {bar}" if suffix else metric
                found.append(
                    Measurement(
                        name=name + suffix,
                        kind=Kind.SLICE,
                        value=estimate.value if estimate else None,
                        cases=part.cases,
                        low=estimate.low if estimate else None,
                        high=estimate.high if estimate else None,
                        detail=part.note or f"{about}; {slicing.title}: {part.label}, {part.users:,} users",
                    )
                )
        found += _least(slicing, metric, bar)
    return found


def nothing(division: Division) -> tuple[Slice, ...]:
    """The parts of a division before anything is measured."""
    return tuple(
        Slice(key=key, label=label, cases=0, users=0, values={}, note="no cases")
        for key, label in division.labels.items()
    )


def _least(slicing: Slicing, metric: str, bar: str) -> list[Measurement]:
    sure = [part for part in slicing.parts if part.users >= FEW]
    names = [f"slices_{slicing.key}_{what}_gain" for what in ("least", "sure")]
    if not sure:
        why = slicing.absent or f"no part has {FEW} users"
        return [Measurement(name=name, kind=Kind.SLICE, value=None, cases=0, detail=why) for name in names]
    by_gain = sorted(sure, key=lambda part: part.values[GAIN].value)
    by_bound = sorted(sure, key=lambda part: part.values[GAIN].high or 0.0)
    found = []
    for name, order in zip(names, (by_gain, by_bound), strict=True):
        part = order[0]
        gain = part.values[GAIN]
        about = "of the part that gains least" if order is by_gain else "at most, of the part that surely gains least"
        found.append(
            Measurement(
                name=name,
                kind=Kind.SLICE,
                value=gain.value if order is by_gain else gain.high,
                cases=part.cases,
                low=gain.low if order is by_gain else None,
                high=gain.high if order is by_gain else None,
                detail=f"{metric} over {bar} {about} by {slicing.title}: {part.label}, {part.users:,} users",
                examples=tuple(f"{p.label}: {p.values[GAIN].value:+.4f} ({p.users:,} users)" for p in order[:3]),
            )
        )
    return found
