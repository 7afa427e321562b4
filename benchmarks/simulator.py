"""How fast and in how much memory the simulator writes worlds of growing size.

    python -m benchmarks.simulator --users 1_000_000     # writes docs/evidence/simulator.{md,json}

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000, help="the largest size")
    parser.add_argument("--sessions", type=float, default=None, help="mean sessions of a user; default: the demo's")
    arguments = parser.parse_args()
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
        f"load average {facts['load_average']:.1f} (other work ran on the machine: read CPU seconds, not wall time).",
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
