"""A load test as two pictures: latency over time against what was promised, achieved rate against the intended one."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.run import Result
from load_tests.slo import Load

COLOURS = {"p50": "#0072b2", "p95": "#e69f00", "p99": "#d55e00", "intended": "#7a7a7a", "achieved": "#009e73"}


def draw(result: Result) -> dict[str, Path]:
    """Writes latency.png and rate.png into the result's folder."""
    load, series = result.slo.load, result.records.series(result.slo.load)
    records = result.records
    latency, axes = _figure("ms from when a person\nmeant to ask")
    due, taken = records.rows["due"].to_numpy(), records.latency
    axes.plot(due, taken, ".", color=COLOURS["p50"], markersize=3, alpha=0.4, label="one request")
    for name in ("p50", "p95"):
        axes.plot(series["at"], series[name], color=COLOURS[name], label=f"{name} per second", linewidth=1.5)
    for name in ("p50", "p95", "p99"):
        bound = getattr(result.slo.objectives, f"{name}_ms").value
        axes.axhline(bound, color=COLOURS[name], linestyle=":", label=f"{name} promised: {bound:g}")
    axes.set_yscale("log")
    rate, lower = _figure("requests per second")
    lower.step(series["at"], series["intended"], color=COLOURS["intended"], where="mid", label="intended")
    lower.step(series["at"], series["achieved"], color=COLOURS["achieved"], where="mid", label="answered well")
    at, wanted = zip(*load.steps, strict=True)
    lower.plot(at, wanted, color="#111111", linewidth=1, linestyle="--", label="the load's shape")
    lower.set_ylim(bottom=0)
    pictures = {}
    for name, figure, one in (("latency", latency, axes), ("rate", rate, lower)):
        _phases(one, load)
        figure.legend(loc="outside upper center", fontsize=8, frameon=False, ncols=6)
        pictures[name] = result.folder / f"{name}.png"
        figure.savefig(pictures[name], dpi=110)
    return pictures


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("seconds since the load began")
    axes.set_ylabel(label)
    axes.grid(visible=True, alpha=0.25)
    return figure, axes


def _phases(axes: Axes, load: Load) -> None:
    begin = 0.0
    for name in ("ramp", "plateau", "spike", "recovery"):
        seconds = getattr(load, name)
        if name in ("ramp", "spike") and seconds:
            axes.axvspan(begin, begin + seconds, color="#7a7a7a", alpha=0.12, linewidth=0)
            axes.text(begin + seconds / 2, 0.02, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
        begin += seconds
    axes.set_xlim(0, load.duration)
