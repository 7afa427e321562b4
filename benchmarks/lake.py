"""How fast do source files become clean, checked events in the lake, against pandas and DuckDB on the same work?

    python -m benchmarks.lake                          # 1M and 10M simulated rows; writes docs/evidence/lake.{md,json}
    python -m benchmarks.lake --rows 100_000_000       # one size; printed, and added to the evidence with --write

The same work: parse `ratings.dat` (`user::item::rating::seconds`), refuse what cannot be true (a number that is none, a
rating outside 1..5, a time before 1995 or in the future, an unknown film), keep the first of each (user, film), write
Parquet partitioned by date. Slipway also keeps the source by content, rejects with line and reason, commits all of it
at once, and (in a column of its own) reads it back through the suites of slipway.validation. Each runs alone in a
fresh process that is bound to one core, with one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.ingest import EVIDENCE, machine, write_simulated

SIZES = (1_000_000, 10_000_000)
PEERS = ("slipway", "duckdb", "pandas")
PANDAS_LIMIT = 25_000_000  # rows: it holds them all, several times
EARLIEST = 788_918_400  # 1995-01-01 in seconds
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def slipway(source: Path, out: Path) -> dict[str, float]:
    """Land the files, then check what is in the lake."""
    from slipway.lake.lake import Lake
    from slipway.validation import tables  # noqa: F401 - imports are not in the times
    from slipway.workloads.movies import logsuites, suites  # noqa: F401
    from slipway.workloads.movies.checking import check
    from slipway.workloads.movies.intake import IngestConfig
    from slipway.workloads.movies.landing import land

    lake = Lake((out / "lake").as_uri())
    begun, cpu = time.perf_counter(), time.process_time()
    landed = land(source, lake, "bench", IngestConfig(), lambda *_: None)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    begun, cpu = time.perf_counter(), time.process_time()
    reports = check(lake, "bench", lambda *_: None)
    for report in reports:
        report.raise_if_failed()
    return {
        "rows": landed.events,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "check_seconds": time.perf_counter() - begun,
        "check_cpu_seconds": time.process_time() - cpu,
        "files": lake.table("processed", "bench", "events").files().height,
    }


def pandas(source: Path, out: Path) -> dict[str, float]:
    import numpy as np
    import pandas as pd

    begun, cpu = time.perf_counter(), time.process_time()
    names = ["user", "a", "item", "b", "rating", "c", "seconds"]
    frame = pd.read_csv(source / "ratings.dat", sep=":", header=None, names=names, usecols=names[::2])
    films = pd.read_csv(source / "movies.dat", sep=":", header=None, usecols=[0], encoding="iso-8859-1")[0]
    good = (
        frame["rating"].between(1, 5)
        & frame["seconds"].between(EARLIEST, time.time() + 86_400)
        & np.isin(frame["item"], films)
    )
    frame = frame[good].drop_duplicates(["user", "item"])
    frame["timestamp"] = pd.to_datetime(frame["seconds"], unit="s", utc=True)
    frame["date"] = frame["timestamp"].dt.date
    frame["rating"] = frame["rating"].astype("float32")
    frame = frame.sort_values("seconds", kind="stable").drop(columns="seconds")
    frame.to_parquet(out / "events", partition_cols=["date"], compression="zstd", index=True, max_partitions=100_000)
    files = len(list((out / "events").rglob("*.parquet")))
    return _done(len(frame), begun, cpu, files)


def duckdb(source: Path, out: Path) -> dict[str, float]:
    import duckdb as engine

    begun, cpu = time.perf_counter(), time.process_time()
    connection = engine.connect(config={"threads": 1, "temp_directory": str(out / "spill"), "memory_limit": "1500MB"})
    connection.execute("SET partitioned_write_max_open_files = 1000; SET TimeZone = 'UTC'")
    columns = "{'user': 'BIGINT', 'item': 'BIGINT', 'rating': 'FLOAT', 'seconds': 'BIGINT'}"
    films = [int(line.split(b"::")[0]) for line in (source / "movies.dat").read_bytes().splitlines()]
    connection.execute("CREATE TABLE films AS SELECT unnest(?::BIGINT[]) AS item", [films])
    connection.execute(  # our own temporary paths and numbers
        f"""COPY (
            SELECT "user", item, to_timestamp(seconds) AS timestamp, rating, source_row,
                   to_timestamp(seconds)::DATE AS date
            FROM (SELECT *, row_number() OVER () AS source_row FROM read_csv(
                    '{source / "ratings.dat"}', delim = '::', header = false, columns = {columns}, quote = ''))
            WHERE rating BETWEEN 1 AND 5 AND seconds BETWEEN {EARLIEST} AND {int(time.time()) + 86_400}
              AND item IN (SELECT item FROM films)
            QUALIFY row_number() OVER (PARTITION BY "user", item ORDER BY source_row) = 1
            ORDER BY date, seconds, source_row
        ) TO '{out / "events"}' (FORMAT parquet, PARTITION_BY (date), COMPRESSION zstd)"""  # noqa: S608
    )
    rows = connection.execute(f"SELECT count(*) FROM read_parquet('{out / 'events'}/*/*.parquet')").fetchone()  # noqa: S608
    files = len(list((out / "events").rglob("*.parquet")))
    return _done(rows[0] if rows else 0, begun, cpu, files)


def _done(rows: int, begun: float, cpu: float, files: int) -> dict[str, float]:
    return {
        "rows": rows,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "files": files,
    }


def measure(peer: str, source: Path) -> dict[str, float | str]:
    """In a process of its own, on one core."""
    with tempfile.TemporaryDirectory() as out:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.lake", "--measure", peer, str(source), out],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **ONE_THREAD, "SLIPWAY_HOME": out},
        )
        if child.returncode:
            return {"peer": peer, "failed": child.stderr.strip().splitlines()[-1] if child.stderr.strip() else "killed"}
        return {"peer": peer, **json.loads(child.stdout.splitlines()[-1])}


def run(rows: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        write_simulated(source / "source", rows)
        size = (source / "source" / "ratings.dat").stat().st_size / 2**20
        peers = [peer for peer in PEERS if peer != "pandas" or rows <= PANDAS_LIMIT]
        return {"rows": rows, "source_mib": size, "peers": [measure(peer, source / "source") for peer in peers]}


def table(results: list[dict]) -> str:
    lines = [
        "| rows | who | ingest+clean s | rows/s | CPU-s | with validation: rows/CPU-s | CPU ratio | peak MiB | files |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        ours = next((p["cpu_seconds"] for p in result["peers"] if p["peer"] == "slipway" and "failed" not in p), None)
        for p in result["peers"]:
            if "failed" in p:
                lines.append(f"| {result['rows']:,} | {p['peer']} | failed: {p['failed']} | | | | | | |")
                continue
            whole = p["rows"] / (p["cpu_seconds"] + p.get("check_cpu_seconds", 0))
            checked = f"{whole / 1e6:.2f}M" if "check_cpu_seconds" in p else "–"
            ratio = f"{p['cpu_seconds'] / ours:.1f}" if ours else "–"
            lines.append(
                f"| {p['rows']:,} | {p['peer']} | {p['seconds']:.2f} | {p['rows'] / p['seconds'] / 1e6:.2f}M "
                f"| {p['cpu_seconds']:.2f} | {checked} | {ratio} | {p['peak_mib']:,.0f} | {p['files']:,} |"
            )
    return "\n".join(lines)


def report(about: dict, results: list[dict]) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    return (
        "# From source files to the lake: rows per second, memory, and two peers\n\n"
        f"`python -m benchmarks.lake`; {facts}.\n\n{table(results)}\n\n"
        "The simulator's ratings in the files of MovieLens 1M: 730 days, 71 ratings a user. Everybody parses, refuses "
        "what cannot be true, keeps the first of each (user, film) and writes Parquet (zstd) partitioned by date, in a "
        "fresh process on one core with one thread; imports are not in the times. Slipway also copies and hashes the "
        "source, would name each bad line, and commits everything at once. *With validation*: the suites of the data "
        "set's tables read it all back; they check every row, and the rate is that of ingesting, cleaning and "
        "validating together. CPU ratio: a peer's CPU-seconds over Slipway's for ingest and clean. Peak MiB is the "
        "process's whole resident memory, Slipway's with validation. DuckDB may use 1,500 MB before it spills; pandas "
        f"holds everything, and is not run above {PANDAS_LIMIT:,} rows. Where the load before is above the number of "
        "cores, only CPU-s say what the work cost.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="one size, printed only")
    parser.add_argument("--write", action="store_true", help="with --rows: add it to the evidence")
    parser.add_argument("--measure", nargs=3, metavar=("WHO", "SOURCE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        who, source, out = arguments.measure
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        measured = {"slipway": slipway, "pandas": pandas, "duckdb": duckdb}[who](Path(source), Path(out))
        print(json.dumps({**measured, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    about = machine()
    path = EVIDENCE / "lake.json"
    known = json.loads(path.read_text()) if path.is_file() else {"results": []}
    results = [r for r in known["results"] if arguments.rows and r["rows"] != arguments.rows]
    for rows in (arguments.rows,) if arguments.rows else SIZES:
        results.append(run(rows))
        print(table(results[-1:]), flush=True)
    if arguments.rows and not arguments.write:
        return
    results.sort(key=lambda r: r["rows"])
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n")
    (EVIDENCE / "lake.md").write_text(report(about, results))


if __name__ == "__main__":
    main()
