"""A slipway.workload.Progress on the screen. Knows what is said of work, not the work."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from slipway.workload import Progress


@contextmanager
def bar(console: Console) -> Iterator[Progress]:
    """A bar on a terminal, a line per new activity elsewhere."""
    shown = Bar(
        SpinnerColumn(),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    )
    with shown:
        task, said = shown.add_task("", total=1.0), ""

        def show(what: str, share: float, metrics: Mapping[str, float]) -> None:
            nonlocal said
            facts = " ".join(f"{label} {value:,.4g}" for label, value in metrics.items())
            shown.update(task, completed=share, description=f"{what} {facts}")
            if what != said and not console.is_terminal:
                console.print(f"{share:4.0%} {what}", highlight=False, soft_wrap=True)
            said = what

        yield show
