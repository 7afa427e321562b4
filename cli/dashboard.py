"""`slipway dashboard`: the data dashboard, until Ctrl-C."""

from typing import Annotated

import typer
from rich.console import Console

from cli import exits


def dashboard(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where it listens, on SLIPWAY_DASHBOARD_HOST (127.0.0.1).")
    ] = 8501,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser window.")] = True,
) -> None:
    """Open the data dashboard: volumes, activity, catalogue, data quality, drift, recommendations, one user's view.

    It reads the lake, the feature store and MLflow, and writes nothing. Ctrl-C stops it.

    [bold]Examples[/bold]

      slipway dashboard
      slipway dashboard --port 8600 --no-browser
      SLIPWAY_STORE_URI=s3://bucket/lake slipway dashboard
    """
    from dashboard import server

    console = Console()
    server.serve(
        port,
        browser=browser,
        started=lambda url: console.print(f"dashboard at [bold]{url}[/bold], Ctrl-C stops it", highlight=False),
    )
    raise typer.Exit(exits.INTERRUPTED)  # it ends by a signal only
