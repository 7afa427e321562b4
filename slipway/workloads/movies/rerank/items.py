"""What is known of each item at a moment: year, genres, age, and how often it was touched lately. Knows no user.

Windows are those of the feature view item_statistics: whole UTC days up to the midnight before the request, so that
what a model learned from is what a daily job can know. A source without times has no windows and no ages (NaN).
"""

import os
import zipfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.errors import PackageError
from slipway.workloads.movies.features.views import DAY_MS, LONG, SHORT
from slipway.workloads.movies.interactions import IntArray, Interactions, ItemArray
from slipway.workloads.movies.scorer import Scores

FILE = "item_table.npz"
NEVER = np.iinfo(np.int64).max  # of an item without an event


@dataclass(frozen=True, eq=False)
class Popularity:
    """(V + 1,) float32 each: events of the 7 and 28 whole UTC days before one midnight."""

    short: Scores
    long: Scores

    @cached_property
    def logs(self) -> Scores:
        """(V + 1, 3) float32: log of each item's share of either window, and of what it has more of lately."""
        short, long = self.short + np.float32(0.5), self.long + np.float32(0.5)
        half = 0.5 * (len(short) - 1)
        shares = short / (self.short.sum() + half), long / (self.long.sum() + half)
        trend = short / (self.long / 4 + np.float32(0.5))
        logs: Scores = np.log(np.stack([*shares, trend], axis=1)).astype(np.float32)
        return logs


@dataclass(frozen=True, eq=False)
class ItemTable:
    """year: (V + 1,) float32, NaN where unknown; genres: (V + 1, G) bool; total: (V + 1,) float32 training events;
    first: (V + 1,) int64 ms of the first event, NEVER without one; days, items: (E,) of every event, by day (int64
    since 1970, then index space), None where the source has no times; until: ms of the newest event known.
    """

    year: Scores
    genres: npt.NDArray[np.bool_]
    total: Scores
    first: IntArray | None
    days: IntArray | None
    items: ItemArray | None
    until: int | None

    @property
    def n_items(self) -> int:
        return len(self.total) - 1

    @classmethod
    def build(cls, path: Path, whole: Interactions, train: Interactions) -> Self:
        """path: items.parquet of a data set; whole: every event whose time may be asked about."""
        named = pl.DataFrame({"item": whole.item_ids[1:]})
        columns = pl.read_parquet(path, columns=["item", "genres", "year"]).unique("item", keep="first")
        rows = named.join(columns, on="item", how="left", maintain_order="left")
        names = sorted(rows["genres"].explode().drop_nulls().unique().to_list())
        genres = np.zeros((whole.n_items + 1, len(names)), dtype=bool)
        number = {name: index for index, name in enumerate(names)}
        for index, kinds in enumerate(rows["genres"].to_list(), start=1):
            genres[index, [number[kind] for kind in kinds or ()]] = True
        year = rows["year"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        first = days = items = until = None
        if whole.times is not None:
            order = np.argsort(whole.times, kind="stable")
            days, items = whole.times[order] // DAY_MS, whole.items[order]
            first = np.full(whole.n_items + 1, NEVER, dtype=np.int64)
            np.minimum.at(first, whole.items, whole.times)
            until = int(whole.times.max(initial=0))
        return cls(
            year=np.concatenate([[np.nan], year]).astype(np.float32),
            genres=genres,
            total=np.bincount(train.items, minlength=whole.n_items + 1).astype(np.float32),
            first=first,
            days=days,
            items=items,
            until=until,
        )

    @cached_property
    def popularity(self) -> Scores:
        """(V + 1,) log(1 + training events)."""
        logs: Scores = np.log1p(self.total)
        return logs

    @cached_property
    def facts(self) -> Scores:
        """(V + 1, 4) float32: popularity, year, number of genres, and 1 over it (NaN where there is none); together,
        because they are asked for together.
        """
        genres = self.genres.sum(axis=1)
        with np.errstate(divide="ignore"):
            of_each = np.where(genres > 0, 1 / genres, np.nan)
        return np.stack([self.popularity, self.year, genres, of_each], axis=1).astype(np.float32)

    @cached_property
    def lately(self) -> Scores | None:
        """(V + 1, 4) float32, `moving` of every item as of `until`; None where the source has no times."""
        return None if self.until is None else self.moving(self.until, np.arange(self.n_items + 1))

    def moving(self, moment: int, items: IntArray) -> Scores | None:
        """(n, 4) float32 of n items as of a moment, ms: logs of their shares of the last 7 and 28 days, what they have
        more of lately, and days since the first event (NaN where there was none before the moment).
        """
        windows = self.at(moment)
        if windows is None or self.first is None:
            return None
        first = self.first[items]
        age = np.where(first < moment, (moment - first) / DAY_MS, np.nan)
        return np.concatenate([windows.logs[items], age[:, None].astype(np.float32)], axis=1)

    @cached_property
    def kinds(self) -> Scores:
        """(V + 1, G) genres as numbers."""
        return self.genres.astype(np.float32)

    def moments(self, times: IntArray | None, n: int) -> IntArray | None:
        """(n,) ms: the given ones, or `until` for all; None where the source has no times."""
        if self.until is None:
            return None
        return np.full(n, self.until, dtype=np.int64) if times is None else times

    def at(self, time: int) -> Popularity | None:
        """As of the midnight (UTC) before `time`, ms; None where the source has no times."""
        return None if self.days is None else _windows(self, time // DAY_MS)

    def popular(self, time: int | None) -> Scores:
        """(V + 1,) float32, larger is more popular: by 7 days, then 28, then all of training."""
        share: Scores = (self.total / (self.total.sum() + 1)).astype(np.float32)
        windows = None if time is None else self.at(time)
        if windows is None:
            return share
        # A share is below 1, an event is 1: the longer windows only break ties.
        scaled: Scores = windows.short + windows.long / (windows.long.sum() + 1) + share * np.float32(1e-3)
        return scaled

    def newest(self) -> Self:
        """Of the last 28 days alone: what a package needs, since it is asked as of `until`."""
        if self.days is None or self.items is None or self.until is None:
            return self
        kept = self.days >= self.until // DAY_MS - LONG
        return type(self)(self.year, self.genres, self.total, self.first, self.days[kept], self.items[kept], self.until)

    def save(self, folder: Path) -> None:
        """Write item_table.npz, whole or not at all."""
        arrays: dict[str, Any] = {"year": self.year, "genres": self.genres, "total": self.total}
        if self.days is not None:
            arrays |= {"first": self.first, "days": self.days, "items": self.items, "until": np.int64(self.until or 0)}
        draft = folder / f".{FILE}.part"
        with draft.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises PackageError when the file is missing or its arrays do not fit together."""
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as found:
                timed = {"first", "days", "items", "until"} <= set(found.files)
                table = cls(
                    year=found["year"],
                    genres=found["genres"],
                    total=found["total"],
                    first=found["first"] if timed else None,
                    days=found["days"] if timed else None,
                    items=found["items"] if timed else None,
                    until=int(found["until"]) if timed else None,
                )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise PackageError(f"{path} cannot be read as an item table: {error}", "train the model again") from error
        side = table.n_items + 1
        fits = len(table.year) == side and table.genres.shape[:1] == (side,)
        if table.days is not None and table.items is not None and table.first is not None:
            fits &= len(table.days) == len(table.items) and len(table.first) == side
            fits &= bool((np.diff(table.days) >= 0).all()) and int(table.items.max(initial=0)) < side
        if not fits:
            raise PackageError(f"{path} holds arrays that do not fit together", "train the model again")
        return table


@lru_cache(maxsize=64)
def _windows(table: ItemTable, day: int) -> Popularity:
    assert table.days is not None
    assert table.items is not None
    begin_long, begin_short, end = np.searchsorted(table.days, [day - LONG, day - SHORT, day])
    side = table.n_items + 1
    short = np.bincount(table.items[begin_short:end], minlength=side).astype(np.float32)
    long = short + np.bincount(table.items[begin_long:begin_short], minlength=side).astype(np.float32)
    return Popularity(short, long)
