"""slipway etl: the ETL pipeline on this machine or on Kubeflow Pipelines. Knows options and screens."""

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli import options
from cli.options import Runner
from slipway import config, workload
from slipway.settings import settings

if TYPE_CHECKING:
    from pipelines.runners.local import EtlOutcome


class Source(StrEnum):
    files = "files"
    production = "production"


def etl(
    source: Annotated[
        Source, typer.Option(help="Files from outside, or the production log of the lake.")
    ] = Source.files,
    data: options.Files = "simulated",
    data_set: options.DataSet = None,
    workload_name: options.Workload = "movies",
    profile: options.Profile = "demo",
    assignments: options.Assignments = None,
    runner: options.RunsOn = Runner.local,
    wait: options.Wait = True,
) -> None:
    """Run the ETL pipeline: what is new → the lake, validated → features → a training set.

    Doing it again adds nothing; broken hard rules stop it, and show the rows. Train on what it built with
    slipway run --data lake.

    [bold]Examples[/bold]

      slipway etl
      slipway etl --data ~/ml-1m --data-set ml-1m
      slipway etl --source production --set production.window_hours=6
      SLIPWAY_KFP_ENDPOINT=https://… SLIPWAY_STORE_URI=s3://bucket slipway etl --runner cluster --data s3://bucket/ml-25m
    """
    from pipelines.parameters import EtlParameters

    env = settings()
    overrides = config.parse_assignments(assignments or [])
    workload.load(workload_name).config(profile, overrides)  # refuse a misspelt key before anything starts
    parameters = EtlParameters(
        workload=workload_name,
        profile=profile,
        overrides=json.dumps(overrides),
        source=source.value,
        data=data,
        data_set=data_set or env.data_set,
    )
    console = Console(file=sys.stdout)  # this very stream: kfp.local prints, and stdout is redirected while it does
    if runner is Runner.cluster:
        from cli import cluster

        cluster.run(console, parameters, env, wait=wait)
        return

    from pipelines import fingerprint

    if source is Source.files:  # that are not there need no seconds of imports
        fingerprint.data_version(fingerprint.pinned(data, env))
    from cli.training import View, containers
    from pipelines.runners import local

    starter = containers(console, env) if runner is Runner.container else None
    view = View(console)
    with view.progress:
        outcome = local.run_etl(parameters, env, view.changed, starter)
    show(console, outcome)


def show(console: Console, outcome: "EtlOutcome") -> None:
    """What each step counted, what the validation warns of, and where things lie."""
    for step in outcome.steps:
        counts = " ".join(f"{name} {value:,.6g}" for name, value in step.metrics.items())
        if counts:
            console.print(f"{step.name:<9} {counts}", highlight=False, soft_wrap=True)
    for warning in outcome.warnings:
        text = f"[yellow]warning[/yellow]   {warning['suite']}: {warning['check']}: {warning['message']}"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(f"\nReport    {outcome.report.as_uri()}", soft_wrap=True, highlight=False)
    console.print(f"Data set  {outcome.dataset}", soft_wrap=True, highlight=False)
    console.print(f"Log       {outcome.log}", soft_wrap=True, highlight=False)
    console.print(f"Next      slipway run --data {outcome.reference}", soft_wrap=True, highlight=False)
