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
import polars as pl
from pydantic import Field

from slipway.errors import QuarantineLimitError, SourceError
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies.cleaning import Reason
from slipway.workloads.movies.dataset import EVENTS, ITEMS, DataSet, Quarantine, snapshot_hash, staged
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.partitions import Partitions, all_distinct, stable_order
from slipway.workloads.movies.sources import detect
from slipway.workloads.movies.sources.lines import bad_lines, read_blocks
from slipway.workloads.movies.sources.source import Source, Tables, users_frame

ORACLE = "oracle.json"
ROW_GROUP = 1 << 18


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
        partitions = Partitions(
            self.draft / "spill", -(-size // self.config.block_bytes), (*self.source.events.fields, "source_row")
        )
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

    def _read(self, partitions: Partitions, tables: Tables, size: int) -> int:
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

    def _write(self, partitions: Partitions) -> tuple[int, IntArray, IntArray]:
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
        if not self.source.distinct or all_distinct(frame.select(self.source.distinct)):
            return frame
        first = frame.select(pl.struct(self.source.distinct).is_first_distinct()).to_series()
        twice = frame.filter(~first)
        reasons = pl.repeat(Reason.DUPLICATE, twice.height, dtype=pl.String, eager=True)
        file = self.source.events
        self.quarantine.add(file.path.name, bad_lines(twice["source_row"], reasons, file.render(twice)))
        return frame.filter(first)

    def _events(self, frame: pl.DataFrame) -> pl.DataFrame:
        """EVENTS, in order: ties in time fall to the line in the file, which is the frame's order."""
        file = self.source.events
        milliseconds = pl.col("seconds") * 1000 if file.timed else pl.lit(None, dtype=pl.Int64)
        rating = pl.col("rating") if file.scale else pl.lit(None)
        order = stable_order(frame.select("user", "seconds") if file.timed else frame.select("user"))
        return frame[order].select(
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
