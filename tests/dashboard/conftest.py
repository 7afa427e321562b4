"""A lake of simulated people and of what production logged, and a running dashboard over it."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

DATA_SET = "simulated"
CHROMIUM = "/usr/bin/chromium"


def fill(home: Path, users: int = 250, requests: int = 400) -> None:
    """processed/, raw/quarantine and logs/ of the data set `simulated`, through the lake's own tables."""
    from slipway.lake.lake import Lake
    from slipway.workloads.movies.dataset import LAKE_EVENTS, scan_events
    from slipway.workloads.movies.ingest import IngestConfig, ingest
    from slipway.workloads.movies.simulator import TINY, simulate

    def silent(*_: object) -> None: ...

    config = TINY.model_copy(update={"users": users, "days": 120})
    simulate(home / "source", config, silent)
    with (home / "source" / "ratings.dat").open("a") as out:
        out.write("7::3::9::1262304000\n8::oops::3::1262304000\n" * 3)
    ingest(home / "source", home / "data", IngestConfig(), silent)
    lake = Lake((home / "objects").as_uri())
    clicks = (pl.col("user") + pl.col("item")) % 5 == 0
    events = (
        scan_events(home / "data")
        .with_columns(
            pl.when(clicks).then(pl.lit("click")).otherwise(pl.col("action").cast(pl.String)).alias("action"),
            pl.lit(None, pl.String).alias("event_id"),
            pl.lit(None, pl.String).alias("request_id"),
            pl.col("timestamp").dt.date().alias("date"),
        )
        .select(pl.col(name).cast(kind) for name, kind in LAKE_EVENTS.items())
        .collect()
    )
    lake.table("processed", DATA_SET, "events").append(events, partition_by=["date"])
    items = pl.read_parquet(home / "data" / "items.parquet")
    released = pl.datetime(pl.col("year"), 1, 1, time_unit="ms", time_zone="UTC")
    lake.table("processed", DATA_SET, "items").replace(items.with_columns(released.alias("released")))
    lake.table("processed", DATA_SET, "users").replace(pl.read_parquet(home / "data" / "users.parquet"))
    _quarantine(lake, home)
    _logs(lake, events, items, requests)
    _features(lake, events)


def _quarantine(lake, home):
    bad = pl.read_parquet(home / "data" / "quarantine.parquet")
    at = [datetime(2026, 11, 1, 9, tzinfo=UTC) + timedelta(days=int(n)) for n in range(3)]
    rows = pl.concat(
        bad.select(
            pl.lit(moment).dt.cast_time_unit("ms").alias("rejected_at"),
            pl.lit(source).alias("source"),
            "reason",
            "line",
            "text",
            pl.lit(place == 0).alias("repaired"),
            pl.lit(moment.date()).alias("day"),
        )
        for place, (moment, source) in enumerate(
            zip(at, ("files:ratings.dat", "files:ratings.dat", "stream:simulated.events"), strict=False)
        )
    )
    lake.table("raw", DATA_SET, "quarantine").append(rows, partition_by=["day"])


def _logs(lake, events, items, requests):
    """Ten items an answer; the upper ones are clicked more, and the second package is the better one."""
    rng = np.random.default_rng(0)
    films, people = items["item"].to_numpy(), events["user"].unique().sort().to_numpy()
    start = events["timestamp"].max() - timedelta(days=10)
    shown, said = [], []
    for n in range(requests):
        at = start + timedelta(minutes=36 * n * 400 / requests)
        chosen = rng.choice(films, 10, replace=False)
        user, canary = int(rng.choice(people)), n % 4 == 0
        shown.append(
            {
                "request_id": f"r{n}",
                "user": user,
                "timestamp": at,
                "items": chosen.tolist(),
                "scores": np.linspace(1, 0, 10).tolist(),
                "sources": ["counts" if place % 3 else "ranker" for place in range(10)],
                "propensities": [1.0] * 10,
                "model": "movies",
                "package": "bbbb" if canary else "aaaa",
                "revision": "movies-00002" if canary else "movies-00001",
                "fallback": "none" if n % 50 else "features",
                "milliseconds": float(rng.gamma(4, 0.4)),
                "date": at.date(),
            }
        )
        for place in range(10):
            if rng.random() < (0.3 if canary else 0.2) / (place + 1):
                when = at + timedelta(seconds=20 + place)
                said.append(
                    {
                        "event_id": f"e{n}-{place}",
                        "request_id": f"r{n}",
                        "user": user,
                        "item": int(chosen[place]),
                        "timestamp": when,
                        "action": "click",
                        "rating": None,
                        "date": when.date(),
                    }
                )
    numbers = pl.List(pl.Float32)
    exposures = pl.DataFrame(shown, schema_overrides={"scores": numbers, "propensities": numbers})
    feedback = pl.DataFrame(said, schema_overrides={"rating": pl.Float32})
    lake.table("logs", DATA_SET, "exposures").append(exposures, partition_by=["date"])
    lake.table("logs", DATA_SET, "feedback").append(feedback, partition_by=["date"])


def _features(lake, events):
    now = datetime(2026, 11, 1, tzinfo=UTC)
    rows = (
        events.group_by("user", "date")
        .agg(
            pl.len().cast(pl.Int64).alias("events_7d"),
            pl.col("rating").mean().cast(pl.Float32).alias("mean_rating_28d"),
        )
        .select(
            "user",
            (pl.col("date") + timedelta(days=1)).cast(pl.Datetime("us", "UTC")).alias("event_timestamp"),
            pl.lit(now).dt.cast_time_unit("us").alias("created_timestamp"),
            "events_7d",
            "mean_rating_28d",
        )
    )
    lake.table("features", DATA_SET, "user_statistics").replace(rows)


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A SLIPWAY_HOME whose lake holds a data set."""
    home = tmp_path_factory.mktemp("dashboard")
    fill(home)
    return home


@pytest.fixture(scope="session")
def start_dashboard(tmp_path_factory):
    """start(home) → the URL of `slipway dashboard` over it; all are stopped by SIGINT in the end, and must end well."""
    running = []

    def start(home):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        env = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
        env |= {"SLIPWAY_HOME": str(home), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        log = tmp_path_factory.mktemp("log") / "dashboard.log"
        command = [Path(sys.executable).with_name("slipway"), "dashboard", "--no-browser", "--port", str(port)]
        process = subprocess.Popen(command, env=env, stdout=log.open("w"), stderr=subprocess.STDOUT, cwd=home)
        running.append((process, log))
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.1)
        pytest.fail(f"the dashboard did not start:\n{log.read_text()}")

    yield start
    for process, log in running:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=240) == 130, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")  # its event loop runs until it is closed, and no other test's can meanwhile
def browser():
    """Headless Chromium; the tests are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install slipway[dev]"
    )
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
