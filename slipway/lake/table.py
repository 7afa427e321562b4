"""One table: Parquet files and a log of versions (Delta Lake). Knows commits, versions and columns, not what rows mean.

A commit is atomic: a reader sees all of it or nothing. A version never changes: what a training run read can be read
again until retention removes it, which spares the versions that are pinned (snapshot.py).
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from slipway import storage
from slipway.errors import ConflictError, ObjectNotFoundError, StorageError
from slipway.lake import columns

if TYPE_CHECKING:
    from slipway.lake.batch import Batch
    from slipway.lake.retention import Removed
    from slipway.lake.snapshot import Snapshot

# Expired logs go when retention says so (retention.py), never behind the back of a pinned version.
PROPERTIES = {"delta.enableExpiredLogCleanup": "false", "delta.checkpointInterval": "50"}
RESTORE = (
    "restore the file from a copy, or delete the table's folder and ingest its sources again (they are under raw/)"
)
_ATTEMPTS = 20  # of a commit against other writers


class _Delta(DeltaTable):  # type: ignore[misc]
    """Polars opens the paths as they are given, and Delta gives the %20 of a URI for a space in a folder's name."""

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        root = urlsplit(self.table_uri).path if self.table_uri.startswith("file://") else ""
        plain = unquote(root)
        paths: list[str] = super().file_uris(*args, **kwargs)
        return paths if plain == root else [plain + path.removeprefix(root) for path in paths]


class Table:
    """uri: file:///… or s3://…. A table exists from its first append on. One object serves one thread."""

    def __init__(self, uri: str, endpoint_url: str | None = None) -> None:
        self.uri = uri
        self.name = uri.rsplit("/", 1)[-1]
        self.endpoint_url = endpoint_url
        self.options = _storage_options(uri, endpoint_url)
        self._delta: DeltaTable | None = None

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine; None on S3."""
        return Path(unquote(urlsplit(self.uri).path)) if self.uri.startswith("file://") else None

    def exists(self) -> bool:
        return self._newest() is not None

    @property
    def version(self) -> int:
        return int(self.open().version())

    @property
    def schema(self) -> pl.Schema:
        """The columns as they are kept: see columns.py."""
        return pl.Schema(self.open().schema().to_arrow())

    @property
    def partition_by(self) -> list[str]:
        return list(self.open().metadata().partition_columns)

    def written(self, writer: str) -> int | None:
        """The number of the writer's last commit here, None before the first: what is up to it need not come again."""
        delta = self._newest()
        return None if delta is None else delta.transaction_version(writer)

    def append(
        self,
        rows: pl.DataFrame,
        partition_by: Sequence[str] = (),
        writer: tuple[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> bool:
        """Add rows in one commit; False, and nothing happens, when `writer` (who, which number) committed that already.

        partition_by: of a new table, which comes to be even without rows. Raises ColumnsError when the rows are not
        like the table's, StorageError.
        """
        for attempt in range(_ATTEMPTS):
            last = self.written(writer[0]) if writer else None
            if writer and last is not None and writer[1] <= last:
                return False
            try:
                with self.batch(rows.schema, partition_by, writer, notes) as batch:
                    batch.add(rows)
            except ConflictError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(0.01 * attempt)
            else:
                return True
        raise AssertionError("the last attempt raises")

    def replace(
        self, rows: pl.DataFrame, partition_by: Sequence[str] = (), notes: Mapping[str, str] | None = None
    ) -> None:
        """The table is these rows, in a new version; the former versions stay. Raises StorageError.

        The columns may change: old versions keep theirs.
        """
        delta = self._newest()
        how: dict[str, Any] = {"partition_by": list(partition_by) or None, "commit_properties": commit(None, notes)}
        how |= {"configuration": PROPERTIES} if delta is None else {"schema_mode": "overwrite"}
        fitting = columns.fit(rows, None, self.uri)
        with self.writing():
            if delta is None and self.folder is not None:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
            where = {"storage_options": self.options} if delta is None else {}
            write_deltalake(delta or self.uri, fitting, mode="overwrite", **where, **how)

    def widen(self, schema: Mapping[str, Any]) -> None:
        """Add those columns that the table lacks, with nulls in its rows; old versions keep their columns.

        Nothing happens where there is no table, or nothing lacks. Raises StorageError.
        """
        delta = self._newest()
        there = set() if delta is None else set(self.schema.names())
        lacking = pl.Schema({name: dtype for name, dtype in schema.items() if name not in there})
        if delta is None or not lacking:
            return
        fields = Schema.from_arrow(pl.DataFrame(schema=columns.kept_schema(lacking)).to_arrow().schema).fields
        with self.writing():
            delta.alter.add_columns(fields)
        self._delta = None

    def batch(
        self,
        schema: Mapping[str, Any],
        partition_by: Sequence[str] = (),
        writer: tuple[str, int] | None = None,
        notes: Mapping[str, str] | None = None,
        base: int | None = None,
    ) -> "Batch":
        """Many files and one commit, in the memory of one file: for what does not fit into `append`.

        base: the version that was read for what is written; a ConflictError when files that the batch removes were
        removed since by somebody else.
        """
        from slipway.lake.batch import Batch

        return Batch(self, pl.Schema(schema), partition_by, writer, notes, base)

    def scan(self, version: int | None = None, schema: Mapping[str, Any] | None = None) -> pl.LazyFrame:
        """The rows of a version, or of the newest; lazily, and only the files that a filter on partitions leaves.

        schema: the columns wanted, in the types wanted, as Delta keeps fewer. Raises StorageError when there is no
        such table or version, or when a file of it is missing or was cut off.
        """
        delta = self.open(version)
        self._check_sizes(delta)
        rows = pl.scan_delta(delta)
        return rows if schema is None else columns.restore(rows, pl.Schema(delta.schema().to_arrow()), schema, self.uri)

    def read_file(self, path: str) -> pl.DataFrame:
        """One file of the newest version, without the columns of the partition. Raises StorageError naming it."""
        schema = {name: dtype for name, dtype in self.schema.items() if name not in self.partition_by}
        try:
            return pl.scan_parquet(
                self.place(path),
                schema=schema,
                hive_partitioning=False,
                missing_columns="insert",
                storage_options=self.options,
            ).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise StorageError(f"{self.uri}/{path} cannot be read: {error}", RESTORE) from error

    def place(self, path: str) -> str:
        """The path of a file as the log has it → where Polars finds it."""
        return f"{self.uri if self.folder is None else self.folder}/{unquote(path)}"

    def files(self, version: int | None = None) -> pl.DataFrame:
        """One row per file, from the log alone: path, bytes, modified, rows, partition.<column>, and min.<column> and
        max.<column> of what the writer noted.
        """
        delta = self.open(version)
        found = pl.DataFrame(delta.get_add_actions(flatten=True))
        return found.rename(
            {"size_bytes": "bytes", "num_records": "rows", "modification_time": "modified"}, strict=False
        )

    def commit_info(self, version: int | None = None) -> dict[str, Any]:
        """What the log says of a commit: timestamp (ms), operation and its notes; {} of a forgotten one."""
        number = int(self.open(version).version())
        try:
            lines = storage.store(self.uri, self.endpoint_url).read(f"_delta_log/{number:020}.json").splitlines()
        except ObjectNotFoundError:
            return {}
        found: dict[str, Any] = next((e["commitInfo"] for e in map(json.loads, lines) if "commitInfo" in e), {})
        return found

    def committed(self, version: int | None = None) -> datetime:
        """When a version was; of one whose commit the log has forgotten, when its newest file was written."""
        at: int | None = self.commit_info(version).get("timestamp")
        if at is None:
            at = max(self.files(version)["modified"], default=0)
        return datetime.fromtimestamp(at / 1000, UTC)

    def snapshot(self, version: int | None = None, known: Mapping[str, str] | None = None) -> "Snapshot":
        """What one version is, file by file. known: path → SHA-256 of files hashed before (they never change)."""
        from slipway.lake import snapshot

        return snapshot.take(self, version, known or {})

    def compact(self, minimum: int = 2) -> int:
        """Make one sorted file of each partition that has at least `minimum`; returns how many files are fewer."""
        from slipway.lake import compaction

        return compaction.compact(self, minimum)

    def vacuum(self, keep: timedelta, pinned: Sequence["Snapshot"] = (), *, dry_run: bool = False) -> "Removed":
        """Remove the files that no version younger than `keep` and no pinned snapshot has."""
        from slipway.lake import retention

        return retention.vacuum(self, keep, pinned, dry_run=dry_run)

    def open(self, version: int | None = None) -> DeltaTable:
        """Raises StorageError when there is no such table or version."""
        if version is None:
            newest = self._newest()
            if newest is None:
                raise StorageError(f"there is no table at {self.uri}", "ingest something first: slipway ingest")
            return newest
        self.open()
        try:
            return _Delta(self.uri, version=version, storage_options=self.options)
        except (DeltaError, OSError) as error:
            raise StorageError(
                f"{self.uri} has no version {version} (its newest is {self.version})",
                "retention removed it, or it never was; slipway data status lists the snapshots",
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what goes wrong in the block into a StorageError; a ConflictError where doing it again may help."""
        try:
            yield
        except (DeltaError, OSError) as error:
            self._delta = None
            text = str(error)
            if isinstance(error, CommitFailedError) or "already exists" in text:
                raise ConflictError(self.uri, error) from error
            full = "No space left" in text or "File too large" in text
            remedy = "free some space and do it again" if full else "check space and rights"
            raise StorageError(
                f"{self.uri} could not be written, and is what it was before: {error}", remedy
            ) from error

    def _newest(self) -> DeltaTable | None:
        """The table as it is now; what was read of its log before is not read again."""
        if self._delta is not None:
            with contextlib.suppress(DeltaError, OSError):  # retention removed the log's beginning, or the table
                self._delta.update_incremental()
                return self._delta
        try:
            self._delta = _Delta(self.uri, storage_options=self.options)
        except TableNotFoundError:
            self._delta = None
        except (DeltaError, OSError) as error:
            raise StorageError(
                f"{self.uri} cannot be read: {error}", "check the store's URI, rights and log"
            ) from error
        return self._delta

    def _check_sizes(self, delta: DeltaTable) -> None:
        """A file that a crash or a copy cut off would be read as nonsense; on S3 a file is whole or not there."""
        if self.folder is None:
            return
        files = pl.DataFrame(delta.get_add_actions()).select("path", "size_bytes")
        for path, size in files.iter_rows():
            try:
                found = (self.folder / unquote(path)).stat().st_size
            except FileNotFoundError:
                found = None
            except OSError as error:
                raise StorageError(f"{self.uri}/{path} cannot be read: {error.strerror}", "check rights") from error
            if found != size:
                raise StorageError(
                    f"{self.uri}/{path} is {'missing' if found is None else f'{found:,} bytes long'}; "
                    f"the table's log says {size:,} bytes",
                    RESTORE,
                )


def commit(writer: tuple[str, int] | None, notes: Mapping[str, str] | None) -> CommitProperties:
    return CommitProperties(
        custom_metadata=dict(notes or {}),
        app_transactions=[Transaction(app_id=writer[0], version=writer[1])] if writer else None,
        max_commit_retries=_ATTEMPTS,
    )


def _storage_options(uri: str, endpoint_url: str | None) -> dict[str, str] | None:
    if not uri.startswith("s3://"):
        return None
    return {"aws_endpoint_url": endpoint_url, "aws_allow_http": "true"} if endpoint_url else {}
