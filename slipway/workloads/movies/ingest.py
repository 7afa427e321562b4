"""Source files → the data set, in one pass and in bounded memory. Knows no format and no model.

    ingest(Path("ml-1m"), Path("dataset"), IngestConfig(), progress)

Reading and the search for duplicates are intake.py's; here each partition is sorted and written.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipway.errors import QuarantineLimitError, SourceError
from slipway.workload import Progress
from slipway.workloads.movies.dataset import EVENTS, DataSet, Quarantine, snapshot_hash, staged
from slipway.workloads.movies.intake import IngestConfig, Intake
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.partitions import Partitions, stable_order
from slipway.workloads.movies.sources import detect
from slipway.workloads.movies.sources.source import Source

ORACLE = "oracle.json"
ROW_GROUP = 1 << 18


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
                    intake = Intake(found, draft, config, progress, quarantine, rejected)
                    data = _Ingestion(found, draft, intake).run()
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
    intake: Intake

    def run(self) -> DataSet:
        tables = self.intake.tables()
        known = None if tables.items is None else tables.items["item"].to_numpy()
        events, users, items = self._write(self.intake.read(known, 0.6))
        self.intake.check_events()
        if not events:
            raise SourceError(f"{self.source.events.path} holds no event", "bring a file with at least one good line")
        self.intake.catalogue(tables, items).write_parquet(self.draft / "items.parquet")
        self.intake.people(tables, users).write_parquet(self.draft / "users.parquet")
        oracle = self.source.folder / ORACLE
        if oracle.is_file():
            shutil.copyfile(oracle, self.draft / ORACLE)
        self.intake.progress("ingest", 1.0, self.intake.counts(self.intake.lines))
        return DataSet(
            source=self.source.name,
            events=events,
            users=len(users),
            items=len(items),
            quarantined=dict(sorted(self.intake.quarantine.reasons().items())),
            timed=self.source.events.timed,
            repeats=self.source.repeats,
            sha256=snapshot_hash(self.draft),
        )

    def _write(self, partitions: Partitions) -> tuple[int, IntArray, IntArray]:
        """Each partition without duplicates, sorted; returns the number of events, the users and the items."""
        folder = self.draft / "events"
        folder.mkdir()
        events, users, items = 0, [np.empty(0, np.int64)], np.empty(0, np.int64)
        for number in range(partitions.count):
            frame = self.intake.distinct(partitions.take(number))
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
            self.intake.progress("ingest", 0.6 + 0.4 * (number + 1) / partitions.count, self.intake.counts(events))
        partitions.folder.rmdir()
        return events, np.sort(np.concatenate(users)), items

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
