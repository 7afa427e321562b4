"""Who is served worse, by how much, and whether that can be chance. Knows a number per user and groups of users.

A group is compared with everybody else of known attribute by Welch's t. How large the largest |t| of an attribute's
groups becomes by chance is found by permuting users over groups: studentised, the test holds where groups differ in
spread (DiCiccio et al. 2020, "Evaluating fairness using permutation tests"), and against the largest each group's p is
already adjusted for how many groups there are (Westfall & Young 1993). p = (1 + as large) / (1 + permutations) (Phipson
& Smyth 2010). Over the attributes p is adjusted after Holm (1979).

It compares what users get, and not why: groups differ in how much they watch and in how predictable it is. The gap that
plain counting leaves between the same groups says how much of it the data brings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway.evaluation.bootstrap import resampled_means
from slipway.evaluation.measurement import Kind, Measurement
from slipway.package import Frozen

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ALPHA = 0.05
FEW = 20  # users: smaller groups are named and not compared
CHUNK_CELLS = 1 << 22


@dataclass(frozen=True, eq=False)
class Attribute:
    """labels: key → in words; group: (users,) the number of each user's label, -1 where it is not known."""

    key: str
    title: str
    labels: Mapping[str, str]
    group: Ints


class Group(Frozen):
    """value, bar: mean of the served model and of the bar; p: that it differs from the others by chance, adjusted."""

    label: str
    users: int
    value: float
    bar: float
    p: float


class Comparison(Frozen):
    """One attribute. groups: those compared, the worst off first; small: label → users of those too small for it.

    gap: best minus worst, low and high its 95 % interval; bar_gap: the bar's between the same two; p: that no group
    differs from the others. All null with fewer than two groups.
    """

    key: str
    title: str
    groups: tuple[Group, ...] = ()
    small: dict[str, int]
    gap: float | None = None
    low: float | None = None
    high: float | None = None
    bar_gap: float | None = None
    p: float | None = None
    reading: str

    @property
    def significant(self) -> bool:
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True, eq=False)
class _Tested:
    """groups: numbers of those compared; p: of the attribute; group_p: of each group."""

    attribute: Attribute
    groups: list[int]
    p: float
    group_p: list[float]


def compare(
    attributes: Sequence[Attribute],
    served: Floats,
    bar: Floats,
    metric: str,
    bar_name: str,
    permutations: int,
    seed: int,
) -> tuple[Comparison, ...]:
    """served, bar: (users,) of the same users as each attribute's group; higher is better."""
    tested = [_test(attribute, served, permutations, seed) for attribute in attributes]
    adjusted = iter(holm([t.p for t in tested if t]))
    return tuple(
        _comparison(t, served, bar, next(adjusted), metric, bar_name, permutations, seed) if t else _nothing(attribute)
        for attribute, t in zip(attributes, tested, strict=True)
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Each p adjusted for their number, in their order (Holm 1979)."""
    adjusted, highest = [1.0] * len(ps), 0.0
    for rank, index in enumerate(np.argsort(ps, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def nothing(attributes: Sequence[Attribute]) -> tuple[Comparison, ...]:
    """The comparisons before anything is measured."""
    return tuple(_nothing(attribute) for attribute in attributes)


def _sizes(attribute: Attribute) -> Ints:
    known = attribute.group[attribute.group >= 0]
    return np.bincount(known, minlength=len(attribute.labels)).astype(np.int64)


def _test(attribute: Attribute, served: Floats, permutations: int, seed: int) -> _Tested | None:
    sizes = _sizes(attribute)
    groups = np.flatnonzero(sizes >= FEW).tolist()
    if len(groups) < 2:
        return None
    inside = np.isin(attribute.group, groups)
    member = (attribute.group[inside, None] == np.array(groups)).astype(np.float32)
    values = served[inside]
    values = ((values - values.mean()) / max(float(values.std()), 1e-12)).astype(np.float32)  # t does not change
    observed = _t(values[None, :], member)[0]
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // len(values))
    largest = []
    for begin in range(0, permutations, step):
        drawn = rng.permuted(np.broadcast_to(values, (min(step, permutations - begin), len(values))), axis=1)
        largest.append(np.abs(_t(drawn, member)).max(axis=1))
    chance = np.concatenate(largest)
    as_large = (chance[:, None] >= np.abs(observed) * (1 - 1e-6)).sum(axis=0)
    ps = ((1 + as_large) / (1 + permutations)).tolist()
    return _Tested(attribute, groups, min(ps), ps)


def _t(values: npt.NDArray[np.float32], member: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, groups) Welch's t of each group against all others; values (n, users), member (users, groups)."""
    inside, users = member.sum(axis=0), np.float32(len(member))
    outside = users - inside
    squares = values * values
    sums, total = values @ member, values.sum(axis=1, keepdims=True)
    squared, all_squared = squares @ member, squares.sum(axis=1, keepdims=True)
    mean, rest = sums / inside, (total - sums) / outside
    spread = (squared / inside - mean**2) / (inside - 1) + ((all_squared - squared) / outside - rest**2) / (outside - 1)
    t: npt.NDArray[np.float32] = (mean - rest) / np.sqrt(np.maximum(spread, np.float32(1e-9)))
    return t


def _comparison(
    t: _Tested, served: Floats, bar: Floats, p: float, metric: str, bar_name: str, resamples: int, seed: int
) -> Comparison:
    attribute, labels = t.attribute, [*t.attribute.labels.values()]
    means = {g: float(served[attribute.group == g].mean()) for g in t.groups}
    bars = {g: float(bar[attribute.group == g].mean()) for g in t.groups}
    sizes = _sizes(attribute)
    order = sorted(t.groups, key=lambda g: means[g])
    worst, best = order[0], order[-1]
    drawn = [
        resampled_means(served[attribute.group == g][:, None], resamples, seed + place)[:, 0]
        for place, g in enumerate((best, worst))
    ]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    group_p = dict(zip(t.groups, t.group_p, strict=True))
    found = Comparison(
        key=attribute.key,
        title=attribute.title,
        groups=tuple(
            Group(label=labels[g], users=int(sizes[g]), value=means[g], bar=bars[g], p=group_p[g]) for g in order
        ),
        small={label: int(n) for label, n in zip(labels, sizes, strict=True) if 0 < n < FEW},
        gap=means[best] - means[worst],
        low=float(low),
        high=float(high),
        bar_gap=bars[best] - bars[worst],
        p=p,
        reading="",
    )
    return found.model_copy(update={"reading": _reading(found, metric, bar_name)})


def _reading(found: Comparison, metric: str, bar_name: str) -> str:
    """Plain words, in the order in which a person asks."""
    worst, best = found.groups[0], found.groups[-1]
    assert found.gap is not None
    assert found.bar_gap is not None
    assert found.p is not None
    text = (
        f"Worst off is {worst.label} ({metric} {worst.value:.4f}, {worst.users:,} users), best off {best.label} "
        f"({best.value:.4f}, {best.users:,} users): a gap of {found.gap:.4f} [{found.low:.4f}, {found.high:.4f}]. "
    )
    if not found.significant:
        return text + (
            f"Differences this large come by chance (p = {found.p:.3f} after correction): nothing is shown. "
            "That is no proof that there is none; small groups hide much."
        )
    middle = float(np.average([g.value for g in found.groups], weights=[g.users for g in found.groups]))
    worse = [g.label for g in found.groups if g.p < ALPHA and g.value < middle]
    better = [g.label for g in found.groups if g.p < ALPHA and g.value >= middle]
    named = [
        f"{' and '.join(who)} served {how} than the others"
        for who, how in ((worse, "worse"), (better, "better"))
        if who
    ]
    text += f"This is more than chance (p = {found.p:.3f} after correction): {'; '.join(named)}. "
    if found.bar_gap >= found.gap:
        return text + f"{bar_name.capitalize()} leaves a gap of {found.bar_gap:.4f} there: the model narrows it."
    return text + (
        f"{bar_name.capitalize()} leaves a gap of {found.bar_gap:.4f} there, so the model widens it by "
        f"{found.gap - found.bar_gap:.4f}."
    )


def _nothing(attribute: Attribute) -> Comparison:
    sizes = {label: int(n) for label, n in zip(attribute.labels.values(), _sizes(attribute), strict=True) if n}
    if not sizes:
        reading = f"Nothing can be said: no user's {attribute.title} is known in this data."
    else:
        reading = f"Nothing can be said: fewer than two groups have {FEW} users who were asked."
    small = {label: n for label, n in sizes.items() if n < FEW}
    return Comparison(key=attribute.key, title=attribute.title, small=small, reading=reading)


def measurements(comparisons: Sequence[Comparison]) -> list[Measurement]:
    """fairness_<key>_gap, …_ratio (worst over best; the "four-fifths rule" asks for 0.8) and …_p."""
    found = []
    for c in comparisons:
        users = sum(group.users for group in c.groups)
        ratio = None
        if c.groups:
            ratio = c.groups[0].value / c.groups[-1].value if c.groups[-1].value else 1.0
        figures = {"gap": (c.gap, c.low, c.high), "ratio": (ratio, None, None), "p": (c.p, None, None)}
        examples = tuple(f"{g.label}: {g.value:.4f} ({g.users:,} users)" for g in c.groups[:3])
        for name, (value, low, high) in figures.items():
            found.append(
                Measurement(
                    name=f"fairness_{c.key}_{name}",
                    kind=Kind.FAIRNESS,
                    value=value,
                    cases=users,
                    low=low,
                    high=high,
                    detail=c.reading,
                    examples=examples,
                )
            )
    return found
