"""slipway: runs the pipeline, starts and stops the embedded KServe, asks the endpoint.

slipway run                        # a laptop: simulated data, the whole line
slipway run --runner container     # … each step in its container
slipway run --runner cluster …     # the same compiled pipeline on Kubeflow Pipelines
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli import cluster as kubeflow
from cli import data as lake
from cli import exits, helptext, manifests, options, promotion, rollout, schedule, simulate, trigger
from cli.batch import batch
from cli.bootstrap import bootstrap
from cli.cards import cards
from cli.dashboard import dashboard
from cli.etl import etl
from cli.experiment import experiment
from cli.options import Runner
from cli.stage import stage
from cli.tune import tune
from slipway import config, workload
from slipway.errors import REFUSALS, ConfigError, SlipwayError
from slipway.settings import settings

HELP = """From raw events to an answered KServe request: one definition, on a laptop and on a cluster.

[bold]Examples[/bold]

slipway run                 # the whole line on simulated data, and serve what comes of it
slipway recommend 42        # ask it
slipway down                # end every process
"""
PIPELINES, SERVING, DATA, CLUSTER = "Pipelines and models", "Serving", "Data", "On a cluster"

app = typer.Typer(
    name="slipway",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(file=sys.stdout)  # this very stream: kfp.local prints, and stdout is redirected while it does


@app.command(rich_help_panel=PIPELINES)
def run(
    workload_name: options.Workload = "movies",
    profile: options.Profile = "demo",
    data: options.Data = "simulated",
    runner: options.RunsOn = Runner.local,
    wait: options.Wait = True,
    assignments: options.Assignments = None,
    workers: options.Workers = 0,
    gpu: options.Gpu = False,
    deploy: Annotated[bool, typer.Option(help="Serve the package when the gate admits it.")] = True,
    slo: Annotated[
        str, typer.Option(help='What staging holds the package to: demo, staging, production, a file; "" skips it.')
    ] = "demo",
    canary: Annotated[
        str, typer.Option(help='Policy of a judged rollout: default, or a file; "" gives it all traffic at once.')
    ] = "",
) -> None:
    """Run the pipeline: ingest → train → evaluate → (gate) → optimise → register → stage → deploy, or canary.

    Finished steps of an earlier run with the same inputs and code are skipped; a failed run goes on where it was.
    Exits with 3 when the gate refuses the challenger.

    [bold]Examples[/bold]

      slipway run
      slipway run --data ~/ml-1m --profile full
      slipway run --data lake
      slipway run --set train.epochs=3 --no-deploy
      slipway run --canary default          # judged on live traffic: slipway simulate traffic --rate 50
      slipway run --runner container        # images: python -m images build slipway-pipeline slipway-training
      SLIPWAY_KFP_ENDPOINT=https://… slipway run --runner cluster --data s3://bucket/ml-25m
    """
    from pipelines.parameters import Parameters, split_overrides

    overrides = config.parse_assignments(assignments or [])
    workload.load(workload_name).config(profile, overrides)  # refuse a misspelt key before anything starts
    if deploy:
        _check_rollout(slo, canary)
    parameters = Parameters(
        workload=workload_name,
        profile=profile,
        data=data,
        num_workers=workers,
        use_gpu=gpu,
        deploy=deploy,
        slo=_whole(slo),
        policy=_whole(canary),
        **split_overrides(overrides),
    )
    if runner is Runner.cluster:
        kubeflow.run(console, parameters, settings(), wait=wait)
        return

    from pipelines import fingerprint

    # Data that is not there needs no serving stack, and no seconds of imports.
    fingerprint.data_version(fingerprint.pinned(data, settings()))
    from cli import training
    from serving.embedded import stack

    starter = training.containers(console, settings()) if runner is Runner.container else None
    kubeconfig = None
    if deploy:
        stack.up(settings())
        kubeconfig = stack.kubeconfig(settings())
    outcome = training.run(console, parameters, settings(), kubeconfig, starter)
    training.show(console, outcome, parameters, settings())
    if not outcome.admitted:
        raise typer.Exit(exits.REFUSED)


def _check_rollout(slo: str, canary: str) -> None:
    """Raises ConfigError before anything starts."""
    from load_tests import slo as slos
    from slipway.rollout import policy

    if slo:
        slos.read(slo)
    if canary:
        policy.read(canary)


def _whole(name: str) -> str:
    """A step runs in another folder: a file is named by its whole path."""
    return str(Path(name).resolve()) if name and Path(name).is_file() else name


@app.command(rich_help_panel=SERVING)
def up() -> None:
    """Start the embedded KServe in the background, and wait for what was deployed before.

    [bold]Example[/bold]

      slipway up && export KUBECONFIG=$(slipway kubeconfig) && kubectl get inferenceservices
    """
    from cli import serving

    with console.status("starting the embedded KServe") as shown:
        serving.up(settings(), shown.update)
    status()


@app.command(rich_help_panel=SERVING)
def down() -> None:
    """Stop the embedded KServe and every server that it started; objects and logs stay.

    [bold]Example[/bold]

      slipway down
    """
    from serving.embedded import stack

    with console.status("draining and stopping"):
        stopped = stack.down(settings())
    console.print("stopped" if stopped else "the embedded KServe was not running")


@app.command(rich_help_panel=SERVING)
def status() -> None:
    """Show the embedded KServe: its services, revisions, ports and logs. Exits with 1 when it is down.

    [bold]Example[/bold]

      slipway status
    """
    from cli import serving

    serving.show_status(console, settings())


@app.command(rich_help_panel=SERVING)
def kubeconfig() -> None:
    """Print the path of the kubeconfig for the embedded API.

    [bold]Example[/bold]

      export KUBECONFIG=$(slipway kubeconfig)
    """
    from serving.embedded import stack

    typer.echo(stack.kubeconfig(settings()))


@app.command(rich_help_panel=SERVING)
def recommend(
    user: Annotated[int | None, typer.Argument(help="A user id of the data set; default: one with a history.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many.")] = 10,
    session: Annotated[
        list[int] | None, typer.Option("--session", help="Item ids of this very session, oldest first. Repeatable.")
    ] = None,
) -> None:
    """Ask the endpoint what a user may want next, and show it beside the user's history.

    [bold]Examples[/bold]

      slipway recommend
      slipway recommend 42 -k 5
      slipway recommend 999999999 --session 260 --session 1196
    """
    from cli import serving

    serving.recommend(console, settings(), user, k, session or [])


@app.command(name="compile", rich_help_panel=PIPELINES)
def compile_(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 when a file is stale.")] = False,
) -> None:
    """Compile the pipelines to pipelines/compiled/*.yaml, the files that Kubeflow Pipelines takes.

    [bold]Examples[/bold]

      slipway compile
      slipway compile --check
    """
    from pipelines import ir

    for pipeline in ir.PIPELINES:
        path = ir.path(pipeline)
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(ir.compile_ir(pipeline))
            console.print(f"wrote {shown}")
        elif not ir.is_current(pipeline):
            raise ConfigError(f"{shown} is stale", "run slipway compile and commit the result")
        else:
            console.print(f"{shown} is what the source says")


for panel, commands in {
    PIPELINES: (etl, tune, experiment, cards),
    SERVING: (stage, batch),
    DATA: (lake.ingest, dashboard),
    CLUSTER: (bootstrap, kubeflow.follow, kubeflow.cancel),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for group, name, panel in (
    (rollout.app, "rollout", SERVING),
    (lake.data, "data", DATA),
    (simulate.app, "simulate", DATA),
    (schedule.app, "schedule", CLUSTER),
    (trigger.app, "trigger", CLUSTER),
    (manifests.app, "manifests", CLUSTER),
    (promotion.app, "promotion", CLUSTER),
):
    app.add_typer(group, name=name, rich_help_panel=panel)
helptext.flow(app)


def main() -> None:
    """Every error on purpose is two lines, never a traceback; so is what the machine refuses."""
    try:
        app()
    except SlipwayError as error:
        _tell(error.message, error.remedy)
        sys.exit(1)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        _tell(
            f"{error.strerror}: {error.filename or 'while writing'}", "check the path, its rights and its disk's space"
        )
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == exits.INTERRUPTED and not isinstance(ended, kubeflow.LeftError):
            # Typer turns Ctrl-C into it, and says nothing
            Console(stderr=True).print("\ninterrupted; run the same command again to go on where it was")
        raise


def _tell(message: str, remedy: str) -> None:
    console = Console(stderr=True)
    console.print(f"[bold red]error:[/bold red] {escape(message)}", highlight=False, soft_wrap=True)
    if remedy:
        console.print(f"  [bold]→[/bold] {escape(remedy)}", highlight=False, soft_wrap=True)
