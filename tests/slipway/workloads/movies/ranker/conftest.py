"""A data set with an order to learn: after item i comes mostly successor[i]."""

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from slipway.workloads.movies import dataset
from slipway.workloads.movies.dataset import EVENTS, ITEMS, DataSet
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import RankerConfig, TrainConfig

N_USERS, N_ITEMS, LENGTH = 60, 30, 25


@pytest.fixture(scope="session")
def chain_events() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    successor = rng.permutation(N_ITEMS)
    rows = []
    for user in range(N_USERS):
        item = int(rng.integers(N_ITEMS))
        for step in range(LENGTH):
            rows.append((user + 100, item + 1000, step * 1000 + user, len(rows) + 1))
            item = int(successor[item]) if rng.random() < 0.9 else int(rng.integers(N_ITEMS))
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp", "source_row"], orient="row")
    return frame.with_columns(
        pl.col("timestamp").cast(pl.Datetime("ms", "UTC")),
        pl.lit(1.0).alias("rating"),
        pl.lit("rating").alias("action"),
    ).select(pl.col(name).cast(kind) for name, kind in EVENTS.items())


@pytest.fixture(scope="session")
def chain(chain_events: pl.DataFrame) -> Interactions:
    return Interactions.from_events(chain_events)


@pytest.fixture(scope="session")
def chain_data(chain_events: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    (folder / "events").mkdir()
    chain_events.write_parquet(folder / "events" / "0.parquet")
    ids = list(range(1000, 1000 + N_ITEMS))
    rows = {"item": ids, "title": [f"Film {i}" for i in ids], "genres": [["Drama"]] * N_ITEMS, "year": [2000] * N_ITEMS}
    pl.DataFrame(rows, schema=ITEMS).write_parquet(folder / "items.parquet")
    described = DataSet(
        source="ml-1m",
        events=len(chain_events),
        users=N_USERS,
        items=N_ITEMS,
        quarantined={},
        timed=True,
        repeats=True,
        sha256="0" * 64,
    )
    (folder / "dataset.json").write_text(described.model_dump_json())
    assert dataset.read(folder) == described
    return folder


@pytest.fixture(scope="session")
def small() -> Callable[..., TrainConfig]:
    """A configuration that trains in a second; keywords replace what differs."""

    def make(**different: object) -> TrainConfig:
        ranker = {"dim": 16, "heads": 2, "max_len": 10, "dropout": 0.1} | dict(different.pop("ranker", {}))  # type: ignore[call-overload]
        plain = {"ranker": RankerConfig(**ranker), "epochs": 6, "tokens_per_step": 256, "learning_rate": 1e-2}
        return TrainConfig(**(plain | {"warmup_steps": 5} | different))

    return make


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 over HTTP with an empty bucket named `bucket`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="bucket")
        yield f"http://{host}:{port}"
    server.stop()
