"""A rollout as a run of MLflow: figures over time, the decision log and a plot at the end. Never in a rollout's way.

What MLflow refuses or misses meanwhile is in the store (record.py), from which the end is written.
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import SlipwayError
from slipway.rollout.policy import Policy
from slipway.rollout.record import Entry, Record
from slipway.rollout.state import Phase, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from slipway.tracking import Run, Tracker

EVERY = 5.0  # seconds between two points of a curve
FOLDER = "rollout"


def open_run(tracker: "Tracker", service: str, state: State, policy: Policy) -> str:
    """The run's id. Raises TrackingError."""
    tags = {
        "kind": "rollout",
        "rollout": state.id,
        "service": service,
        "candidate": str(state.candidate),
        "stable": str(state.stable or "none"),
        "policy": policy.name,
        "phase": state.phase,
    }
    return tracker.start(f"rollout {state.id}", tags).id


class Journal:
    """say it each entry; finish it once."""

    def __init__(self, tracker: "Tracker", state: State) -> None:
        self.run: Run | None = tracker.run(state.run) if state.run else None
        self.started = state.started
        self._phase, self._at = "", 0.0

    def say(self, told: Entry) -> None:
        phase = f"{told.phase} {told.stage}"
        if self.run is None or (phase == self._phase and told.at - self._at < EVERY):
            return
        changed, self._phase, self._at = phase != self._phase, phase, told.at
        share = {"traffic_share": float(told.share)}
        numbers = {name: value for name, value in told.figures.items() if isfinite(value)}
        tags = {"phase": str(told.phase), "stage": told.stage, "reason": told.reason[:4000]} if changed else {}
        with contextlib.suppress(SlipwayError):
            self.run.log(metrics=share | numbers, tags=tags, step=max(int(told.at - self.started), 0))

    def finish(self, state: State, record: Record) -> None:
        """The decision log, the policy and a plot. Raises TrackingError, StorageError."""
        if self.run is None:
            return
        if self.run.tags().get("finished") == state.id:
            return
        entries = list(record.entries())
        with tempfile.TemporaryDirectory(prefix="slipway-rollout-") as scratch:
            folder = Path(scratch) / FOLDER
            folder.mkdir()
            (folder / "decisions.jsonl").write_text(lines(entries))
            (folder / "policy.json").write_text(record.policy().model_dump_json(indent=1))
            plot(entries, state, folder / "rollout.png")
            self.run.log_files(folder, FOLDER)
        self.run.log(tags={"phase": str(state.phase), "reason": state.reason[:4000], "finished": state.id})
        self.run.finish("FINISHED" if state.phase is Phase.PROMOTED else "KILLED" if state.by else "FAILED")


def plot(entries: Sequence[Entry], state: State, path: Path) -> None:
    """Traffic share, and each figure of both revisions, over the rollout's minutes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [kind for kind in ("errors", "latency", "reward") if any(f"candidate_{kind}" in e.figures for e in entries)]
    figure = Figure(figsize=(9, 2.2 * (1 + len(kinds))), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1 + len(kinds), 1, sharex=True, squeeze=False)
    minutes = [(one.at - state.started) / 60 for one in entries]
    shares = [one.share for one in entries]
    top: Axes = axes[0, 0]
    top.step(minutes, shares, where="post", color="tab:blue")
    top.set(ylabel="candidate's share, %", ylim=(-3, 103), title=f"{state.id}: {state.candidate} — {state.phase}")
    before = ""
    for at, one in zip(minutes, entries, strict=True):
        name = one.stage if one.verdict and one.phase in (Phase.SHADOW, Phase.CANARY) else str(one.phase)
        if name != before:
            top.annotate(name, (at, 50), rotation=90, fontsize=7, va="center")
            before = name
    for axis, kind in zip(axes[1:, 0], kinds, strict=True):
        for arm, colour in (("stable", "tab:grey"), ("candidate", "tab:orange")):
            axis.plot(*_curve(minutes, [one.figures for one in entries], f"{arm}_{kind}"), label=arm, color=colour)
        axis.set(ylabel=kind)
        axis.legend(fontsize=7)
    axes[-1, 0].set(xlabel="minutes")
    figure.savefig(path, dpi=110)


def _curve(
    minutes: Sequence[float], figures: Sequence[Mapping[str, float]], name: str
) -> tuple[list[float], list[float]]:
    points = [
        (at, one[name]) for at, one in zip(minutes, figures, strict=True) if isfinite(one.get(name, float("nan")))
    ]
    return [at for at, _ in points], [value for _, value in points]


def lines(entries: Sequence[Entry]) -> str:
    """The decision log, a JSON object per line."""
    return "".join(f"{one.model_dump_json(exclude_defaults=True)}\n" for one in entries)
