"""How long until a click changes what its user is recommended? From the producer to the next answer, all real.

    python -m benchmarks.freshness --package <package folder of data that has a lake name>

A Redis of its own, the stream's consumer, the online store and the model server each run as they do on a laptop. A
user's best recommendation is clicked, and the endpoint is asked until it is gone from the answer. Between a click and
the next there is a pause, so that nothing is measured behind a queue. Writes docs/evidence/freshness.md.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from benchmarks.endpoint import EVIDENCE, Client, free_port, post, server
from slipway.workloads.movies.predictor import MoviesPredictor
from streaming import embedded
from streaming.producer import Publisher

LIMIT = 30.0  # seconds after which a click is thought lost
REPOSITORY = Path(__file__).parent.parent / "feature_repo"
REDIS_STORE = """project: slipway
provider: local
entity_key_serialization_version: 3
registry:
  registry_store_type: slipway.features.registry.HomeRegistryStore
  path: ""
online_store:
  type: slipway.features.redis.TimedRedisOnlineStore
  connection_string: 127.0.0.1:{port}
offline_store:
  type: slipway.features.offline_store.PolarsOfflineStore
"""


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """For the processes started within the block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def consumer(url: str, data_set: str) -> Iterator["subprocess.Popen[bytes]"]:
    code = "import sys; from streaming.application import follow; follow(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, url, data_set], cwd=REPOSITORY.parent)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def running(home: Path, package: Path, data_set: str, store: str) -> Iterator[tuple[int, str]]:
    """(port of the model server, URL of the stream); store: sqlite or redis."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    settings = {"SLIPWAY_HOME": str(home), "SLIPWAY_EVENTS_URL": url, "SLIPWAY_DATA_SET": data_set}
    if store == "redis":
        path = home / "feature_store.yaml"
        home.mkdir(parents=True, exist_ok=True)
        path.write_text(REDIS_STORE.format(port=port))
        settings |= {"FEAST_FS_YAML_FILE_PATH": str(path), "SLIPWAY_FEATURE_STORE": str(REPOSITORY)}
    with ExitStack() as stack:
        stack.enter_context(environment(**settings))
        stack.enter_context(embedded.redis(home, port))
        process = stack.enter_context(consumer(url, data_set))
        registry = home / "feast" / data_set / "registry.db"
        until = time.monotonic() + 120
        while not registry.exists() or (store == "sqlite" and not registry.with_name("online.db").exists()):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the consumer did not start: {process.poll()}")
            time.sleep(0.1)
        http_port, _ = stack.enter_context(server(package))
        yield http_port, url


def ask(client: Client, user: int) -> tuple[list[int], dict[str, str]]:
    """(items, the answer's notes)."""
    body = {"inputs": [{"name": "user_id", "shape": [1], "datatype": "INT64", "data": [user]}]}
    reply = orjson.loads(client.send(post("localhost", "/v2/models/movies/infer", orjson.dumps(body))))
    items = next(output["data"] for output in reply["outputs"] if output["name"] == "item_id")
    return items, reply["parameters"]


def clicks(port: int, url: str, data_set: str, users: list[int], after: int) -> list[float]:
    """Seconds from each user's click on their best recommendation to the first answer without it. after: ms."""
    client, seconds = Client("127.0.0.1", port), []
    with Publisher(url, data_set) as publisher:
        for number, user in enumerate(users):
            (best, *_), notes = ask(client, user)
            if notes["features"] != "online":
                raise SystemExit(f"the server does not read online features: {notes}")
            event = {
                "event_id": str(uuid.uuid4()),
                "user": user,
                "item": best,
                "timestamp": after + 1000 * (number + 1),
            }
            began = time.perf_counter()
            publisher.publish("events", [{**event, "action": "click", "rating": None}])
            while best in ask(client, user)[0]:
                if time.perf_counter() - began > LIMIT:
                    raise SystemExit(f"user {user}'s click on {best} was not seen within {LIMIT:.0f} s")
                time.sleep(0.002)
            seconds.append(time.perf_counter() - began)
            time.sleep(random.uniform(0, 0.3))
    return seconds


def measure(home: Path, package: Path, count: int, store: str) -> list[float]:
    opened = MoviesPredictor.open(package)
    if opened.data_set is None or opened.recent.until is None:
        raise SystemExit(
            f"{package} knows no data set of the lake, or no times: train on simulated data or on the lake"
        )
    users = opened.histories.users[:count].tolist()
    with running(home, package, opened.data_set, store) as (port, url):
        return clicks(port, url, opened.data_set, users, opened.recent.until)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--clicks", type=int, default=200)
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    rows = []
    for store in ("sqlite", "redis"):
        with tempfile.TemporaryDirectory() as folder:
            seconds = np.array(measure(Path(folder), options.package, options.clicks, store))
        quantiles = " | ".join(f"{q:.2f}" for q in np.quantile(seconds, [0.5, 0.9, 0.99, 1]))
        rows.append(f"| {store} | {len(seconds)} | {quantiles} | {(seconds > 1).sum()} |")
    table = "\n".join(rows)
    text = f"""# From a click to another recommendation

`python -m benchmarks.freshness --package <folder> --clicks {options.clicks}`, {datetime.now(UTC).date()},
{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; Redis, the consumer, the model server
and the client on this one machine. The aim is one second.

| online store | clicks | p50 s | p90 s | p99 s | worst s | above 1 s |
|---|---|---|---|---|---|---|
{table}

A click passes the stream (Redis, written to disk before it is acknowledged), waits for its micro-batch (up to 100 ms),
is cleaned, is committed to the lake and then written to the online store; the server reads the store on every request.
"""
    (options.out / "freshness.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
