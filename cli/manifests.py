"""`slipway manifests …`: what the second place would be told, held against what can be known of it here. Knows
screens only.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipway.settings import settings

console = Console()
app = typer.Typer(no_args_is_help=True, help="Kubernetes manifests: check, list, fetch their definitions, pin images.")

REFUSED = 1
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the manifests; default: those of the checkout that you are in.")
]


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Overlays, such as apps/production; default: all.")] = None,
    crds: Annotated[
        Path | None,
        typer.Option(
            "--crds",
            envvar="SLIPWAY_TEST_CRDS",
            help="Folder with the CRDs: <source>/<file>; default: what fetch-crds brought.",
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Build each overlay and hold every object against its schema, its CEL rules, and our own lints. Offline.

    Exits with 1 when anything is found; each line names the overlay, the object, where in it, and the remedy.

    [bold]Examples[/bold]

      slipway manifests check
      slipway manifests check apps/production platform/mlflow
      slipway manifests check --crds ~/crds
    """
    from cluster import overlays, validation
    from cluster.crds import Definitions

    home = settings().home
    folder = validation.folder_of_definitions(crds, home)
    definitions = Definitions(folder, validation.cached(home) / "parsed")
    with console.status("building and checking …"):
        report = validation.check(names or [], definitions, overlays.here(root))
    for finding in report.findings:
        where = f"{finding.overlay}: {finding.object}" + (f" {finding.path}" if finding.path else "")
        console.print(f"[bold]{finding.check}[/bold] ", end="")
        console.print(f"{where}: {finding.message}", highlight=False, markup=False, soft_wrap=True)
        if finding.remedy:
            console.print(f"  → {finding.remedy}", highlight=False, markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE)
    for column in ("overlay", "objects", "findings"):
        table.add_column(column, justify="left" if column == "overlay" else "right")
    for overlay in report.overlays:
        objects = sum(o.overlay == overlay.name for o in report.objects)
        found = sum(f.overlay == overlay.name for f in report.findings)
        table.add_row(overlay.name, f"{objects}", f"{found}" if found else "")
    console.print(table)
    rules = report.rules
    console.print(
        f"{len(report.objects)} objects of {len(report.kinds)} kinds, {report.unvalidated} without a schema; "
        f"CEL: {len(rules.distinct)} rules run {rules.evaluated} times, {len(rules.unevaluated)} not evaluated, "
        f"{rules.transitions} of changes only; {report.lints} lints; {len(report.findings)} findings, "
        f"{len(report.waived)} waived; {report.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    if not report.lints:
        console.print("the lints wait until everything is built: they look for names in all of it")
    for finding, reason in report.waived:
        line = f"waived: {finding.check} {finding.object} {finding.path}: {reason}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for rule, why in rules.unevaluated.items():
        console.print(f"not evaluated: {why}: {rule}", highlight=False, markup=False, soft_wrap=True)
    if report.findings or report.unvalidated or rules.unevaluated:
        raise typer.Exit(REFUSED)


@app.command(name="list")
def list_(root: Root = None) -> None:
    """What is applied: every kustomization that no other takes in; and what stands in for it on another cluster.

    [bold]Example[/bold]

      slipway manifests list
    """
    from cluster import overlays

    table = Table(box=box.SIMPLE)
    table.add_column("overlay")
    table.add_column("instead of")
    table.add_column("cluster")
    for overlay in overlays.find(overlays.here(root)):
        table.add_row(overlay.name, overlay.instead_of, overlay.world)
    console.print(table)


@app.command(name="fetch-crds")
def fetch_crds() -> None:
    """Bring the definitions that cluster/crds.yaml pins into SLIPWAY_HOME/cache/crds; what is there is kept.

    Each file comes from its project's repository at a commit, and is refused when its SHA-256 is not the pinned one.

    [bold]Example[/bold]

      slipway manifests fetch-crds
    """
    from cluster import crds, validation

    folder = validation.cached(settings().home)
    with console.status("fetching …") as status:
        brought = crds.fetch(folder, lambda name: status.update(f"fetching {name} …"))
    count = sum(len(source.files) for source in crds.pins().sources.values())
    console.print(f"{folder}: {count} definitions, {brought} of them brought now", highlight=False, soft_wrap=True)


@app.command()
def pin(
    where: Annotated[str, typer.Argument(help="An environment (staging) or overlay; or an image (serving).")],
    what: Annotated[str, typer.Argument(help="slipway-serving=sha256:…; or of an image: <registry>/serving@sha256:….")],
    root: Root = None,
) -> None:
    """Write an image's digest into the kustomization.yaml of one environment, or of every overlay that runs it.

    Nothing else of the files changes. Refused: a digest that is none, an unknown environment, an unknown image.

    [bold]Examples[/bold]

      slipway manifests pin staging slipway-serving=sha256:9f86d081…
      slipway manifests pin serving registry.example.com/slipway/serving@sha256:9f86d081…
    """
    from cluster import overlays, pins

    changed = pins.pin(where, what, overlays.here(root))
    for path in changed:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if not changed:
        console.print("nothing to write: it is that digest already", highlight=False)


@app.command()
def rules() -> None:
    """Each of our own rules: what must hold, and what to do where it does not.

    [bold]Example[/bold]

      slipway manifests rules
    """
    from cluster import lints

    table = Table(box=box.SIMPLE)
    for column in ("lint", "what must hold", "remedy"):
        table.add_column(column, overflow="fold")
    for one in lints.ALL.values():
        table.add_row(one.id, escape(one.sentence), escape(one.remedy))
    console.print(table)
