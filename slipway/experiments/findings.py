"""What an experiment found: a table, plots and notes. Knows neither files nor how it was found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = str | int | float | None
Draw = Callable[["Axes"], None]
"""Draws one plot into axes that are already there, without pyplot."""


@dataclass(frozen=True)
class Findings:
    """Written to a page by slipway.experiments.page.

    question: what was asked, in a sentence or two of Markdown. rows: as long as columns; numbers stay numbers and are
    formatted on the page (four significant digits), None is a dash. notes: Markdown, one paragraph or caveat each.
    figures: {"curve": draw} becomes <name>-curve.svg. command: by default the one that was typed.
    """

    title: str
    question: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    figures: Mapping[str, Draw] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} cells for {len(self.columns)} columns: {row}")
