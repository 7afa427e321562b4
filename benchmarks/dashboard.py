"""How long a page of the dashboard takes, and its pictures for the documentation.

    python -m benchmarks.dashboard                       # 25M events; writes docs/evidence/dashboard.{md,json}
    python -m benchmarks.dashboard --events 1_000_000    # another size, printed only
    python -m benchmarks.dashboard --pictures            # simulated data; docs/images/dashboard-*.png

A real Chromium asks a real `slipway dashboard`. First: nothing is kept yet, so the page counts the lake's events;
again: the same page once more, out of the server's cache. The 25M events are drawn at random (160,000 users, 60,000
films with a long tail, 1,000 days) and written straight into the lake: one file a day, as `slipway data compact` leaves
them.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from benchmarks.ingest import machine

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("overview", "activity", "catalogue", "quality", "drift", "recommendations", "lookup")
USERS, FILMS, DAYS, CHUNKS = 160_000, 60_000, 1_000, 20
IDLE = (
    "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    " && document.querySelector('h1') && !document.querySelector('[data-testid=stSkeleton],[data-stale=true]')"
)


NOTE = """# The dashboard: how long a page takes

`python -m benchmarks.dashboard`; {facts}.

{table}

{events:,} events of 160,000 users on 60,000 films over 1,000 days, on local disk. Seconds are those of a person at a
browser, from the address to the finished page, charts and all. *First* includes counting; *again* comes out of the
server's cache, which a new version of a table makes stale. The first page of all also imports MLflow where there are
runs, and `lookup` imports Feast. The server held {resident_mib:,.0f} MiB in the end. Where the load before is above the
number of cores, seconds say how busy the machine was, and only CPU-s what a page cost.
"""


def fill(home: Path, events: int) -> None:
    """processed/simulated/{events,items,users}."""
    from slipway.lake.lake import Lake
    from slipway.workloads.movies.dataset import LAKE_EVENTS

    lake, rng = Lake((home / "objects").as_uri()), np.random.default_rng(0)
    first = int(datetime(2022, 1, 1, tzinfo=UTC).timestamp())
    table = lake.table("processed", "simulated", "events")
    for chunk in range(CHUNKS):
        rows, days = events // CHUNKS, DAYS // CHUNKS
        seconds = first + rng.integers(chunk * days * 86_400, (chunk + 1) * days * 86_400, rows)
        frame = pl.DataFrame(
            {
                "user": rng.integers(1, USERS + 1, rows),
                "item": (FILMS * rng.random(rows) ** 3).astype(np.int64) + 1,
                "timestamp": pl.Series(seconds * 1000).cast(pl.Datetime("ms", "UTC")),
                "rating": rng.integers(1, 6, rows).astype(np.float32),
                "action": pl.Series(rng.integers(0, 4, rows)).replace_strict({0: "click"}, default="rating"),
                "source_row": np.arange(rows) + chunk * rows,
            }
        ).sort("timestamp")
        nothing = [pl.lit(None, pl.String).alias(name) for name in ("event_id", "request_id")]
        frame = frame.with_columns(*nothing, pl.col("timestamp").dt.date().alias("date"))
        table.append(frame.select(pl.col(name).cast(kind) for name, kind in LAKE_EVENTS.items()), partition_by=["date"])
    films, people = np.arange(1, FILMS + 1), np.arange(1, USERS + 1)
    kinds = pl.Series([["Drama"], ["Comedy", "Romance"], ["Action"], ["Horror", "Thriller"], ["War", "Drama"]])
    items = pl.DataFrame({"item": films, "genres": kinds[(films % 5).tolist()]}).with_columns(
        pl.format("Film {}", "item").alias("title"),
        pl.lit(2000, pl.Int32).alias("year"),
        pl.lit(None, pl.Datetime("ms", "UTC")).alias("released"),
    )
    lake.table("processed", "simulated", "items").replace(items.select("item", "title", "genres", "year", "released"))
    users = pl.DataFrame({"user": people, "gender": np.where(people % 3, "M", "F")}).with_columns(
        pl.lit(25, pl.Int32).alias("age"), pl.lit("artist").alias("occupation"), pl.lit("12345").alias("zip")
    )
    lake.table("processed", "simulated", "users").replace(users)


@contextmanager
def dashboard(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its URL and process, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = Path(sys.executable).with_name("slipway")
    environment = {**os.environ, "SLIPWAY_HOME": str(home)}
    process = subprocess.Popen(
        [script, "dashboard", "--no-browser", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@contextmanager
def chromium(scheme: str = "light") -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme).new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def asked(page: Any, url: str, name: str) -> float:
    """Seconds until the page is drawn and idle."""
    begun = time.perf_counter()
    page.goto(f"{url}/{'' if name == 'overview' else name}")
    page.wait_for_function(IDLE)
    return time.perf_counter() - begun


def measure(events: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="slipway-dashboard-") as name:
        home, pages = Path(name), {}
        begun = time.perf_counter()
        fill(home, events)
        written = time.perf_counter() - begun
        with dashboard(home) as (url, process), chromium() as page:
            for one in PAGES:
                before = sum(process.cpu_times()[:2])
                first = asked(page, url, one)
                print(f"{one}: {first:.1f} s", flush=True)
                cpu = sum(process.cpu_times()[:2]) - before
                pages[one] = {"first": first, "cpu_seconds": cpu, "again": asked(page, url, one)}
            peak = process.memory_info().rss / 2**20
        return {"events": events, "written_seconds": written, "pages": pages, "resident_mib": peak}


def report(found: dict[str, Any]) -> str:
    lines = ["| page | first, s | of it CPU-s of the server | again, s |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {page['first']:.1f} | {page['cpu_seconds']:.1f} | {page['again']:.1f} |"
        for name, page in found["pages"].items()
    ]
    return "\n".join(lines)


def live(home: Path) -> None:
    """The whole line on simulated people, through the commands, with a few broken rows."""
    slipway = Path(sys.executable).with_name("slipway")

    def run(*words: str) -> None:
        print("slipway", *words, flush=True)
        subprocess.run([slipway, *words], check=True, env={**os.environ, "SLIPWAY_HOME": str(home)}, cwd=home)

    home.mkdir(parents=True, exist_ok=True)
    run("simulate", "data", "--out", str(home / "source"))
    with (home / "source" / "ratings.dat").open("a") as out:
        out.writelines(f"{user}::1::{9 if user % 3 else 'five'}::1262304000\n" for user in range(1, 120))
    run("ingest", "--data", str(home / "source"))
    run("simulate", "traffic", "--offline", "28")
    run("etl", "--source", "production")
    run("run", "--data", "lake", "--no-deploy", "--set", "train.epochs=3")


def pictures(home: Path) -> None:
    """One of each page, and one in the dark. home: what is there already is not made again."""
    if not (home / "objects").is_dir():
        live(home)
    for scheme, names in (("light", PAGES), ("dark", ("activity",))):
        with dashboard(home) as (url, _), chromium(scheme) as page:
            for one in names:
                _picture(page, url, one, "" if scheme == "light" else "-dark")


def _picture(page: Any, url: str, name: str, suffix: str = "") -> None:
    from PIL import Image

    asked(page, url, name)
    page.wait_for_timeout(1_500)
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": 1280, "height": min(int(height), 2_600)})
    page.wait_for_timeout(2_500)  # charts fit themselves to the new size
    path = DOCS / "images" / f"dashboard-{name}{suffix}.png"
    path.parent.mkdir(exist_ok=True)
    page.screenshot(path=path)
    page.set_viewport_size({"width": 1280, "height": 900})
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=192).save(path, optimize=True)
    print(f"wrote {path.relative_to(DOCS.parent)}, {path.stat().st_size // 1024} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=lambda text: int(text.replace("_", "")), help="default: 25M, and evidence")
    parser.add_argument("--pictures", action="store_true", help="draw docs/images/dashboard-*.png, measure nothing")
    parser.add_argument("--home", type=Path, help="with --pictures: a SLIPWAY_HOME to fill, or one filled so before")
    given = parser.parse_args()
    if given.pictures:
        with tempfile.TemporaryDirectory(prefix="slipway-dashboard-") as scratch:
            pictures(given.home or Path(scratch) / "home")
        return
    about, found = machine(), measure(given.events or 25_000_000)
    print(report(found))
    if given.events is None:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
        text = NOTE.format(facts=facts, table=report(found), **found)
        (DOCS / "evidence" / "dashboard.md").write_text(text)
        (DOCS / "evidence" / "dashboard.json").write_text(json.dumps({"machine": about, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
