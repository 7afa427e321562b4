"""slipway batch: recommendations for all users of a package, on the screen. Knows where packages lie; asks nobody."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli import packages
from slipway.errors import ConfigError, PackageError
from slipway.package import Package, check_golden
from slipway.settings import Settings, settings

REGISTERED = "models:/"


def batch(
    out: Annotated[str, typer.Option("--out", "-o", help="A folder or s3:// URI for the Parquet parts.")],
    package: Annotated[
        str,
        typer.Option(
            "--package", "-p", help="models:/<model>@<alias>, a package's folder, or its file:// or s3:// URI."
        ),
    ] = "models:/movies@champion",
    users: Annotated[
        Path | None, typer.Option(help="A Parquet or CSV file with a column `user`; default: the package's own users.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many for each user.")] = 10,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes of Ray; 0: this one. Default: by how many users there are.")
    ] = None,
    part_users: Annotated[int, typer.Option(min=1, help="Users of one part, which is whole or absent.")] = 2000,
) -> None:
    """Recommend to many users at once, into Parquet parts: user, rank, item, score, source, package_version.

    The answers are the package's own, the endpoint's where no feature store is connected. A run that was interrupted
    or killed goes on where it was: the same command again does the parts that are missing.

    [bold]Examples[/bold]

      slipway batch --out recommendations
      slipway batch --package models:/movies@challenger --out s3://bucket/recommendations -k 50
      slipway batch --package ./package --users members.csv --out recommendations --workers 2
    """
    from slipway.workloads.movies import batch as job

    console, env = Console(), settings()
    target = out if "://" in out else Path(out).expanduser().absolute().as_uri()
    opened = find(package, env)
    asked = job.read_users(opened, users)
    _check(opened)
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as shown:
        task = shown.add_task("users", total=len(asked))
        report = job.recommend(
            opened,
            asked,
            target,
            k,
            lambda done, total: shown.update(task, completed=done, total=total),
            workers,
            part_users,
            env.s3_endpoint_url,
        )
    before = f", {report.skipped:,} before" if report.skipped else ""
    rate = f" in {report.seconds:.1f} s, {report.answered / report.seconds:,.0f} users/s" if report.answered else ""
    console.print(
        f"{report.answered:,} users answered by package {opened.version}{rate}{before}: {target}", soft_wrap=True
    )


def find(package: str, env: Settings) -> Package:
    """Raises TrackingError, StorageError or PackageError."""
    if package.startswith(REGISTERED):
        model, _, alias = package.removeprefix(REGISTERED).partition("@")
        if not model or not alias:
            raise ConfigError(f"{package!r} is no registered model", "write models:/<model>@<alias>")
        from slipway.tracking import Tracker  # mlflow

        package = Tracker(env.tracking, model).package_uri(model, alias)
    if "://" not in package:
        folder = Path(package).expanduser()
        if not folder.is_dir():
            raise PackageError(f"there is no folder {folder}", "name a package's folder, its URI, or models:/…")
        return Package.open(folder)
    return packages.fetch(package, env)


def _check(package: Package) -> None:
    """This machine answers as the one did that packaged it. Raises PackageError."""
    from slipway import workload

    if package.manifest.workload != "movies":
        raise PackageError(f"package {package.version} is of {package.manifest.workload!r}", "name one of movies")
    predictor = workload.load("movies").predictor(package)
    check_golden(package, lambda inputs: predictor.predict(inputs).outputs)
