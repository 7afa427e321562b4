"""The lake on the screen: tables of tables. Knows what was found, and not how to find it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from slipway.lake.ledger import Landed
from slipway.lake.status import DataSetStatus, Status

if TYPE_CHECKING:
    from slipway.validation.replay import Replayed
    from slipway.validation.report import Report


def show_landed(console: Console, data_set: str, landed: Landed) -> None:
    for file in landed.skipped:
        console.print(f"skipped  {file}: this content was ingested before", highlight=False)
    if not landed.files:
        console.print(f"{data_set}: nothing new; the lake is as it was (version {landed.version})", highlight=False)
        return
    known = f", {landed.known:,} were there already" if landed.known else ""
    console.print(
        f"{data_set}: {landed.events:,} new events{known} ({landed.source}), {landed.items:,} items, "
        f"{landed.users:,} users; processed/events is at version {landed.version}",
        highlight=False,
        soft_wrap=True,
    )
    if landed.quarantined:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in landed.quarantined.items())
        console.print(f"{data_set}: quarantined {reasons}; see slipway data status", highlight=False, soft_wrap=True)


def show_status(console: Console, found: Status) -> None:
    if not found.data_sets:
        console.print(
            f"the lake at {found.uri} is empty; fill it with: slipway ingest", highlight=False, soft_wrap=True
        )
        return
    console.print(f"lake {found.uri}", highlight=False, soft_wrap=True)
    for one in found.data_sets:
        _show_data_set(console, one, found.at)


def _show_data_set(console: Console, one: DataSetStatus, now: datetime) -> None:
    table = Table(title=f"\n{one.name}", title_justify="left", title_style="bold", box=box.MINIMAL, padding=(0, 0))
    for name in ("table", "v", "rows", "files", "parts", "size", "newest", "age"):
        table.add_column(name, justify="left" if name in {"table", "newest"} else "right", no_wrap=True)
    for t in one.tables:
        table.add_row(
            f"{t.area}/{t.name}",
            str(t.version),
            f"{t.rows:,}",
            f"{t.files:,}",
            f"{t.partitions:,}",
            size(t.bytes),
            "–" if t.newest is None else f"{t.newest:%Y-%m-%d}",
            ago(now - t.committed),
        )
    console.print(table)
    console.print("v version, parts partitions, newest row, age of the version", highlight=False, style="dim")
    if spare := sum(t.compactable for t in one.tables):
        console.print(f"files      slipway data compact would save {spare:,}", highlight=False)
    sizes = ", ".join(f"{area}/ {size(n)}" for area, n in one.sizes.items())
    console.print(f"size       {sizes}", highlight=False, soft_wrap=True)
    bad = ", ".join(f"{reason} {count:,}" for reason, count in one.quarantine.items()) or "nothing"
    repaired = f" ({one.repaired:,} settled)" if one.repaired else ""
    console.print(f"quarantine {bad}{repaired}", highlight=False, soft_wrap=True)
    for file in one.files:
        console.print(
            f"ingested   {file.file} ({file.source}, {size(file.bytes)}, {file.sha256[:8]}): {file.events:,} events, "
            f"{ago(now - file.at)} ago",
            highlight=False,
            soft_wrap=True,
        )
    for s in one.snapshots:
        console.print(
            f"snapshot   {s.id[:16]} {s.table} version {s.version}: {s.rows:,} rows, {size(s.bytes)}, "
            f"{ago(now - s.created)} ago",
            highlight=False,
            soft_wrap=True,
        )


def show_replayed(console: Console, done: "Replayed") -> None:
    left = ", ".join(f"{reason} {count:,}" for reason, count in done.left.items())
    console.print(
        f"{done.read:,} rows read: {done.repaired:,} are in the lake now, {done.dropped:,} given up"
        + (f"; still bad: {left}" if left else ""),
        highlight=False,
        soft_wrap=True,
    )
    for reason, text in done.examples.items():
        console.print(f"{reason:<14} {text}", highlight=False, markup=False, soft_wrap=True)


def show_reports(console: Console, reports: "Sequence[Report]") -> None:
    table = Table()
    for name in ("suite", "version", "rows", "passed", "to look at"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for report in reports:
        look = [check for check in report.checks if check.status not in {"passed", "skipped"}]
        table.add_row(
            report.suite,
            report.version,
            f"{report.rows:,}",
            "[green]✓[/green]" if report.passed else "[red]✗[/red]",
            "\n".join(f"{check.status}: {check.name} ({check.rows:,}): {check.message}" for check in look),
        )
    console.print(table)


def size(count: int) -> str:
    """Bytes as people read them: 1.4 MiB."""
    amount, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    for larger in units:
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def ago(age: timedelta) -> str:
    """A timedelta in its largest unit: 3 h."""
    seconds = int(age.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,} {unit}"
    return f"{max(seconds, 0)} s"
