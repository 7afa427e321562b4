"""What an optimisation found: a table and a plot. Knows how to show rows; knows not how they came to be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipway.experiments.machine import machine
from slipway.experiments.page import svg
from slipway.optimisation.choice import Row, Verdict
from slipway.optimisation.config import Limits
from slipway.package import Frozen
from slipway.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE, TABLE, PLOT = "optimisation.json", "optimisation.md", "optimisation.svg"
MARKS = {
    Verdict.ORIGINAL: ("o", "#333333"),
    Verdict.SHIPPED: ("*", "#1a7f37"),
    Verdict.GOOD: ("o", "#1a7f37"),
    Verdict.SLOW: ("o", "#8c959f"),
    Verdict.WORSE: ("x", "#cf222e"),
}


class Results(Frozen):
    """optimisation.json. rows: the original first. metric, k: of quality; users, cases: whose answers were compared;
    feeds: what latency was measured on; batch: rows of a large batch.
    """

    graph: str
    metric: str
    k: int
    users: int
    cases: int
    feeds: tuple[str, ...]
    batch: int
    limits: Limits
    rows: tuple[Row, ...]
    machine: dict[str, str | int | float]

    @property
    def shipped(self) -> Row:
        return next((row for row in self.rows if row.verdict is Verdict.SHIPPED), self.rows[0])

    def metrics(self) -> dict[str, float]:
        """Of what is shipped, for a tracker."""
        row, original = self.shipped, self.rows[0]
        assert row.timing is not None
        assert row.quality is not None
        assert original.timing is not None
        return {
            "optimise_speedup": row.timing.speedup,
            "optimise_p50_ms": row.timing.p50_ms,
            "optimise_p95_ms": row.timing.p95_ms,
            "optimise_original_p50_ms": original.timing.p50_ms,
            "optimise_quality": row.quality.value,
            "optimise_drop": row.quality.drop,
            "optimise_overlap": row.quality.overlap,
            "optimise_file_bytes": float(row.file_bytes or 0),
            "optimise_candidates": float(sum(row.verdict is not Verdict.ABSENT for row in self.rows)),
        }

    def markdown(self) -> str:
        lines = [
            f"# What makes {self.graph} faster, and what that costs",
            "",
            f"Shipped: **{self.shipped.name}**. {self.metric} of the served cascade over {self.users:,} users "
            f"({self.cases:,} cases); a drop of more than {self.limits.max_drop:.1%}, by its upper bound with "
            f"{self.limits.confidence:.0%} confidence, is refused, and so is an overlap with the original's first "
            f"{self.k} items below {self.limits.min_overlap:.0%}. Anything that is not {self.limits.min_speedup:.2f} "
            f"times as fast, or takes more than {self.limits.max_threads} thread for one request, is not worth it.",
            "",
            f"| candidate | verdict | {self.metric} | drop (at most) | overlap | p50 ms | p95 ms | times as fast "
            f"| CPU ms | rows/s in {self.batch}s | file MB | memory MB |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *(self._line(row) for row in self.rows),
            "",
            *(f"- **{row.name}**: {row.reason}" for row in self.rows if row.reason),
            "",
            "p50 and p95 are of one request at a time, the mean over these histories:",
            "",
            f"| candidate | {' | '.join(self.feeds)} |",
            f"|---|{'---|' * len(self.feeds)}",
            *(
                f"| {row.name} | {' | '.join(f'{row.timing.latency[f].p50:.3f} / {row.timing.latency[f].p95:.3f}' for f in self.feeds)} |"  # noqa: E501
                for row in self.rows
                if row.timing is not None
            ),
            "",
            "Candidates were asked in turn, so that what else the machine did fell on all of them; times as fast "
            "compares the fastest tenth of each one's requests, which nothing else held up. Memory is what a process "
            "of its own grew by.",
            "",
            ", ".join(f"{name}: {value}" for name, value in self.machine.items()),
        ]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _line(row: Row) -> str:
        quality, timing = row.quality, row.timing
        cells = [row.name, row.verdict.value]
        if quality is None:
            cells += [""] * 3
        else:
            cells += [f"{quality.value:.4f}", f"{quality.drop:+.4f} ({quality.drop_bound:+.4f})"]
            cells += [f"{quality.overlap:.1%}"]
        if timing is None:
            cells += [""] * 5
        else:
            cells += [f"{timing.p50_ms:.3f}", f"{timing.p95_ms:.3f}", f"{timing.speedup:.2f}", f"{timing.cpu_ms:.3f}"]
            cells += [f"{timing.per_second:,.0f}"]
        cells += ["" if size is None else f"{size / 1e6:.1f}" for size in (row.file_bytes, row.memory_bytes)]
        return f"| {' | '.join(cells)} |"

    def draw(self, axes: "Axes") -> None:
        """Time against quality, as the choice sees both; below the line nothing is shipped."""
        original = self.rows[0].quality
        assert original is not None
        shown = [(row, row.timing, row.quality) for row in self.rows]
        for place, (row, timing, quality) in enumerate(shown):
            if timing is None or quality is None:
                continue
            marker, colour = MARKS[row.verdict]
            share = 1 / timing.speedup  # the median of a busy machine says what else it did
            axes.errorbar(
                share,
                quality.value,
                yerr=np.array([[max(quality.drop_bound - quality.drop, 0)], [0]]),
                color=colour,
                linewidth=1,
            )
            axes.scatter(share, quality.value, marker=marker, color=colour, s=60, zorder=3)
            above = 4 + 9 * (place % 3)  # neighbours are often as good and as fast
            axes.annotate(row.name, (share, quality.value), (4, above), textcoords="offset points", fontsize=6)
        floor = original.value * (1 - self.limits.max_drop)
        axes.axhline(floor, color="#cf222e", linestyle="--", linewidth=1)
        axes.set_xlabel("time of one request, of the original's")
        axes.set_ylabel(self.metric)
        axes.margins(x=0.4, y=0.2)

    def save(self, folder: Path) -> None:
        """optimisation.json, as a package carries it."""
        write_atomically(folder / FILE, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    def publish(self, folder: Path) -> None:
        """The table as JSON and as Markdown, and the plot, into folder."""
        self.save(folder)
        write_atomically(folder / TABLE, self.markdown())
        write_atomically(folder / PLOT, svg(self.draw))


def results(
    graph: str,
    metric: str,
    k: int,
    users: int,
    cases: int,
    feeds: Sequence[str],
    batch: int,
    limits: Limits,
    rows: Sequence[Row],
) -> Results:
    """With the facts of this machine, and which build of ONNX Runtime: they differ in int8."""
    import onnxruntime

    return Results(
        graph=graph,
        metric=metric,
        k=k,
        users=users,
        cases=cases,
        feeds=tuple(feeds),
        batch=batch,
        limits=limits,
        rows=tuple(rows),
        machine=machine() | {"onnxruntime": onnxruntime.__version__},
    )
