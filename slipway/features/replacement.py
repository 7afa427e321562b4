"""Replace a table's rows, from a date on, in one commit and in the memory of one frame. Knows Delta, no feature.

The commit is written by a thread, from frames that this thread makes meanwhile: the writer calls back for its rows
from within its own runtime, where a frame could not be read from another table.
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import write_deltalake

from slipway.lake.table import PROPERTIES, Table, commit


class _AbandonedError(Exception):
    """Who makes the rows failed: nothing may be committed."""


def replace(
    target: Table, schema: pl.Schema, frames: Iterable[pl.DataFrame], first: date | None, writer: str, number: int
) -> int:
    """Rows whose `date` is `first` or later are these now (None: all rows); returns how many. Raises StorageError.

    schema: with a column `date`. writer, number: who made the rows of what, see Table.written. A target that does not
    exist is made, also without rows. Nothing is committed when `frames` raises.
    """
    kept = schema.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    waiting: queue.Queue[pl.DataFrame | Exception | None] = queue.Queue(maxsize=1)
    failed: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        while (frame := waiting.get()) is not None:
            if isinstance(frame, Exception):
                raise frame
            yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(kept).to_batches()

    def write() -> None:
        try:
            with target.writing():
                _write(target, pa.RecordBatchReader.from_batches(kept, batches()), first, (writer, number))
        except BaseException as error:
            failed.append(error)
            while waiting.get() is not None:  # let the maker end
                pass

    thread = threading.Thread(target=write, name=f"write {target.name}", daemon=True)
    thread.start()
    rows = 0
    try:
        for frame in frames:
            if failed:
                break
            rows += frame.height
            waiting.put(frame.select(schema.names()).cast(schema))
    except BaseException:
        waiting.put(_AbandonedError())
        waiting.put(None)
        thread.join()
        raise
    waiting.put(None)
    thread.join()
    if failed:
        raise failed[0]
    return rows


def _write(target: Table, reader: Any, first: date | None, writer: tuple[str, int]) -> None:
    how: dict[str, Any] = {"mode": "overwrite", "commit_properties": commit(writer, None)}
    if not target.exists():
        if target.folder is not None:
            target.folder.parent.mkdir(parents=True, exist_ok=True)
        write_deltalake(target.uri, reader, configuration=PROPERTIES, storage_options=target.options, **how)
    elif first is None:
        write_deltalake(target.open(), reader, schema_mode="overwrite", **how)
    else:
        write_deltalake(target.open(), reader, predicate=f"date >= '{first.isoformat()}'", **how)
