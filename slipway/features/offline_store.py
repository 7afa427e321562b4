"""Feast's OfflineStore on Polars: point-in-time joins of millions of rows on one machine. Knows Feast's interface.

    offline_store:
      type: slipway.features.offline_store.PolarsOfflineStore

Sources are FileSources: Delta tables (the lake's) and Parquet, as paths, file:// or s3://. The entity frame is a
pandas, Polars or Arrow table, or the path of a Parquet file; there is no SQL. Why not the stock stores: docs/adr/0007.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from feast.errors import FeastJoinKeysDuringMaterialization, SavedDatasetLocationAlreadyExists
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import (
    _get_requested_feature_views_to_features_dict,
    _get_requested_on_demand_feature_views,
    compute_non_entity_date_range,
)
from pydantic import Field

from slipway.errors import FeatureStoreError
from slipway.features import asof, sources

TIME = "event_timestamp"


class PolarsOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    type: Literal["slipway.features.offline_store.PolarsOfflineStore"] = (
        "slipway.features.offline_store.PolarsOfflineStore"
    )
    rows: int = Field(2_000_000, gt=0, description="of a feature table in memory at once; of a result written at once")


@dataclass(frozen=True)
class PolarsRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """Runs when it is asked for its result. entities: what the join starts from; None: `run` needs none."""

    run: Callable[[pl.DataFrame | None], pl.DataFrame]
    entities: pl.DataFrame | None = None
    full_names: bool = False
    on_demand: tuple[Any, ...] = ()
    about: RetrievalMetadata | None = None
    repo: Path | None = None
    rows: int = 2_000_000

    @property
    def full_feature_names(self) -> bool:
        return self.full_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        return list(self.on_demand)

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self.about

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002 - Feast's interface
        return sources.plain(self.run(self.entities))

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal(timeout).to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """The result without a detour by pandas; on-demand features included."""
        found = pl.from_arrow(self.to_arrow())
        assert isinstance(found, pl.DataFrame)
        return found

    def parts(self) -> Iterator[pa.Table]:
        """The result, `rows` rows of the entity frame at a time, in its order."""
        if self.entities is None:
            yield self.to_arrow()
            return
        for entities in self.entities.iter_slices(self.rows):
            yield replace(self, entities=entities).to_arrow()

    def persist(
        self,
        storage: SavedDatasetFileStorage,
        allow_overwrite: bool | None = False,
        timeout: int | None = None,  # noqa: ARG002
    ) -> None:
        """To one Parquet file or, without that ending, part files in a folder; never the whole result in memory."""
        uri = FileSource.get_uri_for_file_path(self.repo, storage.file_options.uri)
        files, path = FileSource.create_filesystem_and_path(uri, storage.file_options.s3_endpoint_override)
        if not allow_overwrite and (files is None and Path(path).exists()):
            raise SavedDatasetLocationAlreadyExists(location=uri)
        target = path if path.endswith(".parquet") else f"{path.rstrip('/')}/part.parquet"
        if files is None:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        writer: pa.parquet.ParquetWriter | None = None
        try:
            for part in self.parts():
                writer = writer or pa.parquet.ParquetWriter(target, part.schema, filesystem=files)
                writer.write_table(part.cast(writer.schema))
        finally:
            if writer is not None:
                writer.close()

    def supports_remote_storage_export(self) -> bool:
        return False


class PolarsOfflineStore(OfflineStore):  # type: ignore[misc]
    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """One row per row of entity_df, in its order. Raises FeatureStoreError for a frame that cannot be used."""
        wanted, _ = _get_requested_feature_views_to_features_dict(
            feature_refs, feature_views, _get_requested_on_demand_feature_views(feature_refs, project, registry)
        )
        if entity_df is None:
            start, end = compute_non_entity_date_range(
                feature_views, start_date=kwargs.get("start_date"), end_date=kwargs.get("end_date")
            )
            entities, at = _everybody(config, wanted, start, end), TIME
        else:
            entities, at = _entity_frame(entity_df)
        views = [
            _features(config, view, names, full_feature_names, filter_by_created_timestamp)
            for view, names in wanted.items()
        ]
        for view in views:
            if missing := set(view.keys.values()) - set(entities.columns):
                raise FeatureStoreError(
                    f"the entity frame has no column {', '.join(sorted(missing))}",
                    f"it has {', '.join(entities.columns)}",
                )
        rows = config.offline_store.rows

        def run(asking: pl.DataFrame | None) -> pl.DataFrame:
            assert asking is not None
            return pl.concat([asking, *(asof.join(asking, at, view, rows) for view in views)], how="horizontal")

        return PolarsRetrievalJob(
            run=run,
            entities=entities,
            full_names=full_feature_names,
            on_demand=tuple(OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)),
            about=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.columns if name != at],
                min_event_timestamp=entities[at].min(),
                max_event_timestamp=entities[at].max(),
            ),
            repo=config.repo_path,
            rows=rows,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The newest row per entity between both dates (included), of equal times the one created last."""
        stamps = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]

        def run(_: pl.DataFrame | None) -> pl.DataFrame:
            table = _range(config, data_source, join_key_columns, stamps, start_date, end_date)
            rows = table.select(*join_key_columns, *feature_name_columns, *stamps)
            if not join_key_columns:
                newest = rows.sort(stamps).last().collect(engine="streaming")
                return newest.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
            # First the newest time of each entity, then its row: no more than one row each is held.
            times = rows.group_by(join_key_columns).agg(pl.col(timestamp_field).max())
            found = rows.join(times, on=[*join_key_columns, timestamp_field], how="semi").collect(engine="streaming")
            return found.sort(stamps).unique(join_key_columns, keep="last")

        return PolarsRetrievalJob(run=run, repo=config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row between both dates, included."""
        stamps = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]

        def run(_: pl.DataFrame | None) -> pl.DataFrame:
            table = _range(config, data_source, join_key_columns, stamps, start_date, end_date)
            rows = table.select(*join_key_columns, *feature_name_columns, *stamps)
            if not join_key_columns:
                rows = rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
            return rows.collect(engine="streaming")

        return PolarsRetrievalJob(run=run, repo=config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append to the view's source. Raises FeatureStoreError when the columns are not the source's."""
        source = feature_view.batch_source
        expected = sources.columns(source, config.repo_path)
        if set(table.column_names) != set(expected):
            raise FeatureStoreError(
                f"{feature_view.name} is written with the columns {', '.join(table.column_names)}",
                f"its source has {', '.join(expected)}",
            )
        rows = pl.from_arrow(table)
        assert isinstance(rows, pl.DataFrame)
        rows = sources.stamped(rows.lazy(), [source.timestamp_field, source.created_timestamp_column]).collect()
        rows = rows.select(pl.col(name).cast(kind) for name, kind in expected.items())
        if not sources.is_delta(source):
            raise FeatureStoreError(
                f"the source of {feature_view.name} is Parquet, which cannot take rows while it is read",
                "use a Delta table for a view that is pushed to",
            )
        target = sources.table(source, config.repo_path)
        if sources.DATE in target.schema:
            rows = rows.with_columns(pl.col(source.timestamp_field).dt.date().alias(sources.DATE))
        target.append(rows)
        if progress:
            progress(rows.height)

    @staticmethod
    def write_logged_features(
        config: Any,
        data: pa.Table | Path,
        source: Any,  # noqa: ARG004
        logging_config: Any,
        registry: Any,  # noqa: ARG004
    ) -> None:
        """Served features as Parquet files below the service's logging destination."""
        destination = logging_config.destination
        assert isinstance(destination, FileLoggingDestination)
        table = pa.parquet.read_table(data) if isinstance(data, Path) else data
        uri = FileSource.get_uri_for_file_path(config.repo_path, destination.path)
        files, path = FileSource.create_filesystem_and_path(uri, destination.s3_endpoint_override)
        pa.parquet.write_to_dataset(table, root_path=path, filesystem=files, partition_cols=destination.partition_by)

    def get_table_column_names_and_types_from_data_source(self, config: Any, data_source: Any) -> list[tuple[str, str]]:
        found = sources.columns(data_source, config.repo_path)
        return [(one.name, str(one.type)) for one in sources.plain(pl.DataFrame(schema=found)).schema]


def _entity_frame(given: Any) -> tuple[pl.DataFrame, str]:
    """(frame with its timestamps in UTC, the name of its timestamp)."""
    if isinstance(given, str | Path):
        if not Path(given).is_file():
            raise FeatureStoreError(
                f"the entity frame is to be read from {str(given)!r}, which is no file",
                "give a DataFrame or the path of a Parquet file; there is no SQL here",
            )
        frame = pl.read_parquet(given)
    elif isinstance(given, pl.DataFrame):
        frame = given
    elif isinstance(given, pa.Table):
        frame = pl.DataFrame(given)
    else:
        frame = pl.from_pandas(given)
    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    if TIME not in frame.columns and len(times) != 1:
        raise FeatureStoreError(
            f"the entity frame has no column {TIME}", "name the time of each row event_timestamp, or have one time only"
        )
    at = TIME if TIME in frame.columns else times[0]
    return frame.with_columns(sources.stamp(at, frame.schema)), at


def _features(config: Any, view: Any, names: list[str], full_names: bool, known_at: bool) -> asof.Features:
    """field_mapping goes from the source's names to the view's; join_key_map from the view's keys to the frame's."""
    source = view.batch_source
    own = {name: column for column, name in source.field_mapping.items()}
    created = source.created_timestamp_column or None
    prefix = f"{view.projection.name_to_use()}__" if full_names else ""
    table = sources.stamped(sources.scan(source, config.repo_path), [source.timestamp_field, created])
    keys = {
        own.get(one.name, one.name): view.projection.join_key_map.get(one.name, one.name) for one in view.entity_columns
    }
    values = {own.get(name, name): f"{prefix}{name}" for name in names}
    lacking = ({*keys, *values} - set(table.collect_schema())) - {DUMMY_ENTITY_ID}
    if lacking:
        raise FeatureStoreError(
            f"the source of {view.name} has no column {', '.join(sorted(lacking))}",
            "compute the features again, or correct the view and apply it",
        )
    keys.pop(DUMMY_ENTITY_ID, None)
    return asof.Features(table, keys, source.timestamp_field, created, values, view.ttl, known_at)


def _everybody(config: Any, wanted: dict[Any, list[str]], start: datetime, end: datetime) -> pl.DataFrame:
    """Without an entity frame: every entity with a row between both dates, asked for at the end of them."""
    known: pl.DataFrame | None = None
    for view in wanted:
        source = view.batch_source
        own = {name: column for column, name in source.field_mapping.items()}
        names = [one.name for one in view.entity_columns if one.name != DUMMY_ENTITY_ID]
        table = sources.stamped(sources.scan(source, config.repo_path), [source.timestamp_field])
        rows = sources.between(table, source.timestamp_field, start, end)
        found = rows.select(pl.col(own.get(name, name)).alias(name) for name in names).unique()
        frame = found.collect(engine="streaming")
        shared = [] if known is None else [name for name in names if name in known.columns]
        if known is None:
            known = frame
        else:
            known = (
                known.join(frame, on=shared, how="full", coalesce=True) if shared else known.join(frame, how="cross")
            )
    assert known is not None
    at = pl.lit(end if end.tzinfo else end.replace(tzinfo=None), dtype=pl.Datetime("us", "UTC"))
    return known.with_columns(at.alias(TIME))


def _range(
    config: Any, source: Any, keys: list[str], stamps: list[str], start: datetime | None, end: datetime | None
) -> pl.LazyFrame:
    table = sources.scan(source, config.repo_path)
    names = set(table.collect_schema())
    if not set(keys) <= names:
        raise FeastJoinKeysDuringMaterialization(source.path, set(keys), names)
    return sources.between(sources.stamped(table, stamps), stamps[0], start, end)
