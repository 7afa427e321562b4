"""Many Parquet files and one commit: a table's rows in the memory of one file. Knows files and the log, no rows.

    with table.batch(EVENTS, partition_by=["date"]) as batch:
        for rows in many:
            batch.add(rows)

Nothing is seen of it before the block ends, and when the block fails its files are gone. A killed process leaves
files that no version names; retention removes them.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from slipway import storage
from slipway.errors import ConflictError
from slipway.lake import columns
from slipway.lake.table import PROPERTIES, Table, commit

NULL = "__HIVE_DEFAULT_PARTITION__"
ROW_GROUP = 1 << 18


class Batch:
    """schema: of the rows, partition columns included; partition_by: of a new table (an old one keeps its own)."""

    def __init__(
        self,
        table: Table,
        schema: pl.Schema,
        partition_by: Sequence[str],
        writer: tuple[str, int] | None,
        notes: Mapping[str, str] | None,
        base: int | None,
    ) -> None:
        self.table = table
        self.rows = 0
        self.partition_by = list(partition_by)
        self._writer, self._notes, self._base = writer, notes, base
        self._schema = columns.kept_schema(schema)
        self._created = not table.exists()
        if self._created:
            columns.fit(pl.DataFrame(schema=schema), None, table.uri)
        else:
            columns.fit(pl.DataFrame(schema=schema), table.schema, table.uri)
            self._schema, self.partition_by = table.schema, table.partition_by
        self._objects = storage.store(table.uri, table.endpoint_url)
        self._adds: list[AddAction] = []
        self._removes: list[RemoveAction] = []
        self._folders: set[Path] = set()
        self._id = uuid.uuid4().hex[:16]

    def add(self, rows: pl.DataFrame) -> None:
        """A file for each partition that rows have. Raises ColumnsError, StorageError."""
        rows = columns.fit(rows, self._schema, self.table.uri)
        if not rows.height:
            return
        keys = rows.select(self.partition_by)
        starts = [0]
        if self.partition_by:
            if len(self.partition_by) > 1 or not keys.to_series().is_sorted():
                rows = rows.sort(self.partition_by, maintain_order=True)
                keys = rows.select(self.partition_by)
            begins = pl.any_horizontal(pl.all().ne_missing(pl.all().shift(1)))
            starts = sorted({0, *keys.select(begins.arg_true()).to_series()})
        body = rows.drop(self.partition_by)
        # A column of nulls is no column of the file: Delta reads what a file lacks as null.
        full = [c.name for c in body if c.null_count() < len(c)] or body.columns[:1]
        arrow = body.select(full).to_arrow(compat_level=pl.CompatLevel.oldest())
        ends = [*starts[1:], rows.height]
        stats = _times(body.select(full), starts, ends)
        found = keys[starts].rows() if self.partition_by else [()]
        for start, end, noted, values in zip(starts, ends, stats, found, strict=True):
            self._add(arrow.slice(start, end - start), dict(zip(self.partition_by, values, strict=True)), noted)

    def _add(self, rows: pa.Table, partition: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
        values = {name: None if value is None else str(value) for name, value in partition.items()}
        place = "".join(f"{name}={NULL if value is None else quote(value)}/" for name, value in values.items())
        path = f"{place}part-{len(self._adds):05}-{self._id}.parquet"
        data = _parquet(rows)
        with self.table.writing():
            self._write(path, data)
        noted = json.dumps({"numRecords": rows.num_rows, **stats})
        self._adds.append(AddAction(path, len(data), values, int(time.time() * 1000), True, noted))
        self.rows += rows.num_rows

    def remove(self, path: str, size: int, partition: Mapping[str, Any]) -> None:
        """A file whose rows the ones to be added hold.

        The log would let us say that no row changes (data_change false), but then delta-rs 1.6 lets two writers that
        replace the same file both commit, and the rows are there twice.
        """
        values = {name: None if value is None else str(value) for name, value in partition.items()}
        self._removes.append(RemoveAction(path, True, int(time.time() * 1000), size, values))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._created or self._adds or self._removes or self._writer:
                    self._commit()
                return
        except BaseException:
            self._discard()
            raise
        self._discard()

    def _write(self, path: str, data: pa.Buffer) -> None:
        if self.table.folder is None:
            self._objects.write(path, data.to_pybytes())
            return
        file = self.table.folder / path
        if file.parent not in self._folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(file.parent)
        try:
            with file.open("xb") as stream:
                stream.write(data)
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def _commit(self) -> None:
        schema = Schema.from_arrow(
            pl.DataFrame(schema=self._schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        )
        properties = commit(self._writer, self._notes)
        if not self._created:
            self._append(schema, properties)
            return
        try:
            with self.table.writing():
                if self.table.folder is not None:
                    self.table.folder.mkdir(parents=True, exist_ok=True)
                create_table_with_add_actions(
                    self.table.uri,
                    schema,
                    self._adds,
                    mode="error",
                    partition_by=self.partition_by,
                    configuration=PROPERTIES,
                    storage_options=self.table.options,
                    commit_properties=properties,
                )
        except ConflictError:  # somebody created it in the meantime
            columns.fit(pl.DataFrame(schema=self._schema), self.table.schema, self.table.uri)
            if self.table.partition_by != self.partition_by:
                raise
            self._append(schema, properties)

    def _append(self, schema: Schema, properties: Any) -> None:
        with self.table.writing():
            self.table.open(self._base).create_write_transaction(
                [*self._adds, *self._removes], "append", schema, self.partition_by, commit_properties=properties
            )

    def _discard(self) -> None:
        for added in self._adds:
            self._objects.delete(added.path)
        self._adds.clear()


def _parquet(rows: pa.Table) -> pa.Buffer:
    """Whole numbers as differences in as few bits as they need: smaller than zstd makes them, in half the time."""
    whole = [f.name for f in rows.schema if pa.types.is_integer(f.type) or pa.types.is_temporal(f.type)]
    nested = any(pa.types.is_nested(field.type) for field in rows.schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        # The columns within a nested one have names of their own, so these files are compressed throughout.
        compression="zstd" if nested else {f.name: "none" if f.name in whole else "zstd" for f in rows.schema},
        row_group_size=ROW_GROUP,
        use_dictionary=[f.name for f in rows.schema if f.name not in whole and not pa.types.is_nested(f.type)],
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        store_schema=False,
    )
    return sink.getvalue()


def _times(rows: pl.DataFrame, starts: Sequence[int], ends: Sequence[int]) -> list[dict[str, dict[str, str]]]:
    """Of each stretch of rows Delta's minValues and maxValues, for the columns of times: what freshness and pruning
    need, at little cost.
    """
    times = {c.name: "Z" if c.dtype.time_zone else "" for c in rows if isinstance(c.dtype, pl.Datetime)}
    if not times:
        return [{} for _ in starts]
    stretch = pl.Series("_stretch", np.repeat(np.arange(len(starts)), np.subtract(ends, starts)))
    found = (
        rows.select(pl.col(*times).to_physical(), stretch)
        .group_by("_stretch")
        .agg(pl.all().min().name.suffix(":min"), pl.all().max().name.suffix(":max"))
        .sort("_stretch")
    )
    return [
        {
            f"{end}Values": {
                name: _iso(row[f"{name}:{end}"]) + zone
                for name, zone in times.items()
                if row[f"{name}:{end}"] is not None
            }
            for end in ("min", "max")
        }
        for row in found.iter_rows(named=True)
    ]


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")
