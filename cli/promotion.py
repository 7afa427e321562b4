"""`slipway promotion`: a package from one environment to the next, by pull request. Shows, and decides nothing."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from slipway.errors import SameError, TrackingError
from slipway.settings import settings

if TYPE_CHECKING:
    from cluster.promotion import Candidate, Environment

app = typer.Typer(
    no_args_is_help=True,
    help="Bring a package from the registry to staging, canary and production, by pull request.",
    rich_markup_mode="rich",
)

To = Annotated[str, typer.Option("--to", help="staging (from the registry), canary (from staging), production.")]
Model = Annotated[str, typer.Argument(help="A registered model.")]
Package = Annotated[
    str,
    typer.Option("--package", "-p", help="Alias, number or version. Default: challenger, or what is one step before."),
]
Root = Annotated[Path, typer.Option("--root", help="A checkout of the repository that Argo CD reads.")]


@app.command()
def body(to: To, model: Model = "movies", package: Package = "", root: Root = Path()) -> None:
    """Print what a reviewer would read, as Markdown; change nothing. Exits with 1 where the package may not go there.

    [bold]Examples[/bold]

      slipway promotion body --to staging
      slipway promotion body movies --to production
    """
    from cluster import promotionpage

    candidate, environment, before, current = _prepared(model, package, to, root)
    sys.stdout.write(promotionpage.body(candidate, environment, before, current))


@app.command(name="open")
def open_(
    to: To,
    model: Model = "movies",
    package: Package = "",
    root: Root = Path(),
    base: Annotated[str, typer.Option(help="The branch that Argo CD reads.")] = "main",
    if_new: Annotated[bool, typer.Option("--if-new", help="That it is there already is no error.")] = False,
) -> None:
    """Open a pull request that changes one line, with the evaluation in its body; one that is open is found again.

    Needs `gh` with a login, or GH_TOKEN.

    [bold]Examples[/bold]

      slipway promotion open --to staging
      slipway promotion open movies --to production --package 3f9a12c4d5e6
    """
    from cluster import promotion, promotionpage

    console = Console(file=sys.stdout)
    try:
        candidate, environment, before, current = _prepared(model, package, to, root)
    except SameError as same:
        if not if_new:
            raise
        console.print(same.message, highlight=False)
        return
    text = promotionpage.body(candidate, environment, before, current)
    name = promotionpage.title(candidate, environment)
    with console.status("opening the pull request"):
        url = promotion.open_pull_request(root, base, environment, candidate.registered.uri, name, text)
    console.print(f"{name}: {url}", highlight=False, soft_wrap=True)


def _prepared(model: str, package: str, to: str, root: Path) -> "tuple[Candidate, Environment, str, Candidate | None]":
    from cluster import promotion
    from cluster.promotion import Environment
    from slipway.tracking import Tracker

    environment = Environment.of(to)
    before = promotion.version(promotion.served(root, environment))
    which = package.rpartition("@")[2] or promotion.next_up(root, environment)
    tracker = Tracker(settings().tracking, model)
    candidate = promotion.gather(tracker, model, which)
    promotion.check(candidate, environment, root)
    current = None
    if before != promotion.NOTHING:
        try:
            current = promotion.gather(tracker, model, before)
        except TrackingError:  # it was registered elsewhere, or removed: the page says so
            current = None
    return candidate, environment, before, current
