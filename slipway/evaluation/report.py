"""evaluation.json as one HTML page: no scripts, no links to follow, every picture inside. Knows no model by name."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from itertools import cycle
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from slipway.evaluation.results import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's palette without its yellow, which is too faint on white; styles tell the lines apart without colour.
COLOURS = ("#7a7a7a", "#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7")
MARKERS = ("s", "v", "D", "^", "o", "*", "P")

Draw = Callable[["Axes"], None]


def render(evaluation: Evaluation) -> str:
    """The whole page as text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("slipway.evaluation").joinpath("report.html").read_text("utf-8"))
    return template.render(
        e=evaluation,
        columns=[*evaluation.rows[0].intervals, *evaluation.rows[0].figures],
        figures=[{"title": title, "source": _picture(draw), "alt": alt} for title, alt, draw in _figures(evaluation)],
    )


def _figures(evaluation: Evaluation) -> list[tuple[str, str, Draw]]:
    styles = dict(zip([row.model for row in evaluation.rows], cycle(zip(COLOURS, MARKERS, strict=True)), strict=False))
    primary = {row.model: row.intervals[evaluation.primary] for row in evaluation.rows}
    heights = ", ".join(f"{model} {interval.value:.3f}" for model, interval in primary.items())
    metric = f"NDCG@{evaluation.k}"
    figures: list[tuple[str, str, Draw]] = [
        (f"{metric} of each model, with its 95 % interval", heights, lambda axes: _bars(axes, evaluation, styles)),
        (
            "Recall among the first k",
            "recall from 1 to 100 recommended items, one line per model",
            lambda axes: _recall(axes, evaluation, styles),
        ),
    ]
    for by in evaluation.slices:
        figures.append(
            (
                f"{metric} by {by}",
                f"{metric} of each model for parts of the cases, by {by}",
                lambda axes, by=by: _sliced(axes, evaluation, by, styles),  # type: ignore[misc]
            )
        )
    figures += [
        (f"Training: {name} per epoch", f"{name} per epoch", lambda axes, n=name, p=points: _epochs(axes, n, p))  # type: ignore[misc]
        for name, points in evaluation.training.items()
    ]
    return figures


def _bars(axes: "Axes", evaluation: Evaluation, styles: Mapping[str, Any]) -> None:
    for place, row in enumerate(reversed(evaluation.rows)):
        found = row.intervals[evaluation.primary]
        errors = [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
        axes.barh(place, found.value, xerr=errors, color=styles[row.model][0], error_kw={"capsize": 3, "elinewidth": 1})
        axes.text(found.high, place, f"  {found.value:.4f}", va="center", fontsize=9)
    axes.set_yticks(range(len(evaluation.rows)), [row.model for row in reversed(evaluation.rows)])
    axes.set_xlim(0, max(row.intervals[evaluation.primary].high for row in evaluation.rows) * 1.15 or 1)
    axes.grid(visible=False, axis="y")


def _recall(axes: "Axes", evaluation: Evaluation, styles: Mapping[str, Any]) -> None:
    for row in evaluation.rows:
        colour, marker = styles[row.model]
        axes.plot(range(1, len(row.recall) + 1), row.recall, color=colour, marker=marker, markevery=11, label=row.model)
    axes.set_xlabel("k")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _sliced(axes: "Axes", evaluation: Evaluation, by: str, styles: Mapping[str, Any]) -> None:
    parts = evaluation.slices[by]
    for model, (colour, marker) in styles.items():
        axes.plot([part.values[model] for part in parts], color=colour, marker=marker, label=model)
    axes.set_xticks(range(len(parts)), [f"{part.label}\n{part.cases:,}" for part in parts], fontsize=8)
    axes.set_xlabel(f"{by}; below it, the number of cases")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _epochs(axes: "Axes", name: str, points: Sequence[tuple[float, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot(*zip(*points, strict=True), color=COLOURS[2], marker="o", markersize=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _picture(draw: Draw) -> str:
    """An SVG as a data URI; drawn without pyplot, so nothing global is touched and threads do not meet."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e6e6e6",
        "font.size": 10,
        "lines.markersize": 4,
        "svg.hashsalt": "slipway",  # equal evaluations draw equal bytes
    }
    buffer = io.BytesIO()
    with rc_context(style):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        draw(figure.subplots())
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
