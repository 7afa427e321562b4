"""Many Parquet files and one commit: a table's rows in the memory of one file. Knows files and the log, no rows.

    with table.batch(EVENTS, partition_by=["date"]) as batch:
        for day, rows in days:
            batch.add(rows, date=day)

Nothing is seen of it before the block ends, and when the block fails its files are gone. A killed process leaves
files that no version names; retention removes them.
"""

import io
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from slipway import storage
from slipway.errors import StorageError
from slipway.lake import columns
from slipway.lake.table import PROPERTIES, Table, commit

if TYPE_CHECKING:
    import pyarrow as pa

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
    ) -> None:
        self.table = table
        self.rows = 0
        self.partition_by = list(partition_by)
        self._writer, self._notes = writer, notes
        self._schema = columns.kept_schema(schema)
        if table.exists():
            columns.fit(pl.DataFrame(schema=schema), table.schema, table.uri)
            self._schema, self.partition_by = table.schema, table.partition_by
        self._objects = storage.store(table.uri, table.endpoint_url)
        self._adds: list[AddAction] = []
        self._removes: list[RemoveAction] = []
        self._id = uuid.uuid4().hex[:16]

    def add(self, rows: pl.DataFrame, **partition: Any) -> None:
        """One file. rows: the columns that are no partition's, in any order; partition: a value for each that is."""
        if not rows.height:
            return
        names = [name for name in self._schema if name not in self.partition_by]
        fitting = columns.fit(rows, pl.Schema({name: self._schema[name] for name in names}), self.table.uri)
        values = {name: None if partition[name] is None else str(partition[name]) for name in self.partition_by}
        place = "".join(f"{name}={value}/" for name, value in values.items())
        path = f"{place}part-{len(self._adds):05}-{self._id}.zstd.parquet"
        # A column of nulls is no column of the file: Delta reads what a file lacks as null.
        full = fitting.select(c for c in fitting if c.null_count() < len(c))
        with self.table.writing():
            size = self._write(path, (full if full.width else fitting).to_arrow(compat_level=pl.CompatLevel.oldest()))
        stats = {"numRecords": rows.height, **_times(full)}
        self._adds.append(AddAction(path, size, values, int(time.time() * 1000), not self._removes, json.dumps(stats)))
        self.rows += rows.height

    def remove(self, path: str, size: int, partition: Mapping[str, Any]) -> None:
        """A file whose rows the ones to be added hold: the commit changes how rows are stored, and no row."""
        values = {name: None if value is None else str(value) for name, value in partition.items()}
        self._removes.append(RemoveAction(path, False, int(time.time() * 1000), size, values))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and (self._adds or self._removes):
                self._commit()
                return
        except BaseException:
            self._discard()
            raise
        self._discard()

    def _write(self, path: str, rows: "pa.Table") -> int:
        """Returns the file's size in bytes."""
        how: dict[str, Any] = {
            "compression": "zstd",
            "compression_level": 1,
            "row_group_size": ROW_GROUP,
            # Numbers compress as well without a dictionary, and a small file is written in half the time.
            "use_dictionary": [f.name for f in rows.schema if str(f.type).endswith("string")],
            "store_schema": False,
        }
        if self.table.folder is None:
            buffer = io.BytesIO()
            pq.write_table(rows, buffer, **how)
            self._objects.write(path, buffer.getvalue())
            return buffer.tell()
        file = self.table.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(rows, file, **how)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        return file.stat().st_size

    def _commit(self) -> None:
        schema = Schema.from_arrow(
            pl.DataFrame(schema=self._schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        )
        properties = commit(self._writer, self._notes)
        created = not self.table.exists()
        with self.table.writing(retry=created):
            if created:
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
            else:
                self._append(schema, properties)
            return
        # Another writer created it in the meantime.
        columns.fit(pl.DataFrame(schema=self._schema), self.table.schema, self.table.uri)
        if self.table.partition_by != self.partition_by:
            raise StorageError(
                f"{self.table.uri} was created meanwhile, partitioned by {self.table.partition_by}", "do it again"
            )
        with self.table.writing():
            self._append(schema, properties)

    def _append(self, schema: Schema, properties: Any) -> None:
        self.table.open().create_write_transaction(
            [*self._adds, *self._removes], "append", schema, self.partition_by, commit_properties=properties
        )

    def _discard(self) -> None:
        for added in self._adds:
            self._objects.delete(added.path)
        self._adds.clear()


def _times(rows: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Delta's minValues and maxValues of the columns of times: what freshness and pruning need, at little cost."""
    times = [c for c in rows if isinstance(c.dtype, pl.Datetime)]
    return {
        "minValues": {c.name: _iso(c.min()) for c in times},
        "maxValues": {c.name: _iso(c.max()) for c in times},
    }


def _iso(moment: Any) -> str:
    assert isinstance(moment, datetime)
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{text}Z" if moment.tzinfo else text
