"""Many small files of a partition → one, sorted, without what was written twice. Knows files and event ids only.

A partition is read and written at a time, so memory depends on the largest partition. Writers may append meanwhile:
the commit replaces the files that were read, and no other; what came in between waits for the next compaction.
"""

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from slipway.lake.table import Table

TIMES = ("timestamp", "event_timestamp", "rejected_at")  # the first that a table has is its order
IDENTITY = "event_id"


def compact(table: "Table", minimum: int = 2) -> int:
    """Every partition with at least `minimum` files; returns how many files are fewer. Raises StorageError."""
    fewer = 0
    keys = table.partition_by
    parts = [f"partition.{key}" for key in keys]
    files = table.files().select("path", "bytes", "modified", *parts)
    groups = files.partition_by(parts, maintain_order=True) if parts else [files]
    for group in groups:
        if group.height >= minimum:
            _rewrite(table, group.sort("modified", "path"), dict(zip(keys, group.row(0)[3:], strict=True)))
            fewer += group.height - 1
    if fewer:
        table.open().create_checkpoint()
    return fewer


def _rewrite(table: "Table", files: pl.DataFrame, partition: dict[str, object]) -> None:
    """One commit: these files (oldest first) are gone, and one with their rows is there."""
    schema = table.schema
    rows = pl.concat(
        table.read_file(path).with_columns(pl.lit(number).alias("_file")) for number, path in enumerate(files["path"])
    )
    if IDENTITY in rows.columns:
        id_ = pl.col(IDENTITY)
        rows = rows.filter(id_.is_null() | id_.is_first_distinct())
    time = next((name for name in TIMES if name in rows.columns), None)
    if time:
        rows = rows.sort(time, "_file", maintain_order=True)
    with table.batch(schema) as batch:
        for path, size in files.select("path", "bytes").iter_rows():
            batch.remove(path, size, partition)
        known = [pl.lit(value, schema[key]).alias(key) for key, value in partition.items()]
        batch.add(rows.drop("_file").with_columns(known))
