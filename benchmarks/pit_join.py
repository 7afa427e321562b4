"""How long does the point-in-time join of 1M labelled events with two feature views take, and in how much memory?

    python -m benchmarks.pit_join                  # 1M events, the stock stores 20,000; docs/evidence/pit_join.md
    python -m benchmarks.pit_join --rows 50_000    # smaller, printed only

Events of users and items at random times; a feature row per event and view (user statistics, item statistics), every
tenth written twice with a later created_timestamp, a TTL of 28 days. Each store joins in a process of its own, through
Feast's get_historical_features, from the same Parquet files; results are compared value by value.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.ingest import EVIDENCE, machine
from slipway.features import lean

ROWS, SMALL = 1_000_000, 20_000
STORES = {
    "slipway (Polars)": "slipway.features.offline_store.PolarsOfflineStore",
    "Feast's file store (dask)": "dask",
    "Feast's duckdb store": "duckdb",
}
START, SPAN = 1_700_000_000_000_000, 120 * 86_400_000_000  # microseconds
STAMP = pl.Datetime("us", "UTC")


def write(folder: Path, rows: int) -> None:
    random = np.random.default_rng(0)
    users, items = max(rows // 70, 10), max(rows // 250, 10)
    at = np.sort(random.integers(START, START + SPAN, rows))
    events = pl.DataFrame(
        {"user": random.integers(0, users, rows), "item": random.integers(0, items, rows), "event_timestamp": at}
    )
    for key in ("user", "item"):
        first = events.select(
            key,
            "event_timestamp",
            pl.col("event_timestamp").alias("created_timestamp"),
            **{f"{key}_{name}": random.integers(0, 1000, rows) for name in ("events_7d", "events_28d")},
            **{f"{key}_mean": random.random(rows)},
        )
        again = first.gather_every(10).with_columns(
            pl.col("created_timestamp") + 1_000_000, pl.col(f"{key}_events_7d") + 5_000
        )
        table = pl.concat([first, again]).with_columns(pl.col("event_timestamp", "created_timestamp").cast(STAMP))
        table.write_parquet(folder / f"{key}.parquet")
    events.with_columns(pl.col("event_timestamp").cast(STAMP)).with_row_index("row").write_parquet(
        folder / "asked.parquet"
    )


def store(folder: Path, kind: str) -> Any:
    feast = lean.feast()
    from feast.repo_config import RepoConfig
    from feast.types import Float64, Int64
    from feast.value_type import ValueType

    config = RepoConfig(
        project="benchmark",
        provider="local",
        registry=str(folder / f"{hashlib.md5(kind.encode(), usedforsecurity=False).hexdigest()}.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store={"type": kind},
        entity_key_serialization_version=3,
    )
    found = feast.FeatureStore(config=config)
    objects: list[Any] = []
    for key in ("user", "item"):
        entity = feast.Entity(name=key, join_keys=[key], value_type=ValueType.INT64)
        source = feast.FileSource(
            name=key,
            path=str(folder / f"{key}.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        kinds = {f"{key}_events_7d": Int64, f"{key}_events_28d": Int64, f"{key}_mean": Float64}
        fields = [feast.Field(name=name, dtype=dtype) for name, dtype in kinds.items()]
        view = feast.FeatureView(
            name=f"{key}_view", entities=[entity], schema=fields, source=source, ttl=timedelta(days=28)
        )
        objects += [entity, view]
    found.apply(objects)
    return found


def measure(folder: Path, kind: str) -> dict[str, Any]:
    """In the child. Loading the libraries and the entity frame is not in the seconds, and is in the memory."""
    import pandas as pd

    asked = pd.read_parquet(folder / "asked.parquet")
    features = [f"{key}_view:{key}_{name}" for key in ("user", "item") for name in ("events_7d", "events_28d", "mean")]
    feature_store = store(folder, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun, cpu = time.perf_counter(), time.process_time()
    job = feature_store.get_historical_features(entity_df=asked, features=features)
    found = job.to_df()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    columns = ["row", *(name.split(":")[1] for name in features)]
    values = pl.from_pandas(found[columns]).cast(pl.Float64).sort("row").fill_nan(None)
    values.write_parquet(folder / "found.parquet")
    return {"rows": len(found), "seconds": seconds, "cpu": cpu, "before": before, "peak": peak}


def run(rows: int, names: list[str]) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, rows)
        first: pl.DataFrame | None = None
        for store_name in names:
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "benchmarks.pit_join",
                "--measure",
                name,
                STORES[store_name],
            ]
            child = subprocess.run(command, check=False, capture_output=True, text=True)
            if child.returncode:
                why = (child.stderr.strip().splitlines() or [f"ended with {child.returncode}"])[-1]
                results.append({"store": store_name, "asked": rows, "failed": why})
                continue
            measured = json.loads(child.stdout.splitlines()[-1])
            found = pl.read_parquet(folder / "found.parquet")
            first = found if first is None else first
            same = first.join(found.select("row"), on="row", how="semi")
            differs = [int((~same[name].eq_missing(found[name])).sum()) for name in same.columns]
            other = sum(count for name, count in zip(same.columns, differs, strict=True) if "events_7d" not in name)
            results.append({"store": store_name, "asked": rows, "differs": max(differs), "other": other, **measured})
            print(results[-1], flush=True)
    return results


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| store | asked | answered | seconds | CPU-s | peak MiB | of which before | CPU-s ratio | rows that differ |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    base = {r["asked"]: r["cpu"] for r in results if "cpu" in r and r["store"].startswith("slipway")}
    for r in results:
        if "failed" in r:
            lines.append(f"| {r['store']} | {r['asked']:,} | not run: {r['failed']} | | | | | | |")
            continue
        lines.append(
            f"| {r['store']} | {r['asked']:,} | {r['rows']:,} | {r['seconds']:.2f} | {r['cpu']:.2f} | {r['peak']:,.0f} "
            f"| {r['before']:,.0f} | {r['cpu'] / base[r['asked']]:.1f} | {r['differs']:,} |"
        )
    return "\n".join(lines)


def report(results: list[dict[str, Any]]) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine().items())
    return (
        "# Point-in-time join: seconds and memory\n\n"
        f"`python -m benchmarks.pit_join`; {facts}.\n\n{table(results)}\n\n"
        "Two views with three features each, from Parquet, through `get_historical_features(…).to_df()`; a feature row "
        "per event and view, a tenth of them corrected by a later `created_timestamp`, TTL 28 days. *Rows that "
        "differ* from our store's answer: only in the corrected value (of the others, "
        f"{sum(r.get('other', 0) for r in results)} differ), where the dask store takes either row: it sorts by "
        "creation, and then by time with a sort that is not stable. That ours is right is tested against a join by "
        "hand. *Of which before*: the process with Feast, pandas and the entity frame loaded, before the join. The "
        "stock stores are measured at a size that they can do here; the duckdb store with the packages that "
        "`feast[duckdb]` names and a duckdb that its ibis knows (1.3), which are no part of this project.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="another size, printed and not written to the evidence")
    parser.add_argument("--small", type=int, default=SMALL, help="rows for the stock stores")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "STORE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure[0]), arguments.measure[1])))
        return
    ours = next(iter(STORES))
    text = report(run(arguments.rows or ROWS, [ours]) + run(arguments.small, list(STORES)))
    print(text)
    if not arguments.rows:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / "pit_join.md").write_text(text)


if __name__ == "__main__":
    main()
