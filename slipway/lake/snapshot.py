"""What one version of one table was, file by file: so that a training run names what it read, and reads it again.

Knows files and hashes; not why somebody wants to keep them. A snapshot's id is the hash of its files' hashes: equal
ids are equal bytes, wherever the lake lies. `Lake.snapshot` stores it beside the data, and retention then spares its
files; it is read from its own list, so the table's log may be gone.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl
from deltalake import Schema
from pydantic import ValidationError

from slipway import storage
from slipway.errors import IntegrityError, ObjectNotFoundError
from slipway.lake import columns
from slipway.package import Frozen

if TYPE_CHECKING:
    from slipway.lake.table import Table

REMEDY = "restore the file from a copy of the lake; files of a table are never edited in place"


class File(Frozen):
    """path: relative to the table, as its log writes it; partition: its values, null where there is none."""

    path: str
    bytes: int
    rows: int
    sha256: str
    partition: dict[str, str | None]


class Snapshot(Frozen):
    id: str  # SHA-256 of the sorted lines "<SHA-256>  <path>"
    uri: str  # the table's
    version: int
    created: datetime
    rows: int
    bytes: int
    committed: datetime  # when that version was
    delta_schema: str  # Delta's JSON of the columns
    files: tuple[File, ...]

    @property
    def area(self) -> str:
        return self.uri.split("/")[-3]

    @property
    def data_set(self) -> str:
        return self.uri.split("/")[-2]

    @property
    def table(self) -> str:
        return self.uri.split("/")[-1]

    @property
    def hashes(self) -> dict[str, str]:
        return {file.path: file.sha256 for file in self.files}

    @property
    def types(self) -> pl.Schema:
        return pl.Schema(Schema.from_json(self.delta_schema).to_arrow())

    def scan(self, endpoint_url: str | None = None, schema: Mapping[str, Any] | None = None) -> pl.LazyFrame:
        """Its rows, from its own list of files. schema: the columns and types wanted, as in `Table.scan`."""
        from slipway.lake.table import Table

        table = Table(self.uri, endpoint_url)
        rows = pl.LazyFrame(schema=self.types)
        if self.files:
            keys = list(self.files[0].partition)
            rows = pl.scan_parquet(
                [table.place(file.path) for file in self.files],
                schema=pl.Schema({name: dtype for name, dtype in self.types.items() if name not in keys}),
                hive_partitioning=bool(keys),
                hive_schema={name: self.types[name] for name in keys} or None,
                missing_columns="insert",
                storage_options=table.options,
            ).select(self.types.names())
        return rows if schema is None else columns.restore(rows, self.types, schema, self.uri)

    def verify(self, endpoint_url: str | None = None) -> None:
        """Read every file and compare its hash. Raises IntegrityError naming the file that is changed or missing."""
        objects = storage.store(self.uri, endpoint_url)
        for file in self.files:
            try:
                found = _sha256(objects, file.path)
            except ObjectNotFoundError as error:
                raise IntegrityError(f"snapshot {self.id[:16]} lacks {self.uri}/{file.path}", REMEDY) from error
            if found != file.sha256:
                raise IntegrityError(
                    f"{self.uri}/{file.path} is not what snapshot {self.id[:16]} of version {self.version} says", REMEDY
                )


def take(table: "Table", version: int | None, known: Mapping[str, str]) -> Snapshot:
    """known: path → SHA-256 of files hashed before. Raises StorageError, IntegrityError when a file is missing."""
    delta = table.open(version)
    objects = storage.store(table.uri, table.endpoint_url)
    keys = table.partition_by
    files = []
    for row in table.files(int(delta.version())).sort("path").iter_rows(named=True):
        try:
            digest = known.get(row["path"]) or _sha256(objects, row["path"])
        except ObjectNotFoundError as error:
            raise IntegrityError(f"{table.uri} lacks {row['path']}, which its log names", REMEDY) from error
        partition = {key: None if row[f"partition.{key}"] is None else str(row[f"partition.{key}"]) for key in keys}
        files.append(File(path=row["path"], bytes=row["bytes"], rows=row["rows"], sha256=digest, partition=partition))
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return Snapshot(
        id=hashlib.sha256("".join(lines).encode()).hexdigest(),
        uri=table.uri,
        version=int(delta.version()),
        created=datetime.now(UTC),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        committed=table.committed(int(delta.version())),
        delta_schema=delta.schema().to_json(),
        files=tuple(files),
    )


def read(text: bytes, key: str) -> Snapshot:
    """Raises IntegrityError when a stored snapshot is not one, or not the one that it says."""
    try:
        snapshot = Snapshot.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(f"{key} is no snapshot: {error}", REMEDY) from error
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in snapshot.files)
    if hashlib.sha256("".join(lines).encode()).hexdigest() != snapshot.id:
        raise IntegrityError(f"{key} was changed: its files are not those of its id", REMEDY)
    return snapshot


def _sha256(objects: storage.ObjectStore, path: str) -> str:
    """Of a file of the table: small enough to be held, as every file of a table is written from memory."""
    return hashlib.sha256(objects.read(unquote(path))).hexdigest()
