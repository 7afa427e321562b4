"""The same questions to this store and to Feast's own file store (dask): the answers are equal, but for its faults."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slipway.errors import DataQualityError, FeatureStoreError, StorageError
from slipway.features import asof, lean
from slipway.lake.table import Table
from slipway.workloads.movies.features import leak

feast = lean.feast()
T0 = datetime(2024, 1, 1, tzinfo=UTC)


def days(*numbers):
    return [T0 + timedelta(days=number) for number in numbers]


# user, event day, created day, value: planted are a future row (day 9), two rows of one instant of which the later
# created is not the last in the file, an expired one (user 3), and a user who is nowhere asked for.
ROWS = [
    (1, 0, 0, 10.0),
    (1, 2, 5, 21.0),
    (1, 2, 3, 20.0),
    (1, 9, 9, 90.0),
    (2, 1, 1, None),
    (2, 3, 3, 33.0),
    (3, -40, -40, 1.0),
    (8, 0, 0, 80.0),
]
# user, day: equal instants, before anything, between, after the TTL, nobody.
ASKED = [(1, 0), (1, 1), (1, 2), (1, 8), (2, 0), (2, 2), (2, 3), (2, 12), (2, 14), (3, 0), (7, 3), (1, 2)]
TTL = timedelta(days=10)


@pytest.fixture(scope="module")
def rows():
    users, events, created, values = zip(*ROWS, strict=True)
    return pl.DataFrame(
        {
            "user": users,
            "event_timestamp": days(*events),
            "created_timestamp": days(*created),
            "raw_value": values,
            "items": [[user, user + 1] for user in users],
        }
    ).with_columns(pl.col("event_timestamp", "created_timestamp").cast(pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def asked():
    users, at = zip(*ASKED, strict=True)
    return pd.DataFrame({"user": users, "event_timestamp": pd.to_datetime(days(*at)), "note": range(len(at))})


@pytest.fixture(scope="module")
def stores(rows, tmp_path_factory):
    """name of an offline store → a FeatureStore with the same definitions over the same Parquet file."""
    from feast.repo_config import RepoConfig
    from feast.types import Array, Float64, Int64
    from feast.value_type import ValueType

    root = tmp_path_factory.mktemp("stores")
    rows.write_parquet(root / "rows.parquet")
    source = feast.FileSource(
        name="rows",
        path=str(root / "rows.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        field_mapping={"raw_value": "value"},
    )
    user = feast.Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    fields = [feast.Field(name="value", dtype=Float64), feast.Field(name="items", dtype=Array(Int64))]
    views = [
        feast.FeatureView(name="mortal", entities=[user], schema=fields, source=source, ttl=TTL),
        feast.FeatureView(name="immortal", entities=[user], schema=fields, source=source, ttl=timedelta(0)),
    ]

    def open_(name, kind, **options):
        config = RepoConfig(
            project="tests",
            provider="local",
            registry=str(root / f"{name}.db"),
            online_store={"type": "sqlite", "path": str(root / "online.db")},
            offline_store={"type": kind, **options},
            entity_key_serialization_version=3,
        )
        store = feast.FeatureStore(config=config)
        store.apply([user, *views])
        return store

    ours = "slipway.features.offline_store.PolarsOfflineStore"
    return {"dask": open_("dask", "dask"), "ours": open_("ours", ours), "parts": open_("parts", ours, rows=2)}


REFS = ["mortal:value", "mortal:items", "immortal:value"]


def ask(store, entities, refs=REFS, **how):
    how = {"full_feature_names": True, **how}
    frame = store.get_historical_features(entity_df=entities, features=refs, **how).to_df()
    return frame.sort_values("note").reset_index(drop=True)


def test_the_join_is_that_of_the_stock_store_where_that_one_is_right(stores, asked):
    ours = ask(stores["ours"], asked)
    assert len(ours) == len(asked)
    nan = np.nan
    expected = [10, 10, 21, 21, nan, nan, 33, 33, nan, nan, nan, 21]  # equal instants count, and the TTL's last one
    assert np.array_equal(ours["mortal__value"], expected, equal_nan=True)
    expected = [10, 10, 21, 21, nan, nan, 33, 33, 33, 1, nan, 21]
    assert np.array_equal(ours["immortal__value"], expected, equal_nan=True)
    assert list(ours["mortal__items"][0]) == [1, 2]

    pd.testing.assert_frame_equal(ask(stores["parts"], asked), ours)  # read in four parts
    stock = ask(stores["dask"], asked)
    both = ours[ours["note"].isin(stock["note"])].reset_index(drop=True)
    # It drops who has features, but none that count (4, 8, 9: in the future, expired), and one of two equal questions.
    lost = set(ours["note"]) - set(stock["note"])
    assert lost - {2, 11} == {4, 8, 9}
    assert len(lost) == 4
    pd.testing.assert_frame_equal(both[stock.columns], stock, check_dtype=False)


def test_any_form_of_the_entity_frame_gives_the_same_and_a_strange_one_says_what_is_wrong(stores, asked, tmp_path):
    store, ours = stores["ours"], ask(stores["ours"], asked)
    frame = pl.from_pandas(asked)
    frame.write_parquet(tmp_path / "asked.parquet")
    naive = asked.assign(
        event_timestamp=asked["event_timestamp"].dt.tz_localize(None), user=asked["user"].astype("int32")
    )
    for form in (str(tmp_path / "asked.parquet"), naive, naive.rename(columns={"event_timestamp": "when"})):
        pd.testing.assert_series_equal(ask(store, form)["mortal__value"], ours["mortal__value"])
    short = ask(store, asked, ["mortal:value"], full_feature_names=False)
    assert list(short.columns) == ["user", "event_timestamp", "note", "value"]
    for form, message in (
        ("select * from x", "is no file"),
        (asked.drop(columns="user"), "no column user"),
        (asked.drop(columns="event_timestamp"), "no column event_timestamp"),
    ):
        with pytest.raises(FeatureStoreError, match=message):
            ask(store, form)


def test_what_was_not_yet_created_can_be_left_out_as_in_the_stock_store(stores, asked):
    how = {"filter_by_created_timestamp": True}
    ours, stock = (ask(stores[name], asked, ["immortal:value"], **how) for name in ("ours", "dask"))
    assert ours["immortal__value"][2] == 10  # day 2: both rows of that instant were created later
    both = ours[ours["note"].isin(stock["note"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(both[stock.columns], stock, check_dtype=False)


def test_the_newest_row_per_entity_is_materialised(stores):
    for start, end in ((-50, 20), (0, 3), (2, 2)):
        found = []
        for name in ("ours", "dask"):
            store = stores[name]
            job = store._get_provider().offline_store.pull_latest_from_table_or_query(
                config=store.config,
                data_source=store.get_feature_view("mortal").batch_source,
                join_key_columns=["user"],
                feature_name_columns=["raw_value", "items"],
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
                start_date=days(start)[0],
                end_date=days(end)[0],
            )
            found.append(job.to_df().sort_values("user").reset_index(drop=True))
        ours, stock = found
        assert set(ours["user"]) == set(stock["user"])
        # Of two rows of one instant dask takes either: it sorts by creation, and then by time without stability.
        same = ours["user"] != 1
        pd.testing.assert_frame_equal(ours[same], stock[same][ours.columns], check_dtype=False)
        assert ours[~same]["raw_value"].tolist() == [{20: 90.0, 3: 21.0, 2: 21.0}[end]]


def test_a_result_is_persisted_in_parts_and_rows_are_written_to_a_delta_source(stores, asked, tmp_path):
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    job = stores["parts"].get_historical_features(entity_df=asked, features=REFS, full_feature_names=True)
    job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))
    saved = pd.read_parquet(tmp_path / "saved.parquet").reset_index(drop=True)
    pd.testing.assert_frame_equal(saved[["mortal__value"]], ask(stores["ours"], asked)[["mortal__value"]])
    with pytest.raises(Exception, match="already exists"):
        job.persist(SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet")))


@pytest.mark.slow
def test_a_delta_table_and_parquet_files_on_s3_are_read_and_written(stores, rows, asked, monkeypatch):
    import boto3
    from feast.data_format import DeltaFormat
    from feast.infra.offline_stores.file_source import FileSource
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="lake")
        Table("s3://lake/rows", endpoint).append(rows)
        sink = io.BytesIO()
        rows.write_parquet(sink)
        client.put_object(Bucket="lake", Key="files/rows.parquet", Body=sink.getvalue())
        store = stores["ours"]
        view = store.get_feature_view("mortal")
        for path, kind in (("s3://lake/rows", DeltaFormat()), ("s3://lake/files", None)):
            view.batch_source = FileSource(
                name="far",
                path=path,
                file_format=kind,
                s3_endpoint_override=endpoint,
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
                field_mapping={"raw_value": "value"},
            )
            job = type(store._get_provider().offline_store).get_historical_features(
                store.config, [view], ["mortal:value"], asked, store.registry, "tests", True
            )
            expected = ask(store, asked, ["mortal:value"])["mortal__value"]
            pd.testing.assert_series_equal(job.to_df()["mortal__value"], expected)
            written = rows.head(1).with_columns(pl.lit(55.0).alias("raw_value"), pl.col("event_timestamp") + TTL)
            if kind:
                store._get_provider().offline_store.offline_write_batch(store.config, view, written.to_arrow(), None)
                assert Table(path, endpoint).scan().filter(raw_value=55.0).collect().height == 1
            else:
                with pytest.raises(FeatureStoreError, match="use a Delta table"):
                    store._get_provider().offline_store.offline_write_batch(
                        store.config, view, written.to_arrow(), None
                    )
    finally:
        server.stop()


def test_large_random_tables_agree_with_a_join_by_hand():
    random = np.random.default_rng(0)
    made = {
        "user": random.integers(0, 50, 4000),
        "at": random.integers(0, 500, 4000),
        "made": random.integers(0, 50, 4000),
        "value": np.arange(4000),
    }
    stamp = pl.Datetime("us", "UTC")
    table = (
        pl.DataFrame(made).unique(["user", "at", "made"], keep="last").with_columns(pl.col("at", "made").cast(stamp))
    )
    asked = pl.DataFrame({"who": random.integers(0, 60, 700), "when": random.integers(0, 600, 700)})
    asked = asked.with_columns(pl.col("when").cast(stamp))
    ttl = timedelta(microseconds=30)
    features = asof.Features(table.lazy(), {"user": "who"}, "at", "made", {"value": "value"}, ttl)
    found = asof.join(asked, "when", features, rows=1000)["value"].to_list()
    for (who, when), value in zip(asked.iter_rows(), found, strict=True):
        seen = table.filter(pl.col("user") == who, pl.col("at") <= when, pl.col("at") >= when - ttl).sort("at", "made")
        assert value == (seen["value"][-1] if seen.height else None)


def test_a_planted_leak_is_caught_and_asking_a_moment_earlier_is_none(rows, tmp_path):
    """Statistics stamped with their own event, asked for at the time of that event: each label is in its features."""
    table = Table((tmp_path / "statistics").as_uri())
    seen = pl.col("event_timestamp").dt.epoch("ms").alias("last_event")
    table.append(rows.filter(pl.col("created_timestamp") == pl.col("event_timestamp")).with_columns(seen).drop("items"))
    labels = table.scan().select("user", "event_timestamp").collect()
    features = asof.Features(
        table.scan(), {"user": "user"}, "event_timestamp", "created_timestamp", {"last_event": "last_event"}, None
    )

    def joined(asking):
        return labels.with_columns(asof.join(asking, "event_timestamp", features, rows=100))

    assert leak.share(joined(labels)) == 1.0
    with pytest.raises(DataQualityError, match="strictly_before"):
        leak.check(joined(labels))
    strict = joined(asof.strictly_before(labels))
    assert leak.share(strict) == 0.0
    assert strict["last_event"].null_count() < len(strict)
    leak.check(strict)
    histories = strict.with_columns(pl.concat_list(pl.col("event_timestamp").dt.epoch("ms")).alias("times"))
    assert leak.share(histories, seen="times") == 1.0
    with pytest.raises(StorageError, match="there is no table"):
        Table((tmp_path / "absent").as_uri()).scan()
