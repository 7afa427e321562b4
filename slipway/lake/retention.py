"""What may go from a table's folder, and what must stay. Knows versions, ages and pins, not who pinned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from slipway import storage
from slipway.errors import StorageError

if TYPE_CHECKING:
    from slipway.lake.snapshot import Snapshot
    from slipway.lake.table import Table


@dataclass(frozen=True)
class Removed:
    """files: paths that are gone (or would be), relative to the table; bytes: what they held, as far as is known."""

    files: tuple[str, ...]
    bytes: int


def vacuum(table: "Table", keep: timedelta, pinned: Sequence["Snapshot"] = (), *, dry_run: bool = False) -> Removed:
    """Remove files that no version younger than `keep` has and no snapshot in `pinned`; then the log's own past.

    Files that no version ever had (a writer was killed) go too, once they are older than `keep`; so `keep` must be
    longer than any writer needs for one commit. Raises StorageError.
    """
    hours = int(keep.total_seconds() // 3600)
    if hours < 0:
        raise StorageError(f"{keep} is no time to keep something", "give a time that is not negative, as in 30d")
    with table.writing():
        old = table.open().vacuum(retention_hours=hours, dry_run=True, enforce_retention_duration=False, full=True)
    mine = [snapshot for snapshot in pinned if snapshot.uri == table.uri]
    spared = {unquote(path) for snapshot in mine for path in snapshot.hashes}
    files = [path for path in old if unquote(path) not in spared]
    objects = storage.store(table.uri, table.endpoint_url)
    sizes = dict(objects.sizes())
    size = sum(sizes.get(unquote(path), 0) for path in files)
    if not dry_run:
        for path in files:
            objects.delete(unquote(path))
        oldest = min((snapshot.committed for snapshot in mine), default=datetime.now(UTC))
        _forget(table, max(keep, datetime.now(UTC) - oldest))
    return Removed(tuple(sorted(files)), size)


def expire(table: "Table", before: date, *, dry_run: bool = False) -> int:
    """Remove the partitions of dates before that one, in a new version; how many rows. Old versions have them until
    `vacuum`. Raises StorageError, also for a table that is not partitioned by date.
    """
    if table.partition_by != ["date"]:
        raise StorageError(f"{table.uri} is not partitioned by date", "only logs expire")
    files = table.files()
    rows = files.filter(files["partition.date"] < before)["rows"].sum() if files.height else 0
    if rows and not dry_run:
        with table.writing():
            table.open().delete(f"date < '{before.isoformat()}'")
    return int(rows)


def _forget(table: "Table", keep: timedelta) -> None:
    """The log before `keep`, up to a checkpoint, so that what is younger loses nothing."""
    name, value = "delta.logRetentionDuration", f"interval {keep.days + 1} days"
    with table.writing():
        delta = table.open()
        if delta.metadata().configuration.get(name) != value:
            delta.alter.set_table_properties({name: value})
        delta.create_checkpoint()
        delta.cleanup_metadata()
