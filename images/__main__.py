"""python -m images: lists, builds, pushes and describes the images. Knows the screen."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from images import base as bases
from images import build as builder
from images import engine, locks
from images.catalogue import IMAGES, Image, named
from slipway.errors import ImageError, SlipwayError

app = typer.Typer(
    name="python -m images",
    help="The container images: pipeline, training, serving, stream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
Names = Annotated[list[str] | None, typer.Argument(help="pipeline, training, serving, stream; default: all.")]


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _tell(bar: Progress, task: TaskID, image: Image, what: str, share: float) -> None:
    bar.update(task, completed=share, description=f"{image.name}: {what}")


@app.command("list")
def show() -> None:
    """Say which images there are, and which of them are built.

    [bold]Examples[/bold]

      python -m images list
    """
    table = Table("image", "what it is", "size", "commit", box=None, header_style="bold")
    for image in IMAGES:
        found = engine.inspect(image.tag)
        labels = (found or {}).get("Labels") or {}
        size = f"{found['Size'] / 1e6:,.0f} MB" if found else "not built"
        table.add_row(image.full_name, image.title, size, labels.get("org.opencontainers.image.revision", "")[:12])
    console.print(table)


@app.command()
def base(
    again: Annotated[bool, typer.Option("--again", help="Also when it is there: with today's updates.")] = False,
) -> None:
    """Make the base image from Debian's packages, where no registry can be reached.

    [bold]Examples[/bold]

      python -m images base
      python -m images base --again        # Debian's security updates of today
    """
    with _bar() as bar, engine.alone():
        if not again and bases.is_made():
            console.print(f"{bases.TAG} is there")
            return
        task = bar.add_task("making the base", total=None)
        bases.make(lambda text: bar.update(task, description=text[:80]))
    console.print(f"made {bases.TAG}")


@app.command()
def build(
    names: Names = None,
    base: Annotated[str, typer.Option(help="What the images stand on.")] = bases.TAG,
    push_to: Annotated[str, typer.Option(help="A registry's prefix, or oci:<folder>; none: they stay here.")] = "",
    digests: Annotated[Path | None, typer.Option(help="With --push-to: a JSON file of what was pushed.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Reuse no layer: Debian's updates come in.")] = False,
    source: Annotated[str, typer.Option(help="Where the code is, for the label; a URL.")] = "",
) -> None:
    """Build images into podman's store. A second build reuses every layer whose inputs are the same.

    [bold]Examples[/bold]

      python -m images base && python -m images build
      python -m images build serving
      python -m images build --base python:3.11-slim-bookworm          # where a registry can be reached
      python -m images build training --base nvidia/cuda:13.0.2-runtime-ubuntu24.04
      python -m images build --push-to registry.example.com/slipway --digests digests.json
    """
    wanted = named(names or [])
    if digests and not push_to:
        raise ImageError("--digests names what was pushed, and nothing is", "add --push-to <registry>/<project>")
    if digests and not digests.absolute().parent.is_dir():  # known now, and not when all is pushed
        raise ImageError(f"there is no folder {digests.absolute().parent}", "make it, or name another: --digests")
    pushed = {}
    for image in wanted:
        with _bar() as bar:
            told = partial(_tell, bar, bar.add_task("", total=1.0), image)
            built = builder.build(image, base, source, told, anew=anew)
            console.print(
                f"{image.tag}  {built.size / 1e6:,.0f} MB  {built.seconds:.1f} s  {built.id[:12]}",
                highlight=False,
                soft_wrap=True,
            )
            if push_to:
                told(f"pushing to {push_to}", 1.0)
                pushed[image.full_name] = builder.push(image, push_to)
                console.print(f"  {pushed[image.full_name]}", highlight=False, soft_wrap=True)
    if digests:
        builder.write_digests(digests, pushed)


@app.command()
def lock(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when something is old.")] = False,
) -> None:
    """Write images/locks from pyproject.toml and requirements.lock.

    [bold]Examples[/bold]

      python -m images lock
      python -m images lock --check
    """
    texts = locks.written()
    old = locks.differing(texts)
    if check and old:
        raise ImageError(f"images/locks is not what the project asks for: {', '.join(old)}", locks.REMEDY)
    for name in old:
        (locks.FOLDER / f"{name}.txt").write_text(texts[name])
    console.print(f"written: {', '.join(old)}" if old else "nothing to do: every lock is as it must be")


@app.command()
def sbom(
    names: Names = None,
    out: Annotated[Path, typer.Option(help="Folder of the files, <image>.cdx.json.")] = Path("sbom"),
) -> None:
    """Write down what is in each built image, as CycloneDX 1.6.

    [bold]Examples[/bold]

      python -m images sbom
      python -m images sbom serving --out /tmp/sbom
    """
    from images import sbom as boms

    for image in named(names or []):
        path = out / f"{image.full_name}.cdx.json"
        count = boms.write(image, path)
        console.print(f"{path}  {count} components", highlight=False, soft_wrap=True)


def main() -> None:
    """Every error on purpose is a few lines, never a traceback."""
    try:
        app()
    except SlipwayError as error:
        stderr = Console(stderr=True)
        stderr.print("[bold red]error:[/bold red] ", end="")
        stderr.print(error.message, markup=False, highlight=False, soft_wrap=True)
        if error.remedy:
            stderr.print(f"  → {error.remedy}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
