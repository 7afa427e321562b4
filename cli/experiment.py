"""`slipway experiment`: a comparison of models, repeated by one command and written to a page. Knows screens only."""

import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli import options
from slipway import config, storage
from slipway.duration import seconds
from slipway.errors import ConfigError
from slipway.settings import settings

if TYPE_CHECKING:
    from slipway.experiments.findings import Findings
    from slipway.experiments.memory import Memory

EVIDENCE = Path("docs/evidence/experiments")


def experiment(
    name: Annotated[str | None, typer.Argument(help="One of --list.", show_default=False)] = None,
    data: options.Data = "simulated",
    budget: Annotated[str, typer.Option(help="CPU time of the whole experiment: 90s, 20m, 2h.")] = "10m",
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where the page, its JSON and its plots are written.")
    ] = EVIDENCE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure every arm again, also those that are known.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Say which experiments there are.")] = False,
    workload_name: options.Workload = "movies",
    profile: Annotated[str, typer.Option("--profile", "-p", help="How the data are simulated and read.")] = "demo",
    assignments: options.Assignments = None,
) -> None:
    """Repeat one comparison: measure its arms, draw its plots, write its page.

    Arms that were measured before, with the same data, budget and seed, are not measured again, so that an interrupted
    experiment goes on where it was. Each arm is a child run in MLflow.

    [bold]Examples[/bold]

      slipway experiment --list
      slipway experiment losses --data ~/ml-1m --budget 30m
      slipway experiment strategies --fresh --out pages
    """
    from slipway.experiments import catalogue

    console = Console(file=sys.stdout)
    if listing or name is None:
        _list(console, catalogue.known(workload_name))
        return
    chosen, limit = catalogue.load(workload_name, name), seconds(budget, bare="s")
    if limit < 1:
        raise ConfigError(f"nothing can be measured in a budget of {budget}", "give it some time: 20m")

    from cli.bar import bar
    from cli.inputs import Inputs
    from pipelines.fingerprint import git_commit
    from slipway.experiments import page
    from slipway.experiments.context import Context
    from slipway.experiments.machine import machine
    from slipway.experiments.memory import Memory
    from slipway.tracking import Tracker

    env, about = settings(), machine()
    overrides = config.parse_assignments(assignments or [])
    if others := sorted(overrides.keys() - {"simulate", "ingest"}):
        raise ConfigError(
            f"an experiment says itself how it trains: {', '.join(others)} cannot be set",
            "set only how the data are simulated and read: simulate.… and ingest.…",
        )
    inputs = Inputs.named(workload_name, profile, overrides, data, env)
    params: dict[str, Any] = {"data": inputs.shown, "data_version": inputs.version, "budget": limit, "seed": seed}
    folder = env.home / "experiments" / f"{name}-{_hash([workload_name, params])}"
    scratch, needs_data = folder / "scratch", getattr(chosen, "NEEDS_DATA", True)
    lock = folder.with_name(f"{folder.name}.lock")
    with storage.held(lock, f"experiment {name!r} with these data, budget and seed"), bar(console) as progress:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        read = inputs.ingested(progress) if needs_data else scratch
        tracker = Tracker(env.tracking, f"{workload_name}-experiments")
        memory = Memory.open(folder, tracker, name, git_commit(), params)
        with memory.run:
            findings = chosen.run(Context(read, scratch, limit, seed, progress, memory.remember))
            source = [f"--data {inputs.shown}", *(f"--set {a}" for a in assignments or [])] if needs_data else []
            typed = " ".join([f"slipway experiment {name}", *source, f"--budget {limit:g} --seed {seed}"])
            findings = dataclasses.replace(findings, command=findings.command or typed)
            written = page.write(out, name, findings, {**about, "commit": _commits(memory)}, {"arms": memory.arms()})
            for path in (written, written.with_suffix(".json"), *sorted(out.glob(f"{name}-*.svg"))):
                memory.run.log_files(path)
            memory.run.finish()
        shutil.rmtree(scratch, ignore_errors=True)
    _show(console, findings)
    console.print(f"Page      {written}", soft_wrap=True, highlight=False)
    console.print(f"MLflow    run {memory.run.id} in {env.tracking}", soft_wrap=True, highlight=False)


def _list(console: Console, known: dict[str, str]) -> None:
    table = Table("experiment", "what it compares", box=None, pad_edge=False)
    for name, description in known.items():
        table.add_row(name, description)
    console.print(table)


def _show(console: Console, findings: "Findings") -> None:
    from slipway.experiments.page import cell

    table = Table(title=findings.title, title_justify="left")
    for index, column in enumerate(findings.columns):
        words = any(isinstance(row[index], str) for row in findings.rows)
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    for row in findings.rows:
        table.add_row(*map(cell, row))
    console.print(table)


def _commits(memory: "Memory") -> str:
    """Of the code that measured; several where arms of an earlier run are on the page."""
    commits = {str(arm["commit"]) for arm in memory.arms()} or {memory.commit}
    return " and ".join(sorted(c[:12] + "-dirty" * c.endswith("-dirty") for c in commits))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
