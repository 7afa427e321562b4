"""How far a feature's values moved away from those that a model was trained on. Knows columns, not what they mean.

PSI = Σ (c − r) ln(c / r) over the bins' shares r (reference) and c (current); Siddiqi 2006 reads it as stable below
0.1 and as a major change above 0.25. The Jensen-Shannon divergence (Lin 1991, base 2) is bounded by 0 and 1.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

MODERATE, MAJOR = 0.1, 0.25
BINS = 10
FEW = 24
"""Up to so many distinct values, each is a bin of its own: ratings, hours, genders."""
_FLOOR = 1e-4  # of a bin's share: a bin that one side lacks must not be infinite

Floats = npt.NDArray[np.float64]


class Level(StrEnum):
    STABLE = "stable"
    MODERATE = "moderate"
    MAJOR = "major"
    UNKNOWN = "too few values"


@dataclass(frozen=True)
class Drift:
    """One feature. bins: labels in order; reference, current: (bins,) shares, each summing to 1."""

    feature: str
    psi: float
    js: float
    bins: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    reference_rows: int
    current_rows: int

    @property
    def level(self) -> Level:
        """Fewer than 50 rows on a side cannot tell: PSI's noise alone is about (bins - 1)·(1/n + 1/m)."""
        if min(self.reference_rows, self.current_rows) < 50:
            return Level.UNKNOWN
        return Level.MAJOR if self.psi >= MAJOR else Level.MODERATE if self.psi >= MODERATE else Level.STABLE


def psi(reference: Floats, current: Floats) -> float:
    """reference, current: (bins,) shares."""
    r, c = np.maximum(reference, _FLOOR), np.maximum(current, _FLOOR)
    return float(((c - r) * np.log(c / r)).sum())


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """reference, current: (bins,) shares; 0: equal, 1: nothing in common."""
    middle = (reference + current) / 2

    def half(p: Floats) -> float:
        seen = p > 0
        return float((p[seen] * np.log2(p[seen] / middle[seen])).sum()) / 2

    return half(reference) + half(current)


def comparable(schema: pl.Schema, skip: tuple[str, ...] = ()) -> list[str]:
    """The columns that have a distribution: numbers, words, booleans; not keys, times or lists."""
    return [
        name
        for name, kind in schema.items()
        if name not in skip and (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Categorical, pl.Enum))
    ]


def compare(reference: pl.DataFrame, current: pl.DataFrame, prefix: str = "") -> list[Drift]:
    """One Drift per column of reference, in order; both frames have the same columns. Empty sides give NaN."""
    return [_column(f"{prefix}{name}", reference[name], current[name]) for name in reference.columns]


def _column(name: str, reference: pl.Series, current: pl.Series) -> Drift:
    labels, before, now = _binned(reference, current)
    empty = not len(reference) or not len(current)
    return Drift(
        feature=name,
        psi=float("nan") if empty else psi(before, now),
        js=float("nan") if empty else jensen_shannon(before, now),
        bins=tuple(labels),
        reference=tuple(before.tolist()),
        current=tuple(now.tolist()),
        reference_rows=len(reference),
        current_rows=len(current),
    )


def _binned(reference: pl.Series, current: pl.Series) -> tuple[list[str], Floats, Floats]:
    """Labels and shares; values that are missing, or that the reference does not know, get a bin when there are any."""
    numeric = reference.dtype.is_numeric()
    known = reference.drop_nulls().drop_nans() if reference.dtype.is_float() else reference.drop_nulls()
    if not numeric or known.n_unique() <= FEW:
        counted = known.value_counts(sort=True)
        values = counted[known.name].head(FEW)
        values = values.sort() if numeric else values
        labels = [f"{value:g}" if numeric else str(value) for value in values]
        texts = [_words(side, numeric) for side in (reference, current)]
    else:
        edges = np.unique(np.quantile(known.to_numpy(), np.linspace(0, 1, BINS + 1)[1:-1]))
        labels = [
            f"≤ {_short(edges[0])}",
            *(f"{_short(a)} – {_short(b)}" for a, b in pairwise(edges)),
            f"> {_short(edges[-1])}",
        ]
        texts = [_cut(side, edges, labels) for side in (reference, current)]
    tallies = [dict(text.value_counts().iter_rows()) for text in texts]
    counts = np.array([[tally.get(label, 0) for label in labels] for tally in tallies], dtype=np.float64)
    missing = np.array([[tally.get(None, 0)] for tally in tallies], dtype=np.float64)
    totals = np.array([[len(text)] for text in texts], dtype=np.float64)
    other = totals - counts.sum(axis=1, keepdims=True) - missing
    for column, label in ((other, "other"), (missing, "missing")):
        if column.any():
            counts, labels = np.hstack([counts, column]), [*labels, label]
    shares = counts / np.maximum(totals, 1)
    return labels, shares[0], shares[1]


def _words(values: pl.Series, numeric: bool) -> pl.Series:
    if not numeric:
        return values.cast(pl.String)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    distinct = values.unique().drop_nulls()
    return values.replace_strict(distinct, [f"{value:g}" for value in distinct], default=None, return_dtype=pl.String)


def _cut(values: pl.Series, edges: Floats, labels: list[str]) -> pl.Series:
    if values.dtype.is_float():
        values = values.fill_nan(None)
    places = np.searchsorted(edges, values.drop_nulls().to_numpy(), side="left")
    missing = pl.Series([None] * values.null_count(), dtype=pl.String)
    return pl.concat([pl.Series(np.asarray(labels, dtype=object)[places].tolist(), dtype=pl.String), missing])


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
