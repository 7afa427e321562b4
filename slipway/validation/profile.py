"""What a table looked like: a page of numbers per version, so that no later check reads history. Knows no suite.

Stored beside the table as JSON. Counts, means and extremes are of all rows; a distribution is of at most SAMPLE rows,
taken evenly; which ids occur is a sample of them by hash: the SKETCH smallest hashes of all ids (the k-minimum-values
sketch; Bar-Yossef et al., "Counting distinct elements in a data stream", 2002). Equal ids have equal hashes in every
version, so that two sketches also say which share of one's ids the other has not.
"""

import math
from datetime import UTC, datetime
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, ValidationError

from slipway import storage
from slipway.errors import ObjectNotFoundError
from slipway.lake.table import Table
from slipway.package import Frozen

SAMPLE = 100_000  # rows
SKETCH = 4_096  # hashes: a share is right to ± 0.008 (one standard deviation)
BINS = 10
VALUES = 30  # names of a categorical column that are told apart; the others are one
HOUR = 3_600_000  # milliseconds

Hashes = npt.NDArray[np.uint64]


class Distribution(Frozen):
    """edges: inner borders of a number's bins; values: a word's categories, the last share being all others'.

    shares: of the rows that are not null; (edges + 1) or (values + 1) of them, empty where there are no such rows.
    """

    nulls: float
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] | None = None
    shares: tuple[float, ...] = ()
    sampled: int = 0

    def of(self, column: pl.Series) -> npt.NDArray[np.float64]:
        """The shares of another column's values in these bins or categories."""
        found = _plain(column).drop_nulls()
        if self.edges is not None:
            bins = np.searchsorted(np.asarray(self.edges), found.to_numpy(), side="right")
            counts = np.bincount(bins, minlength=len(self.edges) + 1)
        else:
            places = {value: place for place, value in enumerate(self.values or ())}
            other = len(places)
            counts = np.zeros(other + 1, dtype=np.int64)
            for value, count in found.cast(pl.String).value_counts().iter_rows():
                counts[places.get(value, other)] += count
        return counts / max(len(found), 1)


class Ids(Frozen):
    """distinct: about how many; hashes: the smallest of all, sorted."""

    distinct: float
    hashes: tuple[int, ...]

    def unknown(self, reference: "Ids") -> float:
        """Share of these ids that the reference has not."""
        mine, theirs = np.asarray(self.hashes, np.uint64), np.asarray(reference.hashes, np.uint64)
        # Below the smaller of both sketches' ends, each sketch holds all of its ids.
        ends = [int(s[-1]) for s in (mine, theirs) if len(s) == SKETCH]
        if ends:
            mine = mine[mine <= min(ends)]
        return float(np.mean(~np.isin(mine, theirs))) if len(mine) else 0.0


class Profile(Frozen):
    """first, last: hours since 1970 of the earliest and latest row; gap: the longest stretch of hours without any."""

    rows: int
    columns: dict[str, Distribution]
    ids: dict[str, Ids] = Field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    newest: datetime | None = None
    gap: int = 0

    @classmethod
    def read(cls, table: Table, suite: str, before: int) -> Self | None:
        """The newest profile of a version before this one; None where there is none that can be read."""
        store = _store(table, suite)
        former = [version for key in store.keys("") if (version := int(key.removesuffix(".json"))) < before]
        if not former:
            return None
        try:
            return cls.model_validate_json(store.read(_key(max(former))))
        except (ValidationError, ObjectNotFoundError):
            return None  # of another release of this code: the next one is written in its place

    def write(self, table: Table, suite: str, version: int) -> None:
        """Raises StorageError."""
        _store(table, suite).write(_key(version), self.model_dump_json().encode())


def _store(table: Table, suite: str) -> storage.ObjectStore:
    """Delta ignores what lies in a folder with an underscore; who removes the table removes this too."""
    return storage.store(f"{table.uri}/_profiles/{suite}", table.endpoint_url)


def _key(version: int) -> str:
    return f"{version:012}.json"


class Measure:
    """A profile while the rows come by, in memory that does not depend on their number.

    ids: columns of integers that name things; time: the column of a row's own time.
    """

    def __init__(self, schema: pl.Schema, ids: tuple[str, ...] = (), time: str | None = None) -> None:
        self.rows = 0
        self.ids = {name: np.empty(0, np.uint64) for name in ids}
        self.time = time
        self.columns = [
            name
            for name, dtype in schema.items()
            if name not in ids and not dtype.is_temporal() and not dtype.is_(pl.Struct)
        ]
        self.numbers = [name for name in self.columns if schema[name].is_numeric() or schema[name].is_nested()]
        self.nulls = dict.fromkeys(schema.names(), 0)
        self.sums = dict.fromkeys(self.numbers, 0.0)
        self.squares = dict.fromkeys(self.numbers, 0.0)
        self.lows = dict.fromkeys(self.numbers, math.inf)
        self.highs = dict.fromkeys(self.numbers, -math.inf)
        self.hours = np.empty(0, np.int64)
        self.newest: datetime | None = None
        self._samples: list[pl.DataFrame] = []
        self._sampled = 0
        self._step = 1

    def add(self, batch: pl.DataFrame) -> None:
        if not batch.height:
            return
        plain = [_number(name, batch.schema[name]) for name in self.numbers]
        figures = batch.select(
            *(pl.col(name).null_count().alias(f"nulls {name}") for name in self.nulls),
            *(number.sum().alias(f"sum {name}") for name, number in zip(self.numbers, plain, strict=True)),
            *(number.pow(2).sum().alias(f"square {name}") for name, number in zip(self.numbers, plain, strict=True)),
            *(number.min().alias(f"low {name}") for name, number in zip(self.numbers, plain, strict=True)),
            *(number.max().alias(f"high {name}") for name, number in zip(self.numbers, plain, strict=True)),
        ).row(0, named=True)
        for name in self.nulls:
            self.nulls[name] += figures[f"nulls {name}"]
        for name in self.numbers:
            self.sums[name] += figures[f"sum {name}"] or 0.0
            self.squares[name] += figures[f"square {name}"] or 0.0
            if figures[f"low {name}"] is not None:
                self.lows[name] = min(self.lows[name], figures[f"low {name}"])
                self.highs[name] = max(self.highs[name], figures[f"high {name}"])
        for name, kept in self.ids.items():
            self.ids[name] = _smallest(kept, batch[name].drop_nulls().unique().to_numpy())
        if self.time:
            self._hours(batch[self.time].drop_nulls())
        self._sample(batch)
        self.rows += batch.height

    def _hours(self, times: pl.Series) -> None:
        if len(times):
            hours = (times.dt.epoch("ms") // HOUR).unique().to_numpy()
            self.hours = np.union1d(self.hours, hours)
            latest = times.max()
            assert isinstance(latest, datetime)
            self.newest = latest if self.newest is None else max(self.newest, latest)

    def _sample(self, batch: pl.DataFrame) -> None:
        """Every step-th row of all; the step doubles when there are too many."""
        offset = -self.rows % self._step
        if self.columns and offset < batch.height:
            self._samples.append(batch.select(self.columns).gather_every(self._step, offset))
            self._sampled += self._samples[-1].height
        if self._sampled >= 2 * SAMPLE:
            whole = pl.concat(self._samples).gather_every(2)
            self._samples, self._sampled, self._step = [whole], whole.height, self._step * 2

    def sample(self) -> pl.DataFrame:
        return pl.concat(self._samples) if self._samples else pl.DataFrame()

    def profile(self) -> Profile:
        sample = self.sample()
        return Profile(
            rows=self.rows,
            columns={name: self._distribution(name, sample) for name in self.columns},
            ids={name: _sketch(kept) for name, kept in self.ids.items()},
            first=int(self.hours[0]) if len(self.hours) else None,
            last=int(self.hours[-1]) if len(self.hours) else None,
            newest=self.newest,
            gap=longest_gap(self.hours),
        )

    def _distribution(self, name: str, sample: pl.DataFrame) -> Distribution:
        nulls = self.nulls[name] / max(self.rows, 1)
        known = self.rows - self.nulls[name]
        if not known or name not in sample.columns:
            return Distribution(nulls=nulls)
        values = _plain(sample[name]).drop_nulls()
        if name not in self.numbers:
            common = values.cast(pl.String).value_counts(sort=True, name="n").head(VALUES)
            bare = Distribution(nulls=nulls, values=tuple(sorted(common[name])), sampled=len(values))
            return bare.model_copy(update={"shares": tuple(bare.of(sample[name]).tolist())})
        mean = self.sums[name] / known
        numbers = values.to_numpy()
        distinct = np.unique(numbers)
        if len(distinct) <= BINS:  # a rating: a bin for each
            edges = (distinct[1:] + distinct[:-1]) / 2
        else:
            edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
        bare = Distribution(
            nulls=nulls,
            mean=mean,
            deviation=math.sqrt(max(self.squares[name] / known - mean**2, 0.0)),
            low=self.lows[name],
            high=self.highs[name],
            edges=tuple(edges.tolist()),
            sampled=len(values),
        )
        return bare.model_copy(update={"shares": tuple(bare.of(sample[name]).tolist())})


def longest_gap(hours: npt.NDArray[np.int64]) -> int:
    """Hours without any row between two with some; hours sorted, distinct."""
    return int(np.diff(hours).max() - 1) if len(hours) > 1 else 0


def hour(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp() * 1000) // HOUR


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    """A list counts by its length; nothing that is no number counts."""
    if isinstance(dtype, pl.List):
        return pl.col(name).list.len().cast(pl.Float64)
    if isinstance(dtype, pl.Array):
        return pl.col(name).arr.len().cast(pl.Float64)
    if dtype.is_integer():
        return pl.col(name).cast(pl.Float64)
    return pl.when(pl.col(name).is_finite()).then(pl.col(name)).cast(pl.Float64)


def _plain(column: pl.Series) -> pl.Series:
    """Numbers as floats (of a list, its length), words as they are."""
    if column.dtype.is_nested() or column.dtype.is_numeric():
        return column.to_frame().select(_number(column.name, column.dtype).alias(column.name)).to_series()
    return column


def _smallest(kept: Hashes, ids: npt.NDArray[np.int64]) -> Hashes:
    """The SKETCH smallest distinct hashes of what was kept and of these ids."""
    hashes = _hash(ids)
    if len(kept) == SKETCH:
        hashes = hashes[hashes < kept[-1]]
    if not len(hashes):
        return kept
    return np.union1d(kept, hashes)[:SKETCH]


def _sketch(kept: Hashes) -> Ids:
    full = len(kept) == SKETCH
    distinct = (SKETCH - 1) / (float(kept[-1]) / 2**64) if full else float(len(kept))
    return Ids(distinct=distinct, hashes=tuple(kept.tolist()))


def _hash(ids: npt.NDArray[np.int64]) -> Hashes:
    """splitmix64 (Steele, Lea & Flood 2014): the same on every machine and in every release."""
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
