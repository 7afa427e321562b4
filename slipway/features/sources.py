"""A Feast file source as a lazy frame: Delta or Parquet, on this machine or S3. Knows places and columns, no join."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.file_source import FileSource

from slipway.errors import FeatureStoreError

if TYPE_CHECKING:
    from slipway.lake.table import Table

UTC_STAMP = pl.Datetime("us", "UTC")
DATE = "date"


def table(source: FileSource, repo: Path | None) -> "Table":
    """The lake's table of a Delta source."""
    from slipway.lake.table import Table  # 140 MB of deltalake, which a server of online features does without

    return Table(_uri(source.path, repo), source.s3_endpoint_override or None)


def is_delta(source: FileSource) -> bool:
    return isinstance(source.file_format, DeltaFormat)


def scan(source: FileSource, repo: Path | None) -> pl.LazyFrame:
    """Raises FeatureStoreError for a source that is no file source, StorageError when there is nothing."""
    if not isinstance(source, FileSource):
        raise FeatureStoreError(
            f"{type(source).__name__} cannot be read by the offline store of this repository",
            "declare it as a FileSource, with DeltaFormat() for a table of the lake",
        )
    if is_delta(source):
        return table(source, repo).scan()
    uri, endpoint = _uri(source.path, repo), source.s3_endpoint_override
    if uri.startswith("file://"):
        path = Path(urlsplit(uri).path)
        if not path.exists():
            raise FeatureStoreError(f"there is no {path}", f"write the source {source.name} first")
        return pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path)
    options = {"aws_endpoint_url": endpoint, "aws_allow_http": "true"} if endpoint else None
    return pl.scan_parquet(
        uri if uri.endswith(".parquet") else f"{uri.rstrip('/')}/**/*.parquet", storage_options=options
    )


def columns(source: FileSource, repo: Path | None) -> dict[str, pl.DataType]:
    """Of the rows as Feast knows them: `date`, which a table of the lake is arranged by, follows from the time."""
    hidden = {DATE} if is_delta(source) else set()
    return {name: kind for name, kind in scan(source, repo).collect_schema().items() if name not in hidden}


def stamped(frame: pl.LazyFrame, names: Iterable[str | None]) -> pl.LazyFrame:
    """The named columns as UTC microseconds; a time without a zone is UTC, as Feast has it."""
    schema = frame.collect_schema()
    return frame.with_columns(stamp(name, schema) for name in names if name)


def stamp(name: str, schema: pl.Schema) -> pl.Expr:
    kind, column = schema[name], pl.col(name)
    if isinstance(kind, pl.Datetime):
        zoned = column.dt.replace_time_zone("UTC") if kind.time_zone is None else column.dt.convert_time_zone("UTC")
        return zoned.dt.cast_time_unit("us")
    if isinstance(kind, pl.Date):
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(kind, pl.String):
        return column.str.to_datetime(time_zone="UTC", time_unit="us")
    raise FeatureStoreError(f"column {name!r} is {kind}, no timestamp", "give a timestamp with a time zone")


def between(frame: pl.LazyFrame, name: str, start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """Both ends included, as the stock file store does; a time without a zone is UTC."""
    if start is not None:
        frame = frame.filter(pl.col(name) >= pl.lit(_aware(start)).cast(UTC_STAMP))
    if end is not None:
        frame = frame.filter(pl.col(name) <= pl.lit(_aware(end)).cast(UTC_STAMP))
    return frame


def _aware(moment: datetime) -> datetime:
    from datetime import UTC

    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _uri(path: str, repo: Path | None) -> str:
    if "://" in path:
        return path
    return (Path(path) if repo is None else repo / path).absolute().as_uri()


def plain(frame: pl.DataFrame) -> Any:
    """A pyarrow.Table without the 64-bit offsets that Polars uses and Feast's conversions do not know."""
    import pyarrow as pa

    def narrow(kind: Any) -> Any:
        if pa.types.is_large_string(kind):
            return pa.string()
        if pa.types.is_large_list(kind):
            return pa.list_(narrow(kind.value_type))
        return kind

    found = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return found.cast(pa.schema([(one.name, narrow(one.type)) for one in found.schema]))
