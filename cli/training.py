"""A pipeline run on the screen: progress while it runs, the table and where things lie afterwards."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.parameters import Parameters
from pipelines.runners import local
from pipelines.runners.local import Outcome, Starter
from pipelines.runners.monitor import Step
from slipway.evaluation.results import Evaluation
from slipway.settings import Settings
from slipway.tracking import Tracker

MARKS = {"running": "…", "done": "[green]✓[/green]", "cached": "[cyan]≡[/cyan]", "failed": "[red]✗[/red]"}


class View:
    """One progress bar per step on a terminal; one line per change of state elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.fields[mark]} {task.description:<9}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}

    def changed(self, step: Step) -> None:
        what = f"{step.what} {_metrics(step.metrics)}" if step.state == "running" else _finished(step)
        if step.name not in self._tasks:
            self._tasks[step.name] = self.progress.add_task(step.name, total=1.0, mark="", what="")
        self.progress.update(self._tasks[step.name], completed=step.share, mark=MARKS[step.state], what=what)
        if not self.console.is_terminal and self._states.get(step.name) != step.state:
            self._states[step.name] = step.state
            self.console.print(f"{MARKS[step.state]} {step.name} {what}".rstrip(), highlight=False)


def run(
    console: Console, parameters: Parameters, env: Settings, kubeconfig: Path | None, starter: Starter | None = None
) -> Outcome:
    view = View(console)
    with view.progress:
        return local.run(parameters, env, view.changed, kubeconfig, starter)


def containers(console: Console, env: Settings) -> Starter:
    """Raises ConfigError when there is no engine or no image."""
    from pipelines.runners.container import Containers

    found = Containers(env)
    if stale := found.stale():
        console.print(
            f"[yellow]warning[/yellow]   {stale}; steps run the images' code", highlight=False, soft_wrap=True
        )
    return found


def show(console: Console, outcome: Outcome, parameters: Parameters, env: Settings) -> None:
    """The quality table, the gate's word, and where the runs, the report and the endpoint are."""
    evaluation = Evaluation.read(outcome.evaluation)
    console.print()
    console.print(quality(evaluation))
    console.print(f"\nGate      {evaluation.verdict.reason}", highlight=False, soft_wrap=True)
    console.print(f"Report    {(outcome.evaluation / 'report.html').as_uri()}", soft_wrap=True, highlight=False)
    console.print(f"MLflow    run {outcome.run_id} in {env.tracking}", soft_wrap=True, highlight=False)
    console.print(
        f"          mlflow ui --backend-store-uri {shlex.quote(env.tracking)}", soft_wrap=True, highlight=False
    )
    console.print(f"Log       {outcome.log}", soft_wrap=True, highlight=False)
    if outcome.admitted:
        tags = Tracker(env.tracking, parameters.workload).run(outcome.run_id).tags()
        name = f"models:/{parameters.workload}@challenger"
        console.print(f"Package   {tags['package_version']}  {name}", soft_wrap=True, highlight=False)
        if parameters.deploy:
            console.print(f"Endpoint  {tags['endpoint']}", soft_wrap=True, highlight=False)


def quality(evaluation: Evaluation) -> Table:
    """One row per model; half the interval's width beside the metric that the gate judges."""
    protocol = evaluation.primary.split("_", 1)[1]
    title = f"{protocol}: {evaluation.cases:,} cases of {evaluation.users:,} users"
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for metric in [*evaluation.rows[0].intervals, *evaluation.rows[0].figures]:
        table.add_column(metric.removesuffix(f"_{protocol}"), justify="right", no_wrap=True)
    for row in evaluation.rows:
        cells = [
            f"{i.value:.4f}" + (f" ±{(i.high - i.low) / 2:.4f}" if metric == evaluation.primary else "")
            for metric, i in row.intervals.items()
        ]
        table.add_row(row.model, *cells, *(f"{value:.3f}" for value in row.figures.values()))
    return table


def _metrics(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:,.4g}" for name, value in metrics.items())


def _finished(step: Step) -> str:
    if step.state == "cached":
        return "same inputs, same code: taken from an earlier run"
    return f"{step.seconds:.1f} s, {step.overhead:.1f} s of it overhead (process, imports, KFP)" if step.seconds else ""
