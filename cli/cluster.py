"""A run on Kubeflow Pipelines on the screen: submitted, followed to its end, left and taken up again."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli import exits
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from pipelines.parameters import EtlParameters, Parameters

RUN_ID = typer.Argument(help="As slipway run --runner cluster printed it, and the dashboard shows it.")


class LeftError(SystemExit):
    """Ctrl-C while following: the run goes on, and the person was told how to find it again."""


def run(console: Console, parameters: "Parameters | EtlParameters", env: Settings, *, wait: bool) -> None:
    """Exits with 3 when the gate refused. Raises PipelineError with the failed step's own words."""
    from pipelines.runners import cluster

    with console.status("submitting to Kubeflow Pipelines"):
        run_id = cluster.submit(parameters, env)
    console.print(f"submitted run [bold]{run_id}[/bold] to Kubeflow Pipelines", highlight=False)
    if wait:
        show(console, run_id, env)
    else:
        console.print(f"follow it: slipway follow {run_id}", highlight=False, soft_wrap=True)


def show(console: Console, run_id: str, env: Settings) -> None:
    from cli.training import View
    from pipelines.runners import cluster
    from pipelines.runners.kubeflow import Kubeflow

    kubeflow = Kubeflow(env)
    console.print(f"see it at {kubeflow.link(run_id)}", highlight=False, soft_wrap=True)
    view = View(console)
    try:
        with view.progress:
            ended = cluster.follow(run_id, kubeflow, view.changed, why=cluster.why(env))
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"\nthe run goes on; follow it again: slipway follow {run_id}; end it: slipway cancel {run_id}",
            highlight=False,
            soft_wrap=True,
        )
        raise LeftError(exits.INTERRUPTED) from None
    if ended.admitted is False:
        console.print("\nGate      refused the challenger: see the report of step evaluate", highlight=False)
        raise typer.Exit(exits.REFUSED)
    console.print("\nrun succeeded", highlight=False)


def follow(run_id: Annotated[str, RUN_ID]) -> None:
    """Follow a run on Kubeflow Pipelines to its end; Ctrl-C leaves it running. Exits with 3 when the gate refused.

    [bold]Examples[/bold]

      slipway run --runner cluster --no-wait --data s3://bucket/ml-25m
      slipway follow 2b6f1a9e-5d0c-4c39-9d1e-0a4b7c1f2d3e
    """
    show(Console(file=sys.stdout), run_id, settings())


def cancel(run_id: Annotated[str, RUN_ID]) -> None:
    """End a run on Kubeflow Pipelines: its steps are told to stop; a training goes on from its checkpoint next time.

    [bold]Example[/bold]

      slipway cancel 2b6f1a9e-5d0c-4c39-9d1e-0a4b7c1f2d3e
    """
    from pipelines.runners.kubeflow import Kubeflow

    Kubeflow(settings()).terminate(run_id)
    Console(file=sys.stdout).print(f"cancelled {run_id}", highlight=False)
