"""How many users a second does `slipway batch` recommend to, beside asking the predictor in a loop?

    python -m benchmarks.batch --package <package folder>        # writes docs/evidence/batch.md

Three ways over the same users in the same run: the predictor asked one user at a time with its answers thrown away,
the parts written by one process, and the parts written by Ray's workers. Starting Ray is shown apart, because it is
paid once however many users there are. All three take turns, so that what else the machine does falls on all alike.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from slipway.cluster import cluster
from slipway.package import Package
from slipway.workloads.movies import batch
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.predictor import MoviesPredictor

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence" / "batch.md"
K = 10


def loop(package: Package) -> Callable[[IntArray], None]:
    predictor = MoviesPredictor.open(package.folder)

    def ask(users: IntArray) -> None:
        k = np.array([K])
        for at in range(len(users)):
            predictor.predict({"user_id": users[at : at + 1], "k": k})

    return ask


def parts(package: Package, workers: int, part_users: int) -> Callable[[IntArray], None]:
    def write(users: IntArray) -> None:
        out = Path(tempfile.mkdtemp(prefix="slipway-batch-"))
        try:
            batch.recommend(package, users, out.as_uri(), K, lambda *_: None, workers, part_users)
        finally:
            shutil.rmtree(out)

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, required=True, help="a package of the workload movies")
    parser.add_argument("--users", type=int, default=6000, help="drawn with replacement from the package's own")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    options = parser.parse_args()
    package = Package.open(options.package)
    workers = os.cpu_count() or 1
    users = np.sort(np.random.default_rng(0).choice(batch.read_users(package, None), options.users))
    part_users = max(options.users // (4 * workers), 1)
    load = os.getloadavg()[0]
    begun = time.perf_counter()
    with cluster(workers):
        started = time.perf_counter() - begun
        ways = {
            "the predictor in a loop, nothing written": loop(package),
            "one process (`--workers 0`)": parts(package, 0, part_users),
            f"Ray, {workers} workers (`--workers {workers}`)": parts(package, workers, part_users),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.turns):
            for name, way in ways.items():
                begun = time.perf_counter()
                way(users)
                seconds[name].append(time.perf_counter() - begun)
        held = sorted(
            p.memory_info().rss for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::")
        )
    best = {name: min(found) for name, found in seconds.items()}
    plain = next(iter(best.values()))
    lines = [
        "# Recommendations for everybody",
        "",
        f"`python -m benchmarks.batch --package <folder> --users {options.users} --turns {options.turns}`; "
        f"{datetime.now(UTC):%Y-%m-%d}, {workers} cores {platform.machine()}, Python {platform.python_version()}, "
        f"load before {load:.1f}.",
        f"Package {package.version}: {len(np.load(package.path('popularity.npy'))) - 1:,} items; {options.users:,} "
        f"users, top {K}, parts of {part_users:,}; the best of {options.turns} turns each.",
        "",
        "| | s | users/s | of the loop's rate |",
        "|---|---|---|---|",
        *(f"| {n} | {s:.1f} | {options.users / s:,.0f} | {plain / s:.2f} |" for n, s in best.items()),
        "",
        f"Starting Ray took {started:.1f} s and is not in its row; loading the package in each worker is. So "
        f"`slipway batch` answers up to {batch.ALONE:,} users in its own process.",
        *([f"The largest worker held {held[-1] / 1e6:,.0f} MB afterwards."] if held else []),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
