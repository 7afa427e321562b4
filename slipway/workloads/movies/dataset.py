"""The data set on disk: one event schema for every source. Knows Parquet and columns, no source format.

<folder>/dataset.json     what it is (DataSet)
<folder>/events/*.parquet partitioned by a hash of the user; within a file sorted by (user, timestamp, source_row)
<folder>/items.parquet    item, title, genres, year: the source's whole list, or what occurs where it has none.
                          title and genres are never null: without a title it is "movie 7" or "page 7"
<folder>/users.parquet    user and the attributes that the source has (the others are null)
<folder>/quarantine.parquet  file, line, reason, text
<folder>/oracle.json      the simulator's truth, where the source is simulated
<folder>/split.json       where the global temporal split cuts, and whom and what it has never seen (from the lake)
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from slipway.errors import BusyError, SourceError
from slipway.package import Frozen, sha256

SourceName = Literal["ml-100k", "ml-1m", "ml-csv", "wikipedia", "ml-1m-sas", "stream"]
Action = Literal["rating", "edit", "interaction", "click"]

EVENTS = pl.Schema(
    {
        "user": pl.Int64(),
        "item": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),  # null throughout where the source gives only an order
        "rating": pl.Float32(),  # null where the action is not a rating
        "action": pl.Enum(["rating", "edit", "interaction", "click"]),
        "source_row": pl.Int64(),  # 1-based line in the source: the tie-breaker
    }
)
LAKE_EVENTS = pl.Schema(  # processed/<data set>/events of the lake, partitioned by date; every event has a time there
    {
        "user": pl.Int64(),
        "item": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "rating": pl.Float32(),  # null where the action is not a rating
        "action": pl.Enum(["rating", "edit", "interaction", "click", "view"]),
        "source_row": pl.Int64(),  # 1-based line in the source file; null from the stream
        "event_id": pl.String(),  # null from files
        "request_id": pl.String(),  # of the recommendation that this event answers; else null
        "date": pl.Date(),  # of timestamp, in UTC: the partition
    }
)
ITEMS = pl.Schema({"item": pl.Int64(), "title": pl.String(), "genres": pl.List(pl.String()), "year": pl.Int32()})
USERS = pl.Schema(
    {
        "user": pl.Int64(),
        "gender": pl.String(),
        "age": pl.Int32(),
        "occupation": pl.String(),
        "zip": pl.String(),
    }
)
QUARANTINE = pl.Schema({"file": pl.String(), "line": pl.Int64(), "reason": pl.String(), "text": pl.String()})


class TableVersion(Frozen):
    """A table of the lake as it was read: its snapshot names each file's hash."""

    table: str
    uri: str
    version: int
    snapshot: str


class DataSet(Frozen):
    """dataset.json."""

    source: SourceName
    events: int
    users: int
    items: int
    quarantined: dict[str, int]  # reason → rows
    timed: bool  # False: an order only, so no temporal split
    repeats: bool  # True: people come back to the same item, so the seen-filter must be off
    sha256: str  # of the event files' hashes: the data snapshot's identity
    tables: tuple[TableVersion, ...] = ()  # of the lake, where it was built from one; the first is the events


def read(folder: Path) -> DataSet:
    """Raises SourceError when the folder holds no data set."""
    try:
        return DataSet.model_validate_json((folder / "dataset.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise SourceError(f"{folder} is no data set: {error}", "ingest the source again") from error


def scan_events(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "events" / "*.parquet", schema=EVENTS)


def snapshot_hash(folder: Path) -> str:
    """SHA-256 of the sorted (file, SHA-256) list of the events: equal events in equal files are one snapshot."""
    text = "".join(f"{path.name} {sha256(path)}\n" for path in sorted((folder / "events").glob("*.parquet")))
    return hashlib.sha256(text.encode()).hexdigest()


class Quarantine:
    """quarantine.parquet while it is written, so that bad rows need no memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reasons: dict[str, Counter[str]] = {}
        self._schema: pa.Schema = QUARANTINE.to_frame().to_arrow().schema
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, file: str, bad: pl.DataFrame) -> None:
        """bad: columns line, reason, text."""
        if bad.height:
            rows = bad.select(pl.lit(file).alias("file"), "line", "reason", "text").cast(QUARANTINE)
            self._writer.write_table(rows.to_arrow().cast(self._schema))
            self._reasons.setdefault(file, Counter()).update(dict(bad["reason"].value_counts().iter_rows()))

    def reasons(self, file: str | None = None) -> Counter[str]:
        """Rows by reason so far, of one file or of all."""
        chosen = self._reasons.values() if file is None else [self._reasons.get(file, Counter())]
        return sum(chosen, Counter())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Replaces an earlier data set; raises SourceError when something else is there, BusyError when another process is
    writing the same one. What a killed process left behind is cleared by the next.
    """
    if out.exists() and not (out.is_dir() and ((out / "dataset.json").is_file() or not any(out.iterdir()))):
        raise SourceError(f"{out} exists and is no data set", "choose another place, or remove it")
    draft = out.parent / f".{out.name}.part"
    draft.mkdir(parents=True, exist_ok=True)
    lock = os.open(draft, os.O_RDONLY)
    try:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(out, "an ingestion that is still writing it") from error
        try:
            _clear(draft)
            yield draft
            former = out.parent / f".{out.name}.former"
            shutil.rmtree(former, ignore_errors=True)
            if out.exists():
                out.rename(former)
            draft.rename(out)
            shutil.rmtree(former, ignore_errors=True)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
