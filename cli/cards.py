"""`slipway cards`: the model card and the data card of a registered model, and the page of outside materials."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from cli import options
from slipway.settings import settings


def cards(
    workload_name: options.Workload = "movies",
    alias: Annotated[str, typer.Option(help="Which version of the registry: challenger, champion.")] = "challenger",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write <workload>-model.md and <workload>-data.md to, instead."),
    ] = None,
    materials: Annotated[
        Path | None, typer.Option(help="File to write the page of outside materials to, and nothing else.")
    ] = None,
) -> None:
    """Read the cards that a training run made: what the model is, what it is for, how good, on which data.

    [bold]Examples[/bold]

      slipway cards
      slipway cards --alias champion --out docs/cards
      slipway cards --materials docs/outside-materials.md
    """
    from slipway import workload
    from slipway.cards import card
    from slipway.cards.about import read_materials

    console = Console(file=sys.stdout)
    if materials is not None:
        workload.load(workload_name)
        _write(
            console, materials, card.materials_page(read_materials(workload.folder(workload_name) / "materials.yaml"))
        )
        return
    from slipway.tracking import Tracker

    with tempfile.TemporaryDirectory(prefix="slipway-cards-") as scratch:
        folder = Tracker(settings().tracking, workload_name).artifacts(workload_name, alias, "cards", Path(scratch))
        for name in (card.MODEL_CARD, card.DATA_CARD):
            text = (folder / name).read_text("utf-8")
            if out is None:
                console.print(Markdown(text))
            else:
                _write(console, out / f"{workload_name}-{name.removesuffix('_card.md')}.md", text)


def _write(console: Console, path: Path, text: str) -> None:
    from slipway import storage

    storage.write_atomically(path, text)
    console.print(f"wrote {path}", highlight=False, soft_wrap=True)
