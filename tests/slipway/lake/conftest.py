"""A lake in a folder whose name has a space, and the same on S3 over HTTP (moto's server)."""

import contextlib
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta

import boto3
import polars as pl
import pytest

from slipway.lake.lake import Lake
from slipway.workloads.movies.dataset import LAKE_EVENTS


@pytest.fixture(scope="session")
def s3_endpoint():
    """In a process of its own: delta-rs holds the interpreter's lock while it waits for some of its answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None, "moto's server ended"
            time.sleep(0.1)
        else:
            pytest.fail("moto's server does not answer")
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture(params=["file", "s3"])
def lake(request, tmp_path, monkeypatch):
    if request.param == "file":
        return Lake((tmp_path / "a store").as_uri())
    endpoint = request.getfixturevalue("s3_endpoint")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{tmp_path.name.replace('_', '-').lower()}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return Lake(f"s3://{bucket}/lake", endpoint)


@pytest.fixture
def folder_lake(tmp_path):
    return Lake((tmp_path / "a store").as_uri())


@pytest.fixture(scope="session")
def events():
    """events(n, day=0, first=0) → LAKE_EVENTS: n events of that day of 2001, ids from `first` on, a second apart."""

    def make(n: int, day: int = 0, first: int = 0) -> pl.DataFrame:
        on = date(2001, 1, 1) + timedelta(days=day)
        begin = datetime(on.year, on.month, on.day, tzinfo=UTC)
        return pl.DataFrame(
            {
                "user": [i % 7 for i in range(n)],
                "item": [i % 5 for i in range(n)],
                "timestamp": [begin + timedelta(seconds=i) for i in range(n)],
                "rating": [None] * n,
                "action": ["click"] * n,
                "source_row": [None] * n,
                "event_id": [f"{day}-{first + i}" for i in range(n)],
                "request_id": [None] * n,
                "date": [on] * n,
            },
            schema=LAKE_EVENTS,
        )

    return make
