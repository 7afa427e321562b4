"""`slipway stage`: what the pipeline's stage step does, with a bar and a table. Shows, and decides nothing."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from slipway.errors import ConfigError
from slipway.settings import Settings, settings

if TYPE_CHECKING:
    from components.stage.verdict import Verdict

SCHEME = "models:/"
MARKS = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "skipped": "[dim]–[/dim]"}


def stage(
    package: Annotated[
        str, typer.Option("--package", "-p", help="models:/<model>@<alias>, or the file:/// or s3:// URI of a package.")
    ] = "models:/movies@challenger",
    slo_name: Annotated[str, typer.Option("--slo", help="demo, staging, production, or a YAML file.")] = "demo",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new folder for the report, CSV and plots.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service in namespace staging afterwards.")] = False,
) -> None:
    """Try a package before anybody sees it: deploy to staging, integration suite, load under an SLO, remove.

    Exits with 1 when a check or an objective does not hold. Where KUBECONFIG names a cluster, it is tried there;
    else on the embedded KServe, which is started.

    [bold]Examples[/bold]

      slipway stage
      slipway stage --package models:/movies@challenger --slo staging
      slipway stage --slo my-slo.yaml --out report --keep
    """
    from components.stage import step
    from components.stage.verdict import RefusedError
    from load_tests import slo
    from serving.embedded import stack

    env, console = settings(), Console()
    slo.read(slo_name)  # refuse a misspelt file before anything is asked or started
    workload_name, uri, run_id = find(package, env)
    if not os.environ.get("KUBECONFIG"):
        with console.status("starting the embedded KServe"):
            stack.up(env)
        os.environ["KUBECONFIG"] = str(stack.kubeconfig(env))
    remove = f"kubectl delete isvc {workload_name} -n {env.staging_namespace}" if keep else ""
    columns = (SpinnerColumn(), BarColumn(28), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=1.0)

            def shown(what: str, share: float, metrics: object) -> None:
                bar.update(task, completed=share, description=escape(f"{what} {_figures(metrics)}".strip()))

            verdict = step.stage(workload_name, uri, run_id, slo_name, shown, keep=keep, out=out)
    except RefusedError as refused:
        show(console, refused.verdict, remove)
        raise
    show(console, verdict, remove)


def find(package: str, env: Settings) -> tuple[str, str, str]:
    """(workload, URI, MLflow run or "") of a package. Raises ConfigError, TrackingError."""
    from slipway import storage
    from slipway.package import MANIFEST, Manifest
    from slipway.tracking import Tracker

    if package.startswith(SCHEME):
        model, at, alias = package.removeprefix(SCHEME).partition("@")
        if not (model and at and alias):
            raise ConfigError(f"{package!r} names no registered package", "write models:/movies@challenger")
        tracker = Tracker(env.tracking, model)
        uri = tracker.package_uri(model, alias)
        return model, uri, str(tracker.client.get_model_version_by_alias(model, alias).run_id or "")
    if not package.startswith(("file:///", "s3://")):
        raise ConfigError(f"{package!r} is no package", "write models:/movies@challenger, file:///… or s3://…")
    manifest = Manifest.model_validate_json(storage.store(package, env.s3_endpoint_url).read(MANIFEST))
    return manifest.workload, package, ""


def show(console: Console, verdict: "Verdict", remove: str = "") -> None:
    """remove: the command that removes what was kept."""
    checks = Table("", "check", "what was found", title="Integration suite", title_justify="left")
    for finding in verdict.findings:
        checks.add_row(MARKS[finding.result], finding.name, escape(finding.detail))
    console.print(checks)
    if verdict.load is not None:
        held = Table(
            "", "objective", "measured", "bound", "margin", title=f"Load, SLO {verdict.slo}", title_justify="left"
        )
        for one in verdict.load.outcomes:
            margin = "" if one.margin is None else f"{one.margin:+.0%}"
            bound = f"{'≥' if one.at_least else '≤'} {one.bound:g}"
            held.add_row(
                MARKS["passed" if one.held else "failed"], one.name, f"{one.measured:.4g} {one.unit}", bound, margin
            )
        console.print(held)
    word = "[green]passed[/green]" if verdict.passed else "[red]refused[/red]"
    console.print(f"Package {verdict.package} {word} in {verdict.seconds:.0f} s", highlight=False)
    if remove:
        console.print(f"kept: {verdict.url}; remove it with {remove}", highlight=False, soft_wrap=True)


def _figures(metrics: object) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in metrics.items()) if isinstance(metrics, dict) else ""
