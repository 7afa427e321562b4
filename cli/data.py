"""`slipway ingest` and `slipway data …`: what comes into the lake, what is there, its upkeep. Knows screens only."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import lakeview, options
from cli.bar import bar
from slipway import config, workload
from slipway.duration import seconds
from slipway.errors import ConfigError, StorageError
from slipway.lake.lake import AREAS, Area, Lake
from slipway.lake.table import Table
from slipway.settings import settings

console = Console()
data = typer.Typer(no_args_is_help=True, help="The lake: what is there, and its upkeep.")

WORKLOAD = "movies"


class Source(StrEnum):
    files = "files"
    stream = "stream"
    production = "production"


def ingest(
    source: Annotated[Source, typer.Option(help="Files, the event stream, or what production logged.")] = Source.files,
    files: options.Files = "simulated",
    data_set: options.DataSet = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stream only: go on until Ctrl-C.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="/metrics and /health of --follow; default SLIPWAY_STREAM_METRICS_PORT."),
    ] = None,
    profile: options.Profile = "demo",
    assignments: options.Assignments = None,
) -> None:
    """Bring what is new into the lake; what was ingested before is skipped, so it is safe to run again.

    Files: each file once, by its content. Stream: everything pending on SLIPWAY_EVENTS_URL. Production: exposures and
    feedback become labelled examples. Rows that cannot be right go to quarantine: see [bold]slipway data status[/bold].

    [bold]Examples[/bold]

      slipway ingest
      slipway ingest --data ~/ml-1m --data-set ml-1m
      slipway ingest --source stream --follow
      slipway ingest --source production
    """
    name = _named(data_set)
    if follow and source is not Source.stream:
        raise ConfigError(f"--follow is for the stream, not for {source}", "add --source stream, or leave it out")
    settled = workload.load(WORKLOAD).config(profile, config.parse_assignments(assignments or []))
    if source is Source.files:
        _files(files, name, settled)
    elif source is Source.stream:
        _stream(name, follow=follow, metrics_port=metrics_port)
    else:
        from slipway.workloads.movies import production

        with bar(console) as progress:
            counts = production.ingest(Lake(), name, settled.production, progress)
        console.print(f"{name}: {_counts(counts)}", highlight=False)


def _files(files: str, name: str, settled: object) -> None:
    from components.ingest.step import source_files
    from slipway.workloads.movies.landing import land

    with bar(console) as progress, source_files(workload.load(WORKLOAD), settled, files, progress) as folder:
        landed = land(folder, Lake(), name, settled.ingest, progress)  # type: ignore[attr-defined]
    lakeview.show_landed(console, name, landed)


def _stream(name: str, *, follow: bool, metrics_port: int | None) -> None:
    from streaming import application, embedded
    from streaming.config import StreamConfig

    port = metrics_port or settings().stream_metrics_port
    stream = StreamConfig(metrics_port=port if follow else None, metrics_host=settings().stream_metrics_host)
    url = settings().events_url
    with embedded.broker(url):
        if follow:
            console.print(f"following {url} into data set {name}; Ctrl-C stops", highlight=False)
        with bar(console) as progress:
            counts = (application.follow if follow else application.drain)(url, name, progress, stream)
    console.print(f"{name}: {counts}", highlight=False)


@data.command()
def status(
    data_set: options.DataSet = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Say what is in the lake: tables, partitions, snapshots, rows, quarantine, freshness and sizes.

    [bold]Examples[/bold]

      slipway data status
      slipway data status --data-set ml-1m --json | jq '.data_sets[0].sizes'
    """
    from slipway.lake.status import status as look

    lake = Lake()
    if data_set is not None and _named(data_set) not in lake.data_sets():
        raise StorageError(
            f"there is no data set {data_set!r} in {lake.uri}",
            f"there is {', '.join(lake.data_sets()) or 'none yet'}; slipway ingest brings one",
        )
    found = look(lake, data_set)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        lakeview.show_status(console, found)


@data.command()
def compact(
    table: Annotated[str | None, typer.Argument(help="area/table; default: every table of the data set.")] = None,
    data_set: options.DataSet = None,
) -> None:
    """Make one sorted file of the many small files of each partition; events written twice are kept once.

    [bold]Examples[/bold]

      slipway data compact
      slipway data compact processed/events --data-set ml-1m
    """
    for area, one in _tables(_named(data_set), table):
        with console.status(f"compacting {area}/{one.name}"):
            fewer = one.compact()
        console.print(f"{area}/{one.name}: {fewer:,} files fewer, now version {one.version}", highlight=False)


@data.command()
def retain(
    keep: Annotated[str, typer.Option(help="How long old versions stay readable: 30d, 12h.")] = "30d",
    logs: Annotated[
        str | None, typer.Option(help="Exposures, shadows and feedback of older days go: 90d. Default: all stay.")
    ] = None,
    data_set: options.DataSet = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove files of old versions, and what killed writers left. Versions with a snapshot stay readable.

    With --logs, what was captured on older days goes from the tables first, and from the disk after --keep.

    [bold]Examples[/bold]

      slipway data retain --dry-run
      slipway data retain --keep 7d --data-set ml-1m
      slipway data retain --logs 90d --keep 7d
    """
    from slipway.lake.retention import expire

    name, age = _named(data_set), timedelta(seconds=seconds(keep))
    lake = Lake()
    if logs is not None:
        before = (datetime.now(UTC) - timedelta(seconds=seconds(logs))).date()
        for one in (one for area, one in _tables(name, None) if area == "logs"):
            rows = expire(one, before, dry_run=dry_run)
            verb = "would go" if dry_run else "removed"
            console.print(f"logs/{one.name}: {rows:,} rows before {before} {verb}", highlight=False, soft_wrap=True)
    pinned = lake.snapshots(name)
    for area, one in _tables(name, None):
        removed = one.vacuum(age, pinned, dry_run=dry_run)
        verb = "would go" if dry_run else "removed"
        console.print(
            f"{area}/{one.name}: {len(removed.files):,} files, {lakeview.size(removed.bytes)} {verb}",
            highlight=False,
            soft_wrap=True,
        )


@data.command()
def snapshot(
    table: Annotated[str, typer.Argument(help="area/table")] = "processed/events",
    version: Annotated[int | None, typer.Option(help="Default: the newest.", show_default=False)] = None,
    data_set: options.DataSet = None,
    verify: Annotated[
        str | None,
        typer.Option("--verify", help="Instead: check every file of this stored snapshot (id or its start)."),
    ] = None,
) -> None:
    """Pin a version by the hashes of its files: retention spares it, and a training run can name it.

    [bold]Examples[/bold]

      slipway data snapshot
      slipway data snapshot processed/events --version 3 --data-set ml-1m
      slipway data snapshot --verify 3f2a91c0
    """
    name, lake = _named(data_set), Lake()
    if verify is not None:
        stored = lake.stored_snapshot(name, verify)
        with console.status(f"reading {len(stored.files):,} files"):
            stored.verify(lake.endpoint_url)
        console.print(f"{stored.id}: {len(stored.files):,} files are what they were", highlight=False, soft_wrap=True)
        return
    [(area, one)] = _tables(name, table)
    taken = lake.snapshot(area, name, one.name, version)
    console.print(
        f"{area}/{one.name} version {taken.version}: {taken.rows:,} rows in {len(taken.files):,} files\n{taken.id}",
        highlight=False,
        soft_wrap=True,
    )


@data.command()
def materialise(data_set: options.DataSet = None) -> None:
    """Bring new rows of the feature tables into the online store, as `feast materialize-incremental` does.

    Where there are no definitions yet, they are applied. A view whose table nobody has written yet is told, and is no
    mistake: the first `slipway etl` writes it.

    [bold]Examples[/bold]

      slipway data materialise
      slipway data materialise --data-set ml-1m
    """
    from slipway.features import repository

    name, lake = _named(data_set), Lake()
    with repository.failing("materialised"), console.status("materialising"):
        store = repository.connect(data_set=name)
        if not store.list_feature_views():
            repository.apply(store, name)
        views = sorted(view.name for view in store.list_feature_views())
        there = [view for view in views if lake.table("features", name, view).exists()]
        if there:
            repository.materialize(store, views=there)
    for what, some in (
        ("is up to date", there),
        ("has no table yet: slipway etl", [v for v in views if v not in there]),
    ):
        for view in some:
            console.print(f"{name}/{view} {what}", highlight=False, soft_wrap=True)


@data.command()
def replay(
    rules: Annotated[Path | None, typer.Option(help="YAML of repairs, by reason.", show_default=False)] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop-reason", help="Give up the rows with this reason. Repeatable.")
    ] = None,
    data_set: options.DataSet = None,
) -> None:
    """Clean the rows in quarantine once more, repaired by rules; what is good now goes into the lake, each row once.

    [bold]Examples[/bold]

      slipway data replay
      slipway data replay --rules repair.yaml
      slipway data replay --drop-reason truncated
    """
    from slipway.validation import repair as repairs
    from slipway.validation.replay import replay as again

    repair = (repairs.read(rules) if rules else repairs.Repair()).dropping(*(drop or []))
    with bar(console) as progress:
        done = again(Lake(), _named(data_set), repair, progress, WORKLOAD)
    lakeview.show_replayed(console, done)


@data.command()
def validate(data_set: options.DataSet = None) -> None:
    """Check each table of a data set against what is expected of it. Exits with 1 when a hard rule is broken.

    [bold]Example[/bold]

      slipway data validate --data-set ml-1m
    """
    from slipway.validation.report import raise_if_failed

    with bar(console) as progress:
        reports = workload.load(WORKLOAD).validate(Lake(), _named(data_set), progress)
    lakeview.show_reports(console, reports)
    raise_if_failed(reports)


def _named(data_set: str | None) -> str:
    name = data_set or settings().data_set
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ConfigError(f"{name!r} is no name of a data set", "use small letters, digits, - and _, as in ml-1m")
    return name


def _tables(data_set: str, chosen: str | None) -> list[tuple[Area, Table]]:
    """All tables of a data set, or the one that area/table names. Raises StorageError when there is none."""
    lake = Lake()
    found = [(area, one) for area, owner, one in lake.tables() if owner == data_set]
    names = ", ".join(f"{area}/{one.name}" for area, one in found)
    if not found:
        raise StorageError(
            f"data set {data_set!r} has no tables in {lake.uri}",
            f"data sets: {', '.join(lake.data_sets()) or 'none yet'}; slipway ingest brings one",
        )
    if chosen is None:
        return found
    area, _, name = chosen.partition("/")
    if area not in AREAS or (match := [(a, t) for a, t in found if (a, t.name) == (area, name)]) == []:
        raise ConfigError(f"data set {data_set!r} has no table {chosen!r}", f"it has {names}")
    return match


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in counts.items())
