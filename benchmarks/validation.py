"""How fast is a table of events validated, in how much memory, and what do the peers take for less?

    python -m benchmarks.validation                      # 1M, 5M and 25M events; writes docs/evidence/validation.md
    python -m benchmarks.validation --rows 1_000_000     # one size, printed only

A lake table of ratings (uniform random, partitioned by day) is checked by its suite: 20 hard rules and 9 soft ones,
with the profile for the next check. Peers, on the same table and machine: pandera with the same schema and rules over
the whole frame, and one DuckDB query that counts the same rules' failures; both without examples of failing rows,
profiles, drift and duplicates. Each runs in a process of its own with one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.ingest import EVIDENCE, SIZES, machine
from slipway.lake.lake import Lake
from slipway.workloads.movies import suites
from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.messages import CATALOGUE

DAYS = 365
ITEMS = 20_000
DATA_SET = "ml-1m"
START = int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * 1000
PEERS = ("slipway", "pandera", "duckdb")


def write(lake: Lake, rows: int, seed: int = 0) -> None:
    """Ratings in days of equal size; nobody rates an item twice."""
    random = np.random.default_rng(seed)
    daily, users = rows // DAYS, max(rows // 150, 1)
    with lake.table("processed", DATA_SET, "events").batch(LAKE_EVENTS, ["date"]) as batch:
        for day in range(DAYS):
            number = day * daily + np.arange(daily)
            moment = np.sort(random.integers(0, 86_400_000, daily)) + day * 86_400_000 + START
            events = pl.DataFrame(
                {
                    "user": number % users + 1,
                    "item": number // users * (ITEMS // 151) + random.integers(1, ITEMS // 151, daily),
                    "timestamp": pl.Series(moment).cast(LAKE_EVENTS["timestamp"]),
                    "rating": random.integers(1, 6, daily),
                    "action": pl.repeat("rating", daily, eager=True),
                    "source_row": number + 1,
                    **{name: pl.repeat(None, daily, eager=True) for name in ("event_id", "request_id")},
                }
            )
            batch.add(events.with_columns(date=pl.col("timestamp").dt.date()).cast(LAKE_EVENTS))
    films = {"item": range(1, ITEMS + 1), "title": [f"Film {n}" for n in range(ITEMS)], "genres": [["War"]] * ITEMS}
    frame = pl.DataFrame({**films, "year": 1999, "released": None}, schema=CATALOGUE)
    lake.table("processed", DATA_SET, "items").replace(frame)


def by_slipway(lake: Lake) -> int:
    from slipway.validation import tables

    items = lake.table("processed", DATA_SET, "items").scan().select("item").collect()["item"]
    report = tables.check(lake.table("processed", DATA_SET, "events"), suites.events("ml-1m"), known={"items": items})
    report.raise_if_failed()
    return report.rows


def by_pandera(lake: Lake) -> int:
    import pandera.polars as pa

    suite = suites.events("ml-1m")
    items = lake.table("processed", DATA_SET, "items").scan().select("item").collect()["item"]
    holds = [rule.holds for rule in suite.rules]
    holds += [pl.col("timestamp") <= pl.lit(datetime.now(UTC)), pl.col("item").is_in(items.implode())]
    checks = [pa.Check(lambda data, expression=expression: data.lazyframe.select(expression)) for expression in holds]
    schema = pa.DataFrameSchema(suite.schema.columns, checks=checks, strict=True)
    frame = lake.table("processed", DATA_SET, "events").scan().collect()
    schema.validate(frame, lazy=True)
    return frame.height


def by_duckdb(lake: Lake) -> int:
    import duckdb

    files = lake.table("processed", DATA_SET, "events").open().file_uris()
    items = lake.table("processed", DATA_SET, "items").open().file_uris()
    duckdb.execute("SET threads = 1; SET TimeZone = 'UTC'")
    known = f"SELECT item FROM read_parquet({items})"  # noqa: S608 - our own file
    found = duckdb.execute(
        f"""SELECT count(*), count(*) FILTER (user IS NULL), count(*) FILTER (item IS NULL),
            count(*) FILTER (timestamp IS NULL), count(*) FILTER (action IS NULL), count(*) FILTER (source_row IS NULL),
            count(*) FILTER (user < 0), count(*) FILTER (item < 0), count(*) FILTER (rating NOT BETWEEN 1 AND 5),
            count(*) FILTER (action <> 'rating'), count(*) FILTER (source_row < 1),
            count(*) FILTER ((rating IS NULL) = (action = 'rating')), count(*) FILTER (date <> timestamp::DATE),
            count(*) FILTER (timestamp < '1995-01-01'), count(*) FILTER (rating % 1 <> 0),
            count(*) FILTER (timestamp > now()), count(*) FILTER (item NOT IN ({known}))
            FROM read_parquet({files}, hive_partitioning = true)"""  # noqa: S608 - our own files' names
    ).fetchone()
    assert found is not None
    assert not any(found[1:]), found
    return int(found[0])


def measure(peer: str, uri: str) -> dict[str, float]:
    """In this process: the imports are not in the seconds."""
    import duckdb  # noqa: F401 - imported before the clock starts
    import pandera.polars  # noqa: F401

    work = {"slipway": by_slipway, "pandera": by_pandera, "duckdb": by_duckdb}[peer]
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = work(Lake(uri))
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rows": rows, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": after.ru_maxrss / 1024}


def run(rows: int) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory(prefix="slipway-validation-") as folder:
        uri = Path(folder).as_uri()
        write(Lake(uri), rows)
        for peer in PEERS:
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.validation", "--measure", peer, uri],
                env={**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            results.append({"peer": peer, **json.loads(child.stdout)})
    return results


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| rows | | seconds | CPU-s | rows/CPU-s | peak MiB | CPU, ours = 1 |", "|--:|---|--:|--:|--:|--:|--:|"]
    for r in results:
        ours = next(o for o in results if o["peer"] == "slipway" and o["rows"] == r["rows"])
        lines.append(
            f"| {r['rows']:,.0f} | {r['peer']} | {r['seconds']:.2f} | {r['cpu_seconds']:.2f} "
            f"| {r['rows'] / r['cpu_seconds'] / 1e6:.2f}M | {r['peak_mib']:,.0f} "
            f"| {r['cpu_seconds'] / ours['cpu_seconds']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="one size, printed and not written to the evidence")
    parser.add_argument("--measure", nargs=2, metavar=("PEER", "LAKE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    about = machine()
    results: list[dict[str, Any]] = []
    for rows in (arguments.rows,) if arguments.rows else SIZES:
        results += run(rows)
        print(table(results), flush=True)
    if arguments.rows:
        return
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    said = " ".join((__doc__ or "").split("\n\n")[-1].split())
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    (EVIDENCE / "validation.md").write_text(
        f"# Validation: rows per second and peak memory\n\n`python -m benchmarks.validation`; {facts}.\n\n"
        f"{table(results)}\n\n{said} Where the load before is above the number of cores, the seconds say how busy the "
        "machine was, and only CPU-s what validation cost.\n"
    )


if __name__ == "__main__":
    main()
