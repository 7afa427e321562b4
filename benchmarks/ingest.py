"""How fast are ratings ingested, and does the memory grow with their number?

    python -m benchmarks.ingest                          # 1M, 5M and 25M rows; writes docs/evidence/ingest.{md,json}
    python -m benchmarks.ingest --rows 1_000_000         # one size, printed only

Files of the formats of MovieLens 1M (`::`) and 25M (CSV) are generated in a temporary folder: uniform random ratings
of a user after another, which is the least friendly case for compression and sorting (the times are in no order).
Each ingestion runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from slipway.workloads.movies.simulator import SimulatorConfig, simulate

SIZES = (1_000_000, 5_000_000, 25_000_000)
EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
PER_USER = 150  # ratings, about what MovieLens 25M has
ITEMS = 20_000
CHUNK = 500_000  # rows generated at once


def ratings(rows: int, seed: int = 0) -> Iterator[pl.DataFrame]:
    """user, item, rating, seconds: no user rates an item twice."""
    random = np.random.default_rng(seed)
    for first in range(0, rows, CHUNK):
        number = np.arange(first, min(first + CHUNK, rows))
        place = number % PER_USER
        users = number // PER_USER + 1
        # An item per place out of the place's own stretch of the catalogue: random, and distinct within a user.
        stretch = ITEMS // PER_USER
        yield pl.DataFrame(
            {
                "user": users,
                "item": place * stretch + random.integers(0, stretch, len(number)) + 1,
                "rating": random.integers(1, 6, len(number)),
                "seconds": random.integers(956_703_932, 1_574_327_703, len(number)),
            }
        )


def write_ml1m(folder: Path, rows: int, bad: bool = False) -> None:
    """bad: a line that is no rating after every 5,000, so that no block passes unjudged."""
    nothing = pl.lit(None, dtype=pl.String)  # between two colons
    with (folder / "ratings.dat").open("wb") as stream:
        for frame in ratings(rows):
            columns = [pl.col("user"), nothing.alias("a"), "item", nothing.alias("b"), "rating", nothing.alias("c")]
            for part in frame.iter_slices(5_000 if bad else CHUNK):
                part.select(*columns, "seconds").write_csv(stream, separator=":", include_header=False)
                stream.write(b"not a rating\n" if bad else b"")
    with (folder / "movies.dat").open("w") as stream:
        stream.writelines(f"{item}::Movie {item} (1999)::Drama|War\n" for item in range(1, ITEMS + 1))
    with (folder / "users.dat").open("w") as stream:
        stream.writelines(f"{user}::F::25::1::12345\n" for user in range(1, -(-rows // PER_USER) + 1))


def write_csv(folder: Path, rows: int) -> None:
    with (folder / "ratings.csv").open("wb") as stream:
        stream.write(b"userId,movieId,rating,timestamp\n")
        for frame in ratings(rows):
            frame.with_columns(pl.col("rating").cast(pl.Float64) - 0.5).write_csv(stream, include_header=False)
    with (folder / "movies.csv").open("w") as stream:
        stream.write("movieId,title,genres\n")
        stream.writelines(f'{item},"Movie, The {item} (1999)",Drama|War\n' for item in range(1, ITEMS + 1))


def write_simulated(folder: Path, rows: int) -> None:
    """The simulator's users, 71 ratings each: sessions in time, films with a long tail."""
    simulate(folder, SimulatorConfig(users=rows // 71), lambda *_: None)


def measure(source: Path, out: Path) -> dict[str, float]:
    """In the child: ingest and say what it cost. The imports' share is reported apart, as it is paid once."""
    from slipway.workloads.movies.ingest import IngestConfig, ingest

    begun, cpu = time.perf_counter(), time.process_time()
    data = ingest(source, out, IngestConfig(), lambda *_: None)
    return {
        "events": data.events,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "import_cpu_seconds": cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "out_mib": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**20,
    }


def run(rows: int, form: str) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "source")
        source.mkdir()
        if form == "ml-csv":
            write_csv(source, rows)
        elif form == "simulated":
            write_simulated(source, rows)
        else:
            write_ml1m(source, rows, bad=form.endswith("bad lines"))
        events = source / ("ratings.csv" if form == "ml-csv" else "ratings.dat")
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.ingest", "--measure", str(source), str(Path(name, "out"))],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        measured = json.loads(child.stdout)
        rows = measured["events"] if form == "simulated" else rows
        return {"format": form, "rows": rows, "source_mib": events.stat().st_size / 2**20, **measured}


def table(results: list[dict[str, float | str]]) -> str:
    lines = [
        "| format | rows | source MiB | seconds | rows/s | CPU-s | rows/CPU-s | peak MiB | data set MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        rows, wall, cpu = float(r["rows"]), float(r["seconds"]), float(r["cpu_seconds"])
        lines.append(
            f"| {r['format']} | {rows:,.0f} | {float(r['source_mib']):,.0f} | {wall:.2f} | {rows / wall / 1e6:.2f}M "
            f"| {cpu:.2f} | {rows / cpu / 1e6:.2f}M | {float(r['peak_mib']):,.0f} | {float(r['out_mib']):,.0f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, float | str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "polars": pl.__version__,
        "numpy": np.__version__,
    }


def report(about: dict[str, float | str], results: list[dict[str, float | str]]) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    return (
        "# Ingestion: rows per second and peak memory\n\n"
        f"`python -m benchmarks.ingest`; {facts}.\n\n{table(results)}\n\n"
        "Generated ratings in the files of MovieLens 1M (`::`) and 25M (CSV), 150 a user, their times in no order. "
        "*Bad lines*: one in 5,000 is no rating, so every block is judged line by line. *Simulated*: the simulator's "
        "own ratings, in the files of MovieLens 1M. Seconds are those of `ingest` "
        "in a fresh process, from the first byte read to the renamed data set; the imports are not in them. Where the "
        "load before is above the number of cores, seconds and rows/s say how busy the machine was with other work, "
        "and only CPU-s what ingestion cost. Peak MiB is the whole process's resident memory; what grows in it is the "
        "users file, which is held whole (one user per 150 rows).\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="one size, printed and not written to the evidence")
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    about = machine()
    sizes = (arguments.rows,) if arguments.rows else SIZES
    results: list[dict[str, float | str]] = []
    for form in ("ml-1m", "ml-csv", "ml-1m, bad lines", "simulated"):
        for rows in sizes:
            results.append(run(rows, form))
            print(table(results[-1:]).splitlines()[-1], flush=True)
    if arguments.rows:
        return
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    (EVIDENCE / "ingest.json").write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n")
    (EVIDENCE / "ingest.md").write_text(report(about, results))


if __name__ == "__main__":
    main()
