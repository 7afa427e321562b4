"""slipway schedule: recurring runs on Kubeflow Pipelines. Knows options and screens."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli import options
from slipway import config, workload
from slipway.settings import settings

if TYPE_CHECKING:
    from pipelines.parameters import EtlParameters, Parameters

app = typer.Typer(no_args_is_help=True, help="Recurring runs on Kubeflow Pipelines: create, list, pause, delete.")
console = Console(file=sys.stdout)

NAME = typer.Argument(help="As slipway schedule list shows it.")


class Pipeline(StrEnum):
    training = "training"
    etl = "etl"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Of the schedule: lower case letters, digits and -.")],
    cron: Annotated[str, typer.Option(help="Six fields, seconds first, UTC.")],
    pipeline: Annotated[Pipeline, typer.Option(help="Which of the two pipelines.")] = Pipeline.training,
    data: Annotated[
        str, typer.Option("--data", "-d", help='An s3:// URI, "simulated", or lake:<data set>: its newest version.')
    ] = "lake",
    workload_name: options.Workload = "movies",
    profile: options.Profile = "full",
    assignments: options.Assignments = None,
    workers: options.Workers = 0,
    gpu: options.Gpu = False,
    slo: Annotated[str, typer.Option(help="What staging holds the package to; training only.")] = "production",
    canary: Annotated[str, typer.Option(help='Policy of a judged rollout; "" gives all traffic at once.')] = "default",
) -> None:
    """Run a pipeline again and again, each time on the data as they are then.

    [bold]Examples[/bold]

      slipway schedule create nightly --cron "0 30 2 * * *"
      slipway schedule create hourly-etl --pipeline etl --cron "0 0 * * * *"
      slipway schedule create weekly --cron "0 0 3 * * 0" --workers 4 --gpu --data lake:ml-25m
    """
    from pipelines.runners import schedules

    overrides = config.parse_assignments(assignments or [])
    workload.load(workload_name).config(profile, overrides)  # refuse a misspelt key before anything is asked
    if pipeline is Pipeline.etl:
        parameters: Parameters | EtlParameters = _etl(workload_name, profile, overrides)
    else:
        parameters = _training(workload_name, profile, overrides, data, workers, gpu, slo, canary)
    made = schedules.create(name, cron, parameters, settings())
    console.print(f"schedule [bold]{made.name}[/bold] ({made.id}) will run at", highlight=False)
    for due in schedules.dates(cron, datetime.now(UTC), 3):
        console.print(f"  {due:%Y-%m-%d %H:%M:%S} UTC", highlight=False)


def _training(
    workload_name: str,
    profile: str,
    overrides: dict[str, object],
    data: str,
    workers: int,
    gpu: bool,
    slo: str,
    canary: str,
) -> "Parameters":
    from load_tests import slo as slos
    from pipelines.parameters import Parameters, split_overrides
    from slipway.rollout import policy

    if slo:
        slos.read(slo)
    if canary:
        policy.read(canary)
    return Parameters(
        workload=workload_name,
        profile=profile,
        data=data,
        num_workers=workers,
        use_gpu=gpu,
        slo=slo,
        policy=canary,
        **split_overrides(overrides),
    )


def _etl(workload_name: str, profile: str, overrides: dict[str, object]) -> "EtlParameters":
    """Of the production log: files come once."""
    from pipelines.parameters import EtlParameters

    return EtlParameters(
        workload=workload_name,
        profile=profile,
        overrides=json.dumps(overrides),
        source="production",
        data_set=settings().data_set,
    )


@app.command(name="list")
def list_() -> None:
    """Show each schedule, whether it is on, and when it is due next.

    [bold]Example[/bold]

      slipway schedule list
    """
    from pipelines.runners import schedules
    from pipelines.runners.kubeflow import Kubeflow
    from slipway.errors import ConfigError

    table = Table("name", "cron (UTC)", "state", "next")
    for found in schedules.every(Kubeflow(settings())):
        due = ""
        if found.state.startswith("ENABLE"):
            try:
                due = f"{schedules.dates(found.cron, datetime.now(UTC), 1)[0]:%Y-%m-%d %H:%M:%S}"
            except ConfigError:  # somebody else's, of another form
                due = "?"
        table.add_row(found.name, found.cron, found.state.lower(), due)
    console.print(table if table.rows else "there are no schedules")


@app.command()
def pause(name: Annotated[str, NAME]) -> None:
    """Start no more runs until it is resumed; runs that are under way go on.

    [bold]Example[/bold]

      slipway schedule pause nightly
    """
    _switch(name, on=False)


@app.command()
def resume(name: Annotated[str, NAME]) -> None:
    """Start runs again, from the next date on; those that were missed are not made up for.

    [bold]Example[/bold]

      slipway schedule resume nightly
    """
    _switch(name, on=True)


@app.command()
def delete(name: Annotated[str, NAME]) -> None:
    """Remove a schedule; its runs stay.

    [bold]Example[/bold]

      slipway schedule delete nightly
    """
    from pipelines.runners import schedules
    from pipelines.runners.kubeflow import Kubeflow

    kubeflow = Kubeflow(settings())
    kubeflow.unschedule(schedules.find(name, kubeflow).id)
    console.print(f"deleted {name}")


def _switch(name: str, *, on: bool) -> None:
    from pipelines.runners import schedules
    from pipelines.runners.kubeflow import Kubeflow

    kubeflow = Kubeflow(settings())
    kubeflow.switch(schedules.find(name, kubeflow).id, on)
    console.print(f"{'resumed' if on else 'paused'} {name}")
