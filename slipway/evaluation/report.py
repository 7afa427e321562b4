"""evaluation.json as one HTML page: no scripts, no links to follow, every picture inside. Knows no model by name.

Curves are drawn by matplotlib; dots with their intervals are SVG in the text itself, so that they stay beside the
words and numbers that they belong to.
"""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import cycle
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from slipway.evaluation.bootstrap import Interval
from slipway.evaluation.checks import Check, Outcome
from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.results import Evaluation
from slipway.evaluation.slices import BAR, GAIN, SERVED, Estimate, Slicing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's palette without its yellow, which is too faint on white, and three more; markers tell lines apart, too.
COLOURS = ("#7a7a7a", "#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#5b3fa0", "#111111", "#8c6d31")
MARKERS = ("s", "v", "D", "^", "o", "*", "P", "X", "h", "<")
BEHAVIOUR = {  # in the order of the page
    Kind.FAILURE_MODE: "Known failure modes",
    Kind.TEMPLATE: "Template tests",
    Kind.CASE: "Domain cases",
}
WIDTH, HEIGHT, EDGE = 240, 22, 5  # of a strip, in its own units

Draw = Callable[["Axes"], None]


def render(evaluation: Evaluation) -> str:
    """The whole page as text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"soft": _soft, "n": "{:,}".format, "four": "{:.4f}".format, "signed": "{:+.4f}".format}
    template = environment.from_string(files("slipway.evaluation").joinpath("report.html").read_text("utf-8"))
    styles = _styles(evaluation)
    blocked = [c for c in evaluation.checks if c.blocking and c.outcome is Outcome.FAILED]
    return template.render(
        e=evaluation,
        metric=f"NDCG@{evaluation.k}",
        columns=[*evaluation.rows[0].intervals, *evaluation.rows[0].figures],
        blocked=blocked,
        warned=[c for c in evaluation.checks if not c.blocking and c.outcome is Outcome.FAILED],
        counted={outcome: sum(c.outcome is outcome for c in evaluation.checks) for outcome in Outcome},
        checks=sorted(evaluation.checks, key=_severity),
        gains=_strips([[stage.gain] for stage in evaluation.stages], zero=True),
        slicings=[_sliced(slicing) for slicing in evaluation.slicings if not slicing.absent],
        absent=[slicing for slicing in evaluation.slicings if slicing.absent],
        groups=[
            (c, _strips([[Estimate(value=g.value), Estimate(value=g.bar)] for g in c.groups]))
            for c in evaluation.fairness
        ],
        behaviour=_behaviour(evaluation),
        calibration=[m for m in evaluation.measurements if m.kind is Kind.CALIBRATION],
        others=[m for m in evaluation.measurements if m.kind is Kind.METRIC],
        tables=[(table, [*next(iter(table.metrics.values()))]) for table in evaluation.tables],
        pictures={
            name: [{"title": title, "source": _picture(draw), "alt": alt} for title, alt, draw in some]
            for name, some in _pictures(evaluation, styles).items()
        },
    )


def _severity(check: Check) -> tuple[int, bool]:
    return (list(Outcome).index(check.outcome) + 1) % len(Outcome), not check.blocking


def _soft(name: str) -> Markup:
    """Names that may be broken at each underscore, so that a phone needs no long lines."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


Finding = tuple[Measurement, Check | None]


def _behaviour(evaluation: Evaluation) -> list[tuple[str, list[Finding], list[Measurement]]]:
    """Of each kind: what was measured, the failed first, and what this data could not be asked."""
    of = {check.name: check for check in evaluation.checks}
    found = []
    for kind, title in BEHAVIOUR.items():
        some = [m for m in evaluation.measurements if m.kind is kind]
        measured = [(m, of.get(m.name)) for m in some if m.value is not None]
        measured.sort(key=lambda pair: pair[1] is None or pair[1].outcome is not Outcome.FAILED)
        if some:
            found.append((title, measured, [m for m in some if m.value is None]))
    return found


def _sliced(slicing: Slicing) -> dict[str, Any]:
    both = [[part.values[name] for name in (SERVED, BAR) if name in part.values] for part in slicing.parts]
    gains = [[part.values[GAIN]] if GAIN in part.values else [] for part in slicing.parts]
    rows = zip(slicing.parts, _strips(both), _strips(gains, zero=True), strict=True)
    return {"title": slicing.title, "rows": [{"part": part, "both": b, "gain": g} for part, b, g in rows]}


def _strips(rows: Sequence[Sequence[Estimate | Interval]], zero: bool = False) -> list[Markup]:
    """A small plot per row on one common scale: a dot and an interval for each estimate, one below the other."""
    ends = [end for row in rows for e in row for end in (e.low, e.value, e.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{EDGE + (value - low) / span * (WIDTH - 2 * EDGE):.1f}"

    return [_strip(row, x, zero) for row in rows]


def _strip(row: Sequence[Estimate | Interval], x: Callable[[float], str], zero: bool) -> Markup:
    if not row:
        return Markup("")
    parts = [f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{HEIGHT}"/>'] if zero else []
    for place, estimate in enumerate(row):
        y = HEIGHT / (len(row) + 1) * (place + 1)
        name = ("served", "bar")[place]
        if estimate.low is not None and estimate.high is not None:
            parts.append(
                f'<line class="{name}" x1="{x(estimate.low)}" x2="{x(estimate.high)}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        parts.append(f'<circle class="{name}" cx="{x(estimate.value)}" cy="{y:.1f}" r="3.2"/>')
    said = ", ".join(f"{e.value:.4f}" for e in row)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>')  # noqa: S704


def _styles(evaluation: Evaluation) -> dict[str, tuple[str, str]]:
    return dict(zip([row.model for row in evaluation.rows], cycle(zip(COLOURS, MARKERS, strict=True)), strict=False))


def _pictures(evaluation: Evaluation, styles: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Draw]]]:
    primary = {row.model: row.intervals[evaluation.primary] for row in evaluation.rows}
    heights = ", ".join(f"{model} {interval.value:.3f}" for model, interval in primary.items())
    metric = f"NDCG@{evaluation.k}"
    found: dict[str, list[tuple[str, str, Draw]]] = {
        "models": [
            (f"{metric} of each model, with its 95 % interval", heights, lambda axes: _bars(axes, evaluation, styles)),
            (
                "Recall among the first k",
                "recall from 1 to 100 recommended items, one line per model",
                lambda axes: _recall(axes, evaluation, styles),
            ),
        ],
        "calibration": [],
        "training": [
            (f"Training: {name} per epoch", f"{name} per epoch", lambda axes, n=name, p=points: _epochs(axes, n, p))  # type: ignore[misc]
            for name, points in evaluation.training.items()
        ],
    }
    if evaluation.reliability:
        said = "; ".join(f"promised {b.predicted:.3f}, came {b.observed:.3f}" for b in evaluation.reliability)
        found["calibration"].append(
            ("What was promised, and what came", said, lambda axes: _reliable(axes, evaluation))
        )
    return found


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


def _reliable(axes: "Axes", evaluation: Evaluation) -> None:
    predicted = [b.predicted for b in evaluation.reliability]
    observed = [b.observed for b in evaluation.reliability]
    below = [max(b.observed - b.low, 0) for b in evaluation.reliability]
    above = [max(b.high - b.observed, 0) for b in evaluation.reliability]
    end = max(*predicted, *(b.high for b in evaluation.reliability)) * 1.05
    axes.plot([0, end], [0, end], color=COLOURS[0], linestyle="--", linewidth=1, label="as promised")
    axes.errorbar(predicted, observed, [below, above], color=COLOURS[4], marker="o", capsize=3, label=evaluation.served)
    axes.set_xlabel("mean probability shown")
    axes.set_ylabel("share that came true")
    axes.set_xlim(0, end)
    axes.set_ylim(0, end)
    axes.legend(fontsize=8)


def _epochs(axes: "Axes", name: str, points: Iterable[tuple[float, float]]) -> None:
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
