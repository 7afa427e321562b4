"""A load test as two pictures: latency over time against what was promised, achieved rate against the intended one."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.run import Result
from load_tests.slo import Load

COLOURS = {"p50": "#56b4e9", "p95": "#0072b2", "p99": "#d55e00", "intended": "#7a7a7a", "achieved": "#009e73"}


def draw(result: Result) -> dict[str, Path]:
    """Writes latency.png and rate.png into the result's folder."""
    load, series = result.slo.load, result.records.series(result.slo.load)
    latency, axes = _figure("latency from when a person meant to ask, ms")
    top = 1.0
    for name in ("p50", "p95", "p99"):
        bound = getattr(result.slo.objectives, f"{name}_ms").value
        axes.plot(series["at"], series[name], color=COLOURS[name], label=f"{name}, per second", linewidth=1.5)
        axes.axhline(bound, color=COLOURS[name], linestyle=":", linewidth=1, label=f"{name} promised: {bound:g}")
        top = max(top, bound, np.nanmax(series[name], initial=0.0))
    axes.set_yscale("log")
    axes.set_ylim(bottom=1, top=top * 1.5)
    rate, lower = _figure("requests per second")
    lower.step(series["at"], series["intended"], color=COLOURS["intended"], where="mid", label="intended")
    lower.step(series["at"], series["achieved"], color=COLOURS["achieved"], where="mid", label="answered well")
    at, wanted = zip(*load.steps, strict=True)
    lower.plot(at, wanted, color="#111111", linewidth=1, linestyle="--", label="the load's shape")
    lower.set_ylim(bottom=0)
    pictures = {}
    for name, figure, one in (("latency", latency, axes), ("rate", rate, lower)):
        _phases(one, load)
        one.legend(loc="upper left", fontsize=8, framealpha=0.9, ncols=2)
        pictures[name] = result.folder / f"{name}.png"
        figure.savefig(pictures[name], dpi=110)
    return pictures


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
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
            axes.axvspan(begin, begin + seconds, color="#e69f00", alpha=0.12, linewidth=0)
            axes.text(begin + seconds / 2, 0.02, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
        begin += seconds
    axes.set_xlim(0, load.duration)
