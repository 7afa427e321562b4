"""Events of the lake → feature tables. Knows tables, dates and commits; what a value is, the modules beside it know.

    compute(Lake(), "simulated", progress)

Incremental: each feature table remembers the version of the events that it was made from (the writer's number of its
last commit). What changed since then is a set of dates; everything from the first of them on is computed again and
replaced in one commit. Dates are worked on in order, about `chunk` events at a time, with what the days before them
left: memory depends on the chunk, the busiest 28 days, and the newest 200 items of those who were active.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from slipway.errors import StorageError
from slipway.features import replacement
from slipway.lake.lake import Lake
from slipway.lake.table import Table
from slipway.workload import Progress
from slipway.workloads.movies.dataset import ITEMS, USERS
from slipway.workloads.movies.features import popularity, users
from slipway.workloads.movies.features.genres import Genres
from slipway.workloads.movies.features.users import COLUMNS
from slipway.workloads.movies.features.views import CREATED, EVENT, HISTORY, LONG, VIEWS, View

WRITER = "features"
CHUNK = 500_000  # events worked on at once
EPOCH = date(1970, 1, 1)
DAYS = 64  # calendar days of item_statistics worked on at once

Found = Iterator[pl.DataFrame]


def compute(lake: Lake, data_set: str, progress: Progress, chunk: int = CHUNK) -> dict[str, float]:
    """Bring every feature table up to date; returns rows written per view. Raises StorageError, also without events."""
    events = lake.table("processed", data_set, "events")
    work = _Work(lake, data_set, events, events.version, chunk, datetime.now(UTC), progress)
    written = {
        "user_profile": work.profiles("users", USERS, VIEWS["user_profile"]),
        "item_profile": work.profiles("items", ITEMS, VIEWS["item_profile"]),
        "user_statistics": work.dated(VIEWS["user_statistics"], work.user_statistics),
        "user_history": work.dated(VIEWS["user_history"], work.user_history),
        "item_statistics": work.dated(VIEWS["item_statistics"], work.item_statistics),
    }
    return {f"{name}_rows": float(rows) for name, rows in written.items()}


@dataclass
class _Work:
    lake: Lake
    data_set: str
    events: Table
    version: int  # of events: what is committed meanwhile is the next run's
    chunk: int
    created: datetime
    progress: Progress
    _genres: Genres | None = None

    def profiles(self, name: str, schema: pl.Schema, view: View) -> int:
        """Replace the view when the table it repeats has a new version; an absent one makes an empty view."""
        source, target = self.lake.table("processed", self.data_set, name), self._target(view)
        number = source.version if source.exists() else 0
        if target.exists() and target.written(WRITER) == number:
            return 0
        rows = source.scan().collect() if source.exists() else schema.to_frame()
        stamp = pl.lit(EPOCH).cast(pl.Datetime("us", "UTC"))
        if "released" in rows.columns:  # what is not out yet is not known yet
            stamp = pl.coalesce(pl.col("released").dt.cast_time_unit("us"), stamp)
        full = rows.with_columns(stamp.alias(EVENT), pl.lit(self.created).cast(pl.Datetime("us", "UTC")).alias(CREATED))
        self._replace(target, view, iter([full]), None, number)
        return full.height

    def dated(self, view: View, rows_from: Callable[[list[list[date]]], Iterator[tuple[pl.DataFrame, int]]]) -> int:
        """Compute the view from the first changed date on and put it in place of what was there from then on."""
        target = self._target(view)
        done = target.written(WRITER)
        first = self._first_change(done)
        if first is None and done is not None:
            self.progress(view.name, 1.0, {})
            return 0
        chunks = list(self._chunks(first)) if first else []
        total, count = sum(map(len, chunks)), 0

        def found() -> Found:
            nonlocal count
            for rows, share in rows_from(chunks):
                count += rows.height
                self.progress(view.name, share / max(total, 1), {"rows": float(count)})
                yield rows.with_columns(pl.lit(self.created).cast(pl.Datetime("us", "UTC")).alias(CREATED))

        self._replace(target, view, found(), first, self.version)
        return count

    def user_statistics(self, chunks: list[list[date]]) -> Iterator[tuple[pl.DataFrame, int]]:
        for recent, days, done in self._recent(chunks):
            yield users.statistics(recent, self.genres, _day(days[0])), done

    def user_history(self, chunks: list[list[date]]) -> Iterator[tuple[pl.DataFrame, int]]:
        older: pl.DataFrame | None = None
        for recent, days, done in self._recent(chunks):
            older = self._older(days[0]) if older is None else older
            rows = users.history(recent, older, self.genres, _day(days[0]))
            newest = rows.sort(EVENT).unique("user", keep="last").select("user", "items", "times")
            older = pl.concat([older.join(newest, on="user", how="anti"), _unpacked(newest)])
            yield rows, done

    def item_statistics(self, chunks: list[list[date]]) -> Iterator[tuple[pl.DataFrame, int]]:
        if not chunks:
            return
        first, last = chunks[0][0], chunks[-1][-1]
        before = popularity.Tally.of(
            self._scan(first - timedelta(days=LONG - 1), first - timedelta(days=1)).collect(engine="streaming"),
            self._scan(None, first - timedelta(days=1)),
        )
        dates, done = [day for chunk in chunks for day in chunk], 0
        for begin, end in _stretches(chunks, last):
            events = self._scan(begin, end).collect(engine="streaming")
            rows, before = popularity.days(events, before, _day(begin), _day(end))
            done = sum(day <= end for day in dates)
            yield rows, done

    @property
    def genres(self) -> Genres:
        if self._genres is None:
            table = self.lake.table("processed", self.data_set, "items")
            found = table.scan().select("item", "genres").collect() if table.exists() else ITEMS.to_frame()
            self._genres = Genres.of(found)
        return self._genres

    def _recent(self, chunks: list[list[date]]) -> Iterator[tuple[pl.DataFrame, list[date], int]]:
        """Per chunk its events and those of the LONG - 1 days before, ordered; its dates; dates done after it."""
        held: pl.DataFrame | None = None
        done = 0
        for days in chunks:
            start = days[0] - timedelta(days=LONG - 1)
            if held is None:
                held = self._scan(start, days[0] - timedelta(days=1)).collect(engine="streaming")
            fresh = self._scan(days[0], days[-1]).collect(engine="streaming")
            recent = users.ordered(pl.concat([held.filter(pl.col("timestamp").dt.date() >= start), fresh]))
            done += len(days)
            yield recent, days, done
            held = recent.filter(pl.col("timestamp").dt.date() > days[-1] - timedelta(days=LONG - 1))

    def _older(self, first: date) -> pl.DataFrame:
        """user, item, timestamp: the newest HISTORY events before `first` of everybody who was active from then on."""
        target = self._target(VIEWS["user_history"])
        if target.written(WRITER) is None:
            return pl.DataFrame(schema={name: COLUMNS[name] for name in ("user", "item", "timestamp")})
        active = self._scan(first, None).select("user").unique()
        rows = target.scan().filter(pl.col("date") < first).join(active, on="user", how="semi")
        newest = rows.group_by("user").agg(pl.col(EVENT).max())
        found = target.scan().filter(pl.col("date") < first).join(newest, on=["user", EVENT], how="semi")
        kept = found.select("user", "items", "times").collect(engine="streaming").unique("user")
        return _unpacked(kept)

    def _first_change(self, done: int | None) -> date | None:
        """The first date whose files are not those of the version done; None when nothing is there to be done."""
        if done == self.version:
            return None
        now = self._files(self.version)
        if done is not None:
            with contextlib.suppress(StorageError):  # retention removed that version: everything is new
                now = now.join(self._files(done), on="path", how="anti")
        found = now["date"].min()
        assert found is None or isinstance(found, date)
        return found

    def _chunks(self, first: date) -> Iterator[list[date]]:
        """The dates with events from `first` on, in order, about self.chunk events together."""
        files = self._files(self.version).filter(pl.col("date") >= first)
        together: list[date] = []
        held = 0
        for day, rows in files.group_by("date").agg(pl.col("rows").sum()).sort("date").iter_rows():
            together.append(day)
            held += rows
            if held >= self.chunk:
                yield together
                together, held = [], 0
        if together:
            yield together

    def _files(self, version: int) -> pl.DataFrame:
        return self.events.files(version).select("path", "rows", pl.col("partition.date").cast(pl.Date).alias("date"))

    def _scan(self, first: date | None, last: date | None) -> pl.LazyFrame:
        rows = self.events.scan(self.version, {**COLUMNS, "date": pl.Date()})
        if first is not None:
            rows = rows.filter(pl.col("date") >= first)
        if last is not None:
            rows = rows.filter(pl.col("date") <= last)
        return rows.drop("date")

    def _target(self, view: View) -> Table:
        return self.lake.table("features", self.data_set, view.name)

    def _replace(self, target: Table, view: View, found: Found, first: date | None, number: int) -> None:
        schema = pl.Schema({**view.schema, "date": pl.Date()})
        # A day's statistics are stamped with the midnight that ends it, and belong to the day.
        day = pl.col(EVENT).dt.offset_by("-1us") if view.name == "item_statistics" else pl.col(EVENT)
        frames = (rows.with_columns(day.dt.date().alias("date")) for rows in found)
        replacement.replace(target, schema, frames, first, WRITER, number)


def _stretches(chunks: list[list[date]], last: date) -> Iterator[tuple[date, date]]:
    """Calendar days without a gap, first chunk to last, at most DAYS together."""
    for number, days in enumerate(chunks):
        end = last if number + 1 == len(chunks) else chunks[number + 1][0] - timedelta(days=1)
        begin = days[0]
        while begin <= end:
            stop = min(begin + timedelta(days=DAYS - 1), end)
            yield begin, stop
            begin = stop + timedelta(days=1)


def _unpacked(histories: pl.DataFrame) -> pl.DataFrame:
    """user, items, times (lists) → user, item, timestamp, at most HISTORY rows a user."""
    return (
        histories.with_columns(pl.col("items", "times").list.tail(HISTORY))
        .explode("items", "times")
        .select("user", pl.col("items").alias("item"), pl.col("times").cast(COLUMNS["timestamp"]).alias("timestamp"))
    )


def _day(day: date) -> int:
    return (day - EPOCH).days
