"""One table: Parquet files and a log of versions (Delta Lake). Knows commits, versions and hashes, not what rows mean.

A commit is atomic: a reader sees all of it or nothing. A version never changes: what a training run read can be read
again until retention removes it, which spares the versions that are pinned.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from slipway.errors import StorageError


class Table:
    """uri: file:///… or s3://…. A table exists from its first append on."""

    def __init__(self, uri: str, endpoint_url: str | None = None) -> None:
        self.uri = uri
        self.name = uri.rsplit("/", 1)[-1]
        self.options = _storage_options(uri, endpoint_url)

    def exists(self) -> bool:
        return bool(DeltaTable.is_deltatable(self.uri, self.options))

    @property
    def version(self) -> int:
        return int(self._open().version())

    def written(self, writer: str) -> int | None:
        """The number of the writer's last commit here, None before the first: what is up to it need not come again."""
        return self._open().transaction_version(writer) if self.exists() else None

    def append(
        self,
        rows: pl.DataFrame,
        partition_by: Sequence[str] = (),
        writer: tuple[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> bool:
        """Add rows in one commit; False, and nothing happens, when `writer` (who, which number) committed that already.

        partition_by: of a new table. Raises StorageError.
        """
        if writer and (last := self.written(writer[0])) is not None and writer[1] <= last:
            return False
        commit = CommitProperties(
            custom_metadata=dict(notes or {}),
            app_transactions=[Transaction(app_id=writer[0], version=writer[1])] if writer else None,
            max_commit_retries=20,
        )
        self._write(rows, mode="append", partition_by=list(partition_by) or None, commit_properties=commit)
        return True

    def replace(self, rows: pl.DataFrame, partition_by: Sequence[str] = ()) -> None:
        """The table is these rows, in a new version; the former versions stay. Raises StorageError."""
        self._write(rows, mode="overwrite", partition_by=list(partition_by) or None, schema_mode="overwrite")

    def scan(self, version: int | None = None) -> pl.LazyFrame:
        """The rows of a version, or of the newest; lazily. Raises StorageError when there is no such table."""
        return pl.scan_delta(self._open(version))

    def _write(self, rows: pl.DataFrame, **how: Any) -> None:
        if self.uri.startswith("file://"):
            Path(self.uri.removeprefix("file://")).parent.mkdir(parents=True, exist_ok=True)
        try:
            write_deltalake(self.uri, rows, storage_options=self.options, **how)
        except (DeltaError, OSError) as error:
            raise StorageError(f"{self.uri} could not be written: {error}", "check space and rights") from error

    def _open(self, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self.uri, version=version, storage_options=self.options)
        except TableNotFoundError as error:
            raise StorageError(f"there is no table at {self.uri}", "ingest something first: slipway ingest") from error
        except (DeltaError, OSError) as error:
            raise StorageError(f"{self.uri} cannot be read: {error}", "see slipway data status") from error


def _storage_options(uri: str, endpoint_url: str | None) -> dict[str, str] | None:
    if not uri.startswith("s3://"):
        return None
    return {"aws_endpoint_url": endpoint_url, "aws_allow_http": "true"} if endpoint_url else {}
