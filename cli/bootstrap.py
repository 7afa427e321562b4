"""`slipway bootstrap`: Argo CD and the root Application onto a cluster. Knows options and screens."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from cluster.bootstrap import Application


def bootstrap(
    root: Annotated[Path, typer.Option("--root", help="A checkout of the repository that Argo CD will read.")] = Path(),
    install: Annotated[
        Path | None,
        typer.Option("--install", exists=True, dir_okay=False, help="Argo CD's manifest, downloaded before."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow every part until it is healthy.")] = True,
    timeout: Annotated[float, typer.Option(min=60, help="Seconds for all of it.")] = 3600.0,
) -> None:
    """Install Argo CD at a pinned version, by its hash, and give it the root Application; from then on Git rules.

    KUBECONFIG names the cluster. Doing it again changes nothing.

    [bold]Examples[/bold]

      slipway bootstrap
      slipway bootstrap --no-wait
      slipway bootstrap --install argo-cd-install.yaml
    """
    from cluster import bootstrap as steps

    console = Console(file=sys.stdout)
    reads = steps.check(root)
    console.print(f"Argo CD {steps.VERSION} will read {reads}", highlight=False, soft_wrap=True)
    with console.status("bringing Argo CD") as shown:
        content = steps.bring(install)
        steps.install(content, root, shown.update, min(timeout, 600.0))
    console.print("Argo CD runs, and has the root Application", highlight=False)
    if wait:
        unserved = steps.empty(root)
        with Live(console=console, refresh_per_second=2) as live:
            steps.wait(lambda found: live.update(_table(found)), timeout, unserved)
        if unserved:
            console.print(f"no package yet in {', '.join(sorted(unserved))}: slipway promotion open --to staging")


def _table(found: "list[Application]") -> Table:
    table = Table("wave", "application", "sync", "health", "", box=None, header_style="bold")
    for one in found:
        colour = "green" if one.done else "red" if one.health == "Degraded" else "yellow"
        table.add_row(str(one.wave), one.name, one.sync, f"[{colour}]{one.health}[/{colour}]", one.message)
    return table
