"""Source files → the lake, once each. Knows the lake's tables and what was ingested before; knows no format.

    landed = land(Path("ml-1m"), Lake(), "ml-1m", IngestConfig(), progress)

Each file is kept and recorded (slipway/lake/ledger.py), its bad lines go to raw/<data set>/quarantine, the rest to
processed/<data set>/{events,items,users}. The events are one commit, whatever their number: distinct by user
(intake.py), put on disk a second time by day, and written a day at a time. What comes twice, because a process was
killed or a file has grown, is in the lake once: a commit is numbered by its file's hash, and events that are there
already (same user, item, time and action) are left out.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import numpy as np
import polars as pl

from slipway.errors import BusyError, SourceError
from slipway.lake import ledger
from slipway.lake.lake import Area, Lake
from slipway.lake.ledger import Ingested, Landed
from slipway.lake.table import Table
from slipway.package import sha256
from slipway.settings import settings
from slipway.workload import Progress
from slipway.workloads.movies.dataset import LAKE_EVENTS, USERS, Quarantine
from slipway.workloads.movies.days import Days
from slipway.workloads.movies.ingest import ORACLE
from slipway.workloads.movies.intake import IngestConfig, Intake
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.messages import CATALOGUE, QUARANTINE
from slipway.workloads.movies.partitions import Partitions, stable_order
from slipway.workloads.movies.sources import FORMATS, detect
from slipway.workloads.movies.sources.source import Source, Tables

SAME = ["user", "item", "timestamp", "action"]  # two events that agree in these are one
_RENAMED = 0.1  # share of titles that may change between two files of one data set
_QUARANTINED_AT_ONCE = 1 << 17  # rows


def land(source: Path, lake: Lake, data_set: str, config: IngestConfig, progress: Progress) -> Landed:
    """Bring what is new in the folder `source` into the lake; the events all at once or not at all.

    Raises SourceError when the files cannot be recognised or read, hold no event or tell no time,
    QuarantineLimitError when too many of a file's lines are bad (they are in the lake's quarantine then), StorageError
    when the lake refuses, BusyError when another process on this machine is ingesting into the same data set.
    """
    found = detect(source)
    found.events.check()
    if not found.events.timed:
        raise SourceError(
            f"{found.events.path} knows an order and no times, and the lake is kept by date",
            f"train on the folder itself: slipway run --data {source}",
        )
    try:
        with _scratch(data_set) as folder:
            return _Landing(found, lake, data_set, config, progress, folder).run()
    except OSError as error:
        raise SourceError(
            f"{source} could not be ingested: {error}", "check the disk's free space and the permissions"
        ) from error


@dataclass
class _Landing:
    source: Source
    lake: Lake
    data_set: str
    config: IngestConfig
    progress: Progress
    scratch: Path
    days: Days = field(default_factory=Days)
    known: int = 0

    def run(self) -> Landed:
        files = self._files()
        done = {record.sha256 for record in ledger.records(self.lake, self.data_set)}
        new = {path: digest for path, digest in files.items() if digest not in done}
        events, reasons = 0, Counter[str]()
        if new:
            quarantine = Quarantine(self.scratch / "quarantine.parquet")
            events = self._land(quarantine, new)
            reasons = sum((quarantine.reasons(path.name) for path in new), Counter())
            for path, digest in new.items():
                self._record(path, digest, quarantine.reasons(path.name), events)
        self.progress("ingest", 1.0, {"rows": events, "quarantined": reasons.total()})
        return Landed(
            source=self.source.name,
            files=tuple(path.name for path in new),
            skipped=tuple(path.name for path in files if path not in new),
            events=events,
            known=self.known,
            items=_rows(self._table("processed", "items")),
            users=_rows(self._table("processed", "users")),
            quarantined=dict(sorted(reasons.items())),
            version=self._table("processed", "events").version,
        )

    def _land(self, quarantine: Quarantine, new: Mapping[Path, str]) -> int:
        """Returns the number of new events."""
        intake = Intake(
            self.source, self.scratch, self.config, self.progress, quarantine, self._table("raw", "quarantine").uri
        )
        table, file = self._table("processed", "events"), self.source.events.path
        before = {path: _state(path) for path in new}
        dated = None
        users = items = np.empty(0, np.int64)
        try:
            with quarantine:
                tables = intake.tables()
                if file in new and table.written(_writer(new[file])) is None:
                    dated, users, items = self._by_day(intake, tables)
        except SourceError:
            self._reject(new)
            raise
        self._upsert("items", CATALOGUE, "item", intake.catalogue(tables, items), prefer_old=tables.items is None)
        self._upsert("users", USERS, "user", intake.people(tables, users), prefer_old=tables.users is None)
        for path, digest in new.items():
            ledger.keep(self.lake, self.data_set, path, digest)
        if any(_state(path) != before[path] for path in new):
            raise SourceError(f"the files in {self.source.folder} changed while they were read", "ingest them again")
        self._reject(new)
        return 0 if dated is None else self._write(intake, dated, table, new[file])

    def _by_day(self, intake: Intake, tables: Tables) -> tuple[Partitions, IntArray, IntArray]:
        """The distinct events in partitions of neighbouring days; the users and items of which there is no list."""
        listed = None if tables.items is None else tables.items["item"].to_numpy()
        by_user = intake.read(listed, 0.4, lambda rows: self.days.see(rows["seconds"].to_numpy()))
        plan = self.days.plan()
        dated = Partitions(self.scratch / "days", plan.count, by_user.columns)
        users, items = [np.empty(0, np.int64)], np.empty(0, np.int64)
        for number in range(by_user.count):
            rows = intake.distinct(by_user.take(number))
            dated.add(rows, plan.owners(rows["seconds"].to_numpy(), rows["user"].to_numpy()))
            if tables.users is None:
                users.append(rows["user"].unique().to_numpy())
            if tables.items is None:
                items = np.union1d(items, rows["item"].unique().to_numpy())
            self.progress("ingest", 0.4 + 0.2 * (number + 1) / by_user.count, intake.counts(intake.lines))
        intake.check_events()
        if intake.lines == intake.quarantine.reasons(self.source.events.path.name).total():
            raise SourceError(f"{self.source.events.path} holds no event", "bring a file with at least one good line")
        return dated, np.sort(np.concatenate(users)), items

    def _write(self, intake: Intake, dated: Partitions, table: Table, digest: str) -> int:
        """One commit: a file for each day, and for each part of a day that is large. Returns the new events."""
        there = set(table.files()["partition.date"].to_list()) if table.exists() else set()
        notes = {"source": self.source.name, "file": self.source.events.path.name, "sha256": digest}
        with table.batch(LAKE_EVENTS, ["date"], (_writer(digest), 1), notes) as batch:
            for number in range(dated.count):
                rows = dated.take(number)
                events = self._events(rows[stable_order(rows.select("seconds", "source_row"))])
                batch.add(self._unknown(events, table, there))
                self.progress("ingest", 0.6 + 0.4 * (number + 1) / dated.count, intake.counts(batch.rows))
            return batch.rows

    def _unknown(self, rows: pl.DataFrame, table: Table, there: set[date]) -> pl.DataFrame:
        """Without the events that the lake has already. there: the days of which it has any."""
        days = there.intersection(rows["date"].unique())
        if not days:
            return rows
        have = table.scan(schema={name: LAKE_EVENTS[name] for name in (*SAME, "date")})
        have = have.filter(pl.col("date").is_in(sorted(days))).select(SAME)
        unknown = rows.join(have.collect(), on=SAME, how="anti", nulls_equal=True, maintain_order="left")
        self.known += rows.height - unknown.height
        return unknown

    def _events(self, rows: pl.DataFrame) -> pl.DataFrame:
        nothing, moment = pl.lit(None), (pl.col("seconds") * 1000).cast(LAKE_EVENTS["timestamp"])
        return rows.select(
            "user",
            "item",
            moment.alias("timestamp"),
            (pl.col("rating") if self.source.events.scale else nothing).cast(pl.Float32).alias("rating"),
            pl.lit(self.source.action, dtype=LAKE_EVENTS["action"]).alias("action"),
            "source_row",
            nothing.cast(pl.String).alias("event_id"),
            nothing.cast(pl.String).alias("request_id"),
            moment.cast(pl.Date).alias("date"),
        )

    def _upsert(self, name: str, schema: pl.Schema, key: str, rows: pl.DataFrame, *, prefer_old: bool) -> None:
        """The table is the union of what it was and of rows; a null gives way to what the other knows."""
        lacking = [pl.lit(None, dtype).alias(column) for column, dtype in schema.items() if column not in rows.columns]
        rows = rows.with_columns(lacking).select(schema.names()).cast(schema)
        table = self._table("processed", name)
        if table.exists():
            old = table.scan(schema=schema).collect().sort(key)
            joined = rows.join(old, on=key, how="full", coalesce=True, suffix="_old")
            if name == "items" and not prefer_old:
                self._check_titles(joined)
            order = ("{}_old", "{}") if prefer_old else ("{}", "{}_old")
            rows = joined.select(
                key, *(pl.coalesce(o.format(c) for o in order).alias(c) for c in schema if c != key)
            ).sort(key)
            if rows.equals(old):
                return
        table.replace(rows.sort(key), notes={"source": self.source.name})

    def _check_titles(self, joined: pl.DataFrame) -> None:
        """Raises SourceError when the numbers mean other films than they did: one data set would spoil the other."""
        renamed = joined.filter(pl.col("title") != pl.col("title_old"))
        common = joined.filter(pl.col("title").is_not_null() & pl.col("title_old").is_not_null()).height
        if renamed.height > _RENAMED * common:
            example = renamed.row(0, named=True)
            raise SourceError(
                f"{renamed.height:,} of {common:,} films have another title than in data set {self.data_set!r}: "
                f"film {example['item']} is {example['title']!r} and was {example['title_old']!r}",
                "another source goes into a data set of its own: --data-set NAME",
            )

    def _reject(self, new: Mapping[Path, str]) -> None:
        """The bad lines of the new files, in the lake's quarantine, once for each file."""
        now = datetime.now(UTC)
        table = self._table("raw", "quarantine")
        lines = pl.scan_parquet(self.scratch / "quarantine.parquet")
        files = set(lines.select(pl.col("file").unique()).collect()["file"])
        for path, digest in new.items():
            if path.name not in files or table.written(_writer(digest)) is not None:
                continue
            with table.batch(QUARANTINE, ["day"], (_writer(digest), 1)) as batch:
                for bad in lines.filter(pl.col("file") == path.name).collect_batches(chunk_size=_QUARANTINED_AT_ONCE):
                    rows = bad.select(
                        pl.lit(now).cast(QUARANTINE["rejected_at"]).alias("rejected_at"),
                        pl.lit(f"files:{path.name}").alias("source"),
                        "reason",
                        "line",
                        "text",
                        pl.lit(False).alias("repaired"),
                        pl.lit(now.date()).alias("day"),
                    )
                    batch.add(rows)

    def _record(self, path: Path, digest: str, quarantined: Mapping[str, int], events: int) -> None:
        holds_events = path == self.source.events.path
        ingested = Ingested(
            file=path.name,
            sha256=digest,
            bytes=path.stat().st_size,
            source=self.source.name,
            at=datetime.now(UTC),
            repeats=self.source.repeats,
            events=events if holds_events else 0,
            known=self.known if holds_events else 0,
            quarantined=dict(sorted(quarantined.items())),
        )
        ledger.record(self.lake, self.data_set, ingested)

    def _files(self) -> dict[Path, str]:
        """The files that the format names and that are there, with their hashes."""
        [form] = [form for form in FORMATS if form.name == self.source.name]
        names = dict.fromkeys([self.source.events.path.name, *form.marks, *form.needs, ORACLE])
        paths = [self.source.folder / name for name in names]
        return {path: sha256(path) for path in paths if path.is_file()}

    def _table(self, area: Area, name: str) -> Table:
        return self.lake.table(area, self.data_set, name)


def _writer(digest: str) -> str:
    return f"files:{digest}"


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _rows(table: Table) -> int:
    return int(table.files()["rows"].sum()) if table.exists() else 0


@contextmanager
def _scratch(data_set: str) -> Iterator[Path]:
    """A folder of this process, empty again afterwards; what a killed one left is cleared by the next."""
    folder = settings().home / "scratch" / data_set
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(folder, "an ingestion into the same data set") from error
        _clear(folder)
        try:
            yield folder
        finally:
            _clear(folder)
    finally:
        os.close(lock)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
