"""How fast and in how much memory the simulator writes worlds of growing size.

    python -m benchmarks.simulator --users 1_000_000     # writes docs/evidence/simulator.{md,json}
    python -m benchmarks.simulator --describe            # prints the figures of docs/simulator.md's table

Each size runs in a fresh process on one thread, so its peak memory is its own. The files go to a temporary folder.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from slipway.workloads.movies.simulator import DEFAULT
from slipway.workloads.movies.simulator.rollout import live
from slipway.workloads.movies.simulator.world import World

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
SIZES = (2_500, 20_000, 100_000, 1_000_000)

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from slipway.workloads.movies.simulator import SimulatorConfig, simulate
config = SimulatorConfig.model_validate_json(sys.argv[2])
seen, wall, cpu = {}, time.perf_counter(), time.process_time()
simulate(Path(sys.argv[1]), config, lambda what, share, metrics: seen.update(metrics))
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
size = sum(p.stat().st_size for p in Path(sys.argv[1]).iterdir())
print(json.dumps({"users": config.users, "ratings": int(seen["ratings"]), "cpu_seconds": cpu, "wall_seconds": wall,
                  "peak_mb": peak, "file_mb": size / 1e6}))
"""


def measure(users: int, sessions: float | None) -> dict[str, float]:
    config = {"users": users} | ({} if sessions is None else {"sessions": sessions})
    threads = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, f"{folder}/world", json.dumps(config)],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | threads,
        )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def describe() -> None:
    """The default world, from its one block of users."""
    config = DEFAULT.model_copy(update={"clicks": True})
    world = World.build(config)
    lived = live(world, config, 0)
    films = np.sort(np.bincount(lived.film, minlength=config.items + 1)[1:])[::-1]
    per_user = np.bincount(lived.user)[1:]
    n, people = len(lived.user), lived.people
    gaps = np.diff(lived.times)[np.diff(lived.user) == 0]
    new = world.release[world.shelf, world.place] > 0
    train, test = (lived.times < np.quantile(lived.times, 0.85)), (lived.times >= np.quantile(lived.times, 0.9))
    warm = np.unique(lived.user[train])
    facts = {
        "ratings": n,
        "films chosen": int((films > 0).sum()),
        "ratings per user: mean, 10 %, 50 %, 90 %, most": [
            per_user.mean(),
            *np.percentile(per_user, [10, 50, 90, 100]),
        ],
        "sessions per user": len(people.length) / config.users,
        "films per session: mean, median": [people.length.mean(), np.median(people.length)],
        "seconds between films, median": np.median(gaps[gaps < 3_600]),
        "share of the first 1 %, the first 10 %, the last 50 % of films": [
            films[: config.items // 100].sum() / n,
            films[: config.items // 10].sum() / n,
            films[config.items // 2 :].sum() / n,
        ],
        "shares of ratings 1 to 5": np.bincount(lived.rating, minlength=6)[1:] / n,
        "mean rating": lived.rating.mean(),
        "share of new films, and of ratings of them": [new[1:].mean(), new[lived.film].mean()],
        "share of test answers that never occur in training": (~np.isin(lived.film[test], lived.film[train])).mean(),
        "share of users without training events": 1 - len(warm) / config.users,
        "share of test cases of such users": (~np.isin(lived.user[test], warm)).mean(),
        "clicks by slot": np.bincount(lived.slot)[1:] / n,
    }
    for name, value in facts.items():
        print(f"{name:65} {np.array2string(np.asarray(value), precision=3)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000, help="the largest size")
    parser.add_argument("--sessions", type=float, default=None, help="mean sessions of a user; default: the demo's")
    parser.add_argument("--describe", action="store_true", help="print what the default world is like, and stop")
    arguments = parser.parse_args()
    if arguments.describe:
        describe()
        return
    sizes = sorted({*(s for s in SIZES if s < arguments.users), arguments.users})
    rows = []
    for users in sizes:
        rows.append(measure(users, arguments.sessions))
        print(rows[-1], file=sys.stderr)

    command = f"python -m benchmarks.simulator --users {arguments.users}"
    if arguments.sessions is not None:
        command += f" --sessions {arguments.sessions:g}"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    facts = {
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "load_average": os.getloadavg()[0],
        "rows": rows,
    }
    lines = [
        "# The simulator: speed and memory",
        "",
        f"`{command}`, {facts['date']}, {machine}; one process and one thread per line, "
        f"load average {facts['load_average']:.1f} (above 1, other work ran too: read CPU seconds, not wall time).",
        "",
        "| users | ratings | ratings per CPU-second | CPU s | wall s | peak memory MB | files MB |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['users']:,} | {r['ratings']:,} | {r['ratings'] / r['cpu_seconds']:,.0f} | {r['cpu_seconds']:.1f} "
        f"| {r['wall_seconds']:.1f} | {r['peak_mb']:.0f} | {r['file_mb']:,.0f} |"
        for r in rows
    ]
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    (EVIDENCE / "simulator.md").write_text("\n".join(lines) + "\n")
    (EVIDENCE / "simulator.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
