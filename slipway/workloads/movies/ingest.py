"""Source files → the data set, in one pass and in bounded memory. Knows no format and no model.

    ingest(Path("ml-1m"), Path("dataset"), IngestConfig(), progress)

The file is read a block at a time; each block's events are appended to a partition chosen by a hash of the user, so
that all events of a user meet. Then each partition is freed of duplicates, sorted and written. A partition comes from
about one block's worth of source, so memory depends on `block_bytes` and not on the number of rows (as long as no
single user has a block to himself).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from slipway.errors import QuarantineLimitError, SourceError
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies.dataset import EVENTS, ITEMS, DataSet, Quarantine, snapshot_hash, staged
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.sources import detect
from slipway.workloads.movies.sources.lines import Reason, bad_lines, read_blocks
from slipway.workloads.movies.sources.source import Source, Tables, users_frame

ORACLE = "oracle.json"
ROW_GROUP = 1 << 18
MANY = 1 << 16  # partitions; their numbers are sorted as 16-bit integers

# An event between the two steps: a file per column and partition. A column that the source lacks is zeros there.
SPILL = {"user": np.int64, "item": np.int64, "seconds": np.int64, "source_row": np.int64, "rating": np.float32}


class IngestConfig(Frozen):
    max_bad_share: float = Field(0.01, ge=0, le=1, description="of each file's lines; above it the run stops")
    block_bytes: int = Field(1 << 24, ge=16, le=1 << 30, description="of source held at once: the unit of memory")


def ingest(source: Path, out: Path, config: IngestConfig, progress: Progress) -> DataSet:
    """Write the data set of the files in the folder `source` to the folder `out`, whole or not at all.

    Raises SourceError when the files cannot be recognised or read or hold no event, QuarantineLimitError when too
    many of a file's lines are bad (the quarantine then lies beside `out`), BusyError when `out` is being written.
    """
    found = detect(source)
    rejected = out.parent / f"{out.name}.quarantine.parquet"
    try:
        found.events.check()
        with staged(out) as draft:
            try:
                with Quarantine(draft / "quarantine.parquet") as quarantine:
                    data = _Ingestion(found, draft, config, progress, quarantine, rejected).run()
            except QuarantineLimitError:
                (draft / "quarantine.parquet").replace(rejected)
                raise
            (draft / "dataset.json").write_text(data.model_dump_json(indent=2) + "\n")
        rejected.unlink(missing_ok=True)
    except OSError as error:
        raise SourceError(
            f"{source} could not be ingested: {error}", "check the disk's free space and the permissions"
        ) from error
    return data


@dataclass
class _Ingestion:
    source: Source
    draft: Path
    config: IngestConfig
    progress: Progress
    quarantine: Quarantine
    rejected: Path

    def run(self) -> DataSet:
        tables = self.source.tables(self.source.folder)
        for table in tables.read:
            self.quarantine.add(table.file, table.bad)
            self._check_limit(table.file, table.total)
        size = self.source.events.path.stat().st_size
        partitions = Partitions(self.draft / "spill", -(-size // self.config.block_bytes))
        total = self._read(partitions, tables, size)
        self._check_limit(self.source.events.path.name, total)
        events, users, items = self._write(partitions)
        self._check_limit(self.source.events.path.name, total)
        if not events:
            raise SourceError(f"{self.source.events.path} holds no event", "bring a file with at least one good line")
        self._describe(tables, users, items)
        oracle = self.source.folder / ORACLE
        if oracle.is_file():
            shutil.copyfile(oracle, self.draft / ORACLE)
        self.progress("ingest", 1.0, self._counts(total))
        return DataSet(
            source=self.source.name,
            events=events,
            users=len(users),
            items=len(items),
            quarantined=dict(sorted(self.quarantine.reasons().items())),
            timed=self.source.events.timed,
            repeats=self.source.repeats,
            sha256=snapshot_hash(self.draft),
        )

    def _read(self, partitions: "Partitions", tables: Tables, size: int) -> int:
        """The pass over the events; returns how many lines there were."""
        file = self.source.events
        known = None if tables.items is None else tables.items["item"].to_numpy()
        total = done = 0
        for block in read_blocks(file.path, self.config.block_bytes, header=file.header is not None):
            parsed = file.parse(block, known)
            self.quarantine.add(file.path.name, parsed.bad)
            partitions.add(parsed.events)
            total += parsed.total
            done += len(block.data)
            self.progress("ingest", 0.6 * min(done / size, 1.0), self._counts(total))
        return total

    def _write(self, partitions: "Partitions") -> tuple[int, IntArray, IntArray]:
        """Each partition without duplicates, sorted; returns the number of events, the users and the items."""
        folder = self.draft / "events"
        folder.mkdir()
        events, users, items = 0, [np.empty(0, np.int64)], np.empty(0, np.int64)
        for number in range(partitions.count):
            frame = self._distinct(partitions.take(number))
            if frame.height:
                users.append(frame["user"].unique().to_numpy())
                items = np.union1d(items, frame["item"].unique().to_numpy())
                self._events(frame).write_parquet(
                    folder / f"part-{number:05}.parquet",
                    compression="zstd",
                    compression_level=1,
                    row_group_size=ROW_GROUP,
                )
                events += frame.height
            self.progress("ingest", 0.6 + 0.4 * (number + 1) / partitions.count, self._counts(events))
        partitions.folder.rmdir()
        return events, np.sort(np.concatenate(users)), items

    def _distinct(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Without the rows that an earlier line said already; these go to quarantine, rebuilt from their numbers."""
        columns = list(self.source.distinct)
        if not columns or not frame.height or _all_distinct(frame[columns]):
            return frame
        first = frame.select(pl.struct(columns).is_first_distinct()).to_series()
        if first.all():
            return frame
        twice = frame.filter(~first)
        reasons = pl.repeat(Reason.DUPLICATE, twice.height, dtype=pl.String, eager=True)
        file = self.source.events
        self.quarantine.add(file.path.name, bad_lines(twice["source_row"], reasons, file.render(twice)))
        return frame.filter(first)

    def _events(self, frame: pl.DataFrame) -> pl.DataFrame:
        """EVENTS, in order: ties in time fall to the line in the file."""
        file = self.source.events
        milliseconds = pl.col("seconds") * 1000 if file.timed else pl.lit(None, dtype=pl.Int64)
        rating = pl.col("rating") if file.scale else pl.lit(None)
        return frame.sort("user", "seconds", "source_row").select(
            "user",
            "item",
            milliseconds.cast(EVENTS["timestamp"]).alias("timestamp"),
            rating.cast(EVENTS["rating"]).alias("rating"),
            pl.lit(self.source.action, dtype=EVENTS["action"]).alias("action"),
            "source_row",
        )

    def _describe(self, tables: Tables, users: IntArray, items: IntArray) -> None:
        """items.parquet and users.parquet; what the source does not list is listed as it occurs."""
        listed = tables.items
        if listed is None:
            listed = ITEMS.to_frame().join(pl.DataFrame({"item": items}), on="item", how="right").select(ITEMS.names())
        number = pl.format(f"{self.source.noun} {{}}", "item")
        listed.with_columns(pl.col("title").fill_null(number), pl.col("genres").fill_null([])).write_parquet(
            self.draft / "items.parquet"
        )
        people = users_frame(pl.DataFrame({"user": users})) if tables.users is None else tables.users
        people.write_parquet(self.draft / "users.parquet")

    def _check_limit(self, file: str, total: int) -> None:
        reasons = self.quarantine.reasons(file)
        bad = reasons.total()
        if bad > self.config.max_bad_share * total:
            raise QuarantineLimitError(bad, total, self.config.max_bad_share, self.rejected, dict(reasons))

    def _counts(self, rows: int) -> dict[str, float]:
        return {"rows": rows, "quarantined": self.quarantine.reasons().total()}


class Partitions:
    """Events on disk between the two steps, in their order in the source, all of a user in one file."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = max(1, min(count, MANY))
        folder.mkdir()

    def add(self, events: pl.DataFrame) -> None:
        """events: user, item, source_row and, where the source has them, seconds and rating."""
        owners = self._of(events["user"].to_numpy())
        order = np.argsort(owners, kind="stable")  # 16-bit keys: a radix sort
        ends = np.cumsum(np.bincount(owners, minlength=self.count))
        starts = np.concatenate([[0], ends[:-1]])
        for name, dtype in SPILL.items():
            values = events[name].to_numpy()[order] if name in events.columns else np.zeros(len(order), dtype)
            for number in np.flatnonzero(ends > starts):
                with self._path(int(number), name).open("ab") as stream:
                    values[starts[number] : ends[number]].tofile(stream)

    def take(self, number: int) -> pl.DataFrame:
        """The events of a partition, and its files are gone."""
        columns = {}
        for name, dtype in SPILL.items():
            path = self._path(number, name)
            columns[name] = np.fromfile(path, dtype) if path.exists() else np.empty(0, dtype)
            path.unlink(missing_ok=True)
        return pl.DataFrame(columns)

    def _of(self, users: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Fibonacci hashing (Knuth, TAOCP 3, 6.4): consecutive users spread evenly, and the same everywhere."""
        mixed = (users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        return (mixed % np.uint64(self.count)).astype(np.uint16)

    def _path(self, number: int, column: str) -> Path:
        return self.folder / f"{number:05}.{column}"


def _all_distinct(frame: pl.DataFrame) -> bool:
    """True proves that no two rows are equal, False leaves it open: a tenth of the cost of looking for them.

    Rows become one number each in the mixed radix of their columns' ranges, where 63 bits are enough for that.
    """
    keys, size = np.zeros(frame.height, np.int64), 1
    for column in frame:
        values = column.to_numpy()
        low, span = int(values.min()), int(values.max()) - int(values.min()) + 1
        size *= span
        if size >= 1 << 63:
            return False
        keys = keys * span + (values - low)
    keys.sort()
    return not (keys[1:] == keys[:-1]).any()
