"""Many small files of a partition → one, sorted, without what was written twice. Knows files and event ids only.

A partition is read and written at a time, so memory depends on the largest partition. Writers may append meanwhile:
the commit replaces the files that were read, and no other; what came in between waits for the next compaction.
"""

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from slipway.lake.batch import Batch
    from slipway.lake.table import Table

TIMES = ("timestamp", "event_timestamp", "rejected_at")  # the first that a table has is its order
IDENTITY = "event_id"
AT_ONCE = 256  # partitions of one commit


def compact(table: "Table", minimum: int = 2) -> int:
    """Every partition with at least `minimum` files; returns how many files are fewer.

    Raises ConflictError when somebody else replaces the same files, StorageError.
    """
    fewer = 0
    wanted = [key for key, group in _groups(table, table.version) if group.height >= minimum]
    for start in range(0, len(wanted), AT_ONCE):
        chosen = set(wanted[start : start + AT_ONCE])
        base = table.version
        with table.batch(table.schema, base=base) as batch:
            for key, files in _groups(table, base):
                if key in chosen and files.height >= minimum:
                    _rewrite(
                        table, batch, files.sort("modified", "path"), dict(zip(table.partition_by, key, strict=True))
                    )
                    fewer += files.height - 1
    if fewer:
        with table.writing():
            table.open().create_checkpoint()
    return fewer


def _groups(table: "Table", version: int) -> list[tuple[tuple[object, ...], pl.DataFrame]]:
    """The files of each partition, by its values."""
    parts = [f"partition.{key}" for key in table.partition_by]
    files = table.files(version).select("path", "bytes", "modified", *parts)
    return list(files.partition_by(parts, as_dict=True).items()) if parts else [((), files)]


def _rewrite(table: "Table", batch: "Batch", files: pl.DataFrame, partition: dict[str, object]) -> None:
    """These files (oldest first) go, and one with their rows comes."""
    rows = pl.concat(
        table.read_file(path).with_columns(pl.lit(number).alias("_file")) for number, path in enumerate(files["path"])
    )
    if IDENTITY in rows.columns:
        id_ = pl.col(IDENTITY)
        rows = rows.filter(id_.is_null() | id_.is_first_distinct())
    moment = next((name for name in TIMES if name in rows.columns), None)
    if moment:
        rows = rows.sort(moment, "_file", maintain_order=True)
    for path, size in files.select("path", "bytes").iter_rows():
        batch.remove(path, size, partition)
    known = [pl.lit(value, table.schema[key]).alias(key) for key, value in partition.items()]
    batch.add(rows.drop("_file").with_columns(known))
