"""Which suites look at which tables of a data set. Knows tables and suites; validation knows how to look."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from slipway.errors import StorageError
from slipway.lake import ledger
from slipway.lake.lake import Area, Lake
from slipway.validation import tables
from slipway.validation.expectations import Fresh
from slipway.validation.report import Report
from slipway.validation.suite import Suite
from slipway.validation.validate import validate
from slipway.workload import Progress
from slipway.workloads.movies import dataset, logsuites, suites
from slipway.workloads.movies.features.views import VIEWS
from slipway.workloads.movies.ingest import ORACLE

LIVE = pl.col("event_id").is_not_null()
ANSWERS = pl.col("request_id").is_not_null()


def check(lake: Lake, data_set: str, progress: Progress) -> list[Report]:
    """A report for each table that exists; for the events one each of files, of the stream, and of its answers.

    Raises StorageError when the data set has no events.
    """
    events = lake.table("processed", data_set, "events")
    if not events.exists():
        raise StorageError(f"the lake has no data set {data_set!r}", f"slipway ingest --data-set {data_set} …")
    items = lake.table("processed", data_set, "items")
    known = {"items": items.scan().select("item").collect()["item"]} if items.exists() else {}
    origin = source(lake, data_set)
    version = events.version  # one for every part
    there = events.scan(version).select(
        *((rows.any()).alias(name) for name, rows in {"filed": ~LIVE, "live": LIVE, "answers": ANSWERS}.items())
    )
    filed, live, answers = there.collect().row(0)
    parts = [
        (suites.events(origin), ~LIVE, filed or not live),  # of an empty table, somebody must say so
        (suites.events("stream"), LIVE, live),
        (suites.events("production"), ANSWERS, answers),
    ]
    reports = [
        tables.check(events, _timed(suite, origin), known=known, where=where, version=version, progress=progress)
        for suite, where, any_rows in parts
        if any_rows
    ]
    others: dict[tuple[Area, str], Suite] = {
        ("processed", "items"): suites.items(origin),
        ("processed", "users"): suites.users(origin),
        **logsuites.TABLES,
        **{("features", name): logsuites.view(name) for name in VIEWS},
    }
    for (area, name), suite in others.items():
        table = lake.table(area, data_set, name)
        if table.exists():
            reports.append(tables.check(table, _timed(suite, origin), known=known, progress=progress))
    return reports


def _timed(suite: Suite, origin: str) -> Suite:
    """A simulated world has a calendar of its own, so how old its newest row is says nothing."""
    if origin != "simulated":
        return suite
    return replace(suite, soft=tuple(one for one in suite.soft if not isinstance(one, Fresh)))


def check_training_set(folder: Path, progress: Progress) -> Report:
    """The events of a data set's folder. Raises SourceError when it is none."""
    name = f"{folder} ({dataset.read(folder).sha256[:12]})"
    known = {"items": pl.read_parquet(folder / "items.parquet", columns=["item"])["item"]}
    events = dataset.scan_events(folder)
    return validate(events, suites.TRAINING_SUITE, known=known, table=name, progress=progress)


def source(lake: Lake, data_set: str) -> str:
    """The source of the files that a data set is made of, by their records; "files" of several, or of none."""
    records = ledger.records(lake, data_set)
    found = {record.source for record in records}
    if any(record.file == ORACLE for record in records):
        return "simulated"
    return found.pop() if len(found) == 1 and found <= set(suites.FILES) else "files"
