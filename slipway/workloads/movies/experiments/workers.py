"""Training time against the number of workers, and a scaling law that predicts more of them than this machine has.

slipway experiment workers
slipway experiment workers --budget 60      # a smaller model, to see that it runs
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from slipway.experiments.context import Context, Figures
from slipway.experiments.findings import Cell, Findings
from slipway.workloads.movies.experiments import probe
from slipway.workloads.movies.experiments.probe import Job
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig, TrainConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = "training time against the number of workers, DDP and FSDP, with the scaling law that predicts more"
NEEDS_DATA = False

LARGE = RankerConfig(dim=256, layers=4, heads=4, max_len=200, dropout=0.1)
SMALL = RankerConfig(dim=64, layers=2, heads=2, max_len=100, dropout=0.1)
ENOUGH = 300.0  # CPU-seconds of the whole experiment from which the larger model is trained
ITEMS = 10_000
ROWS = 16  # sequences of one step, over all workers
COUNTS = (1, 2, 4)
PREDICTED = (8, 16, 32)
STRATEGIES = ("ddp", "fsdp")
FLOPS = 4e10  # per second and core, to size the arms by the budget: nothing is measured by it
PASSES = {"ddp": 2.0, "fsdp": 3.0}  # all-reduce = reduce-scatter + all-gather; FSDP gathers once more, going forward


@dataclass(frozen=True)
class Law:
    """Seconds of one step on n workers: serial + parallel / min(n, cores) + passes (n - 1) / n bytes / bandwidth.

    serial: what every worker does whole, such as DDP's optimiser step; parallel: what is divided (Amdahl 1967). The
    last term is a ring's traffic (Patarasu & Yuan 2009): hardly more for more workers, and never less.
    """

    serial: float
    parallel: float
    exchange: float

    @classmethod
    def fit(cls, counts: Sequence[int], seconds: Sequence[float], exchange: float, passes: float, cores: int) -> Self:
        """Least squares for serial and parallel, none below 0. exchange is measured on its own: times alone cannot
        tell it from the others, because 1 = 1/n + (n − 1)/n.
        """
        from scipy.optimize import nnls

        n = np.array(counts, dtype=float)
        parts = np.stack([np.ones_like(n), 1 / np.minimum(n, cores)], axis=1)
        found, _ = nnls(parts, np.maximum(np.array(seconds) - exchange * passes * (n - 1) / n, 0))
        return cls(float(found[0]), float(found[1]), exchange)

    def predict(self, n: int, passes: float, cores: int) -> float:
        return self.serial + self.parallel / min(n, cores) + self.exchange * passes * (n - 1) / n


def run(context: Context) -> Findings:
    shape = LARGE if context.budget >= ENOUGH else SMALL
    steps = _steps(shape, context.budget)
    arms = [(strategy, n) for n in COUNTS for strategy in STRATEGIES if n > 1 or strategy == "ddp"]
    found: dict[tuple[str, int], Figures] = {}
    for number, (strategy, n) in enumerate(arms):
        name = f"{strategy}, {n} workers" if n > 1 else "1 worker"
        context.progress(name, number / len(arms), {})
        job = _job(shape, steps, strategy, n, context.seed)
        found[strategy, n] = context.remember(name, partial(probe.run, job, context.scratch / "probe"))
    cores = os.cpu_count() or 1
    one = found["ddp", 1]
    seconds = {arm: f["seconds"] / steps for arm, f in found.items() if "error" not in f}
    exchange = _exchange(found)
    laws = {
        strategy: Law.fit(known, [seconds[_arm(strategy, n)] for n in known], exchange, PASSES[strategy], cores)
        for strategy in STRATEGIES
        if len(known := [n for n in COUNTS if _arm(strategy, n) in seconds]) >= 2
    }
    rows: list[list[Cell]] = []
    for strategy in STRATEGIES:
        rows += [_row(strategy, n, found[_arm(strategy, n)], steps, one, laws.get(strategy), cores) for n in COUNTS]
        rows += [_foretold(strategy, n, laws[strategy]) for n in PREDICTED if strategy in laws]
    return Findings(
        title="Training time against the number of workers",
        question=(
            f"{steps} steps of {ROWS * shape.max_len:,} tokens (d {shape.dim}, {shape.layers} layers, {ITEMS:,} items, "
            f"{one.get('parameters', 0) / 1e6:.1f}M parameters), the same whatever the number of workers: how much "
            "sooner are they done, and what would more workers than this machine's bring?"
        ),
        columns=(
            "strategy",
            "workers",
            "ms per step",
            "speed-up",
            "law: ms per step",
            "law: speed-up, a core each",
            "CPU-ms per step",
            "exchange alone, ms",
            "peak MiB per worker",
            "loss",
        ),
        rows=rows,
        notes=_notes(laws, cores, found),
        figures={"scaling": _draw(seconds, laws, cores)},
    )


def _arm(strategy: str, n: int) -> tuple[str, int]:
    """One worker exchanges nothing, whatever the strategy."""
    return ("ddp" if n == 1 else strategy, n)


def _exchange(found: dict[tuple[str, int], Figures]) -> float:
    """Seconds of one pass over all gradients, from the all-reduce (two passes) of the fewest workers that ran."""
    measured = {n: f["exchange_seconds"] for (_, n), f in sorted(found.items()) if n > 1 and "error" not in f}
    return next((seconds * n / (n - 1) / PASSES["ddp"] for n, seconds in measured.items()), 0.0)


def _steps(shape: RankerConfig, budget: float) -> int:
    weights = shape.layers * 12 * shape.dim**2 + ITEMS * shape.dim
    seconds = 6 * weights * ROWS * shape.max_len / FLOPS
    return max(3, min(60, int(budget / 5 / seconds)))


def _job(shape: RankerConfig, steps: int, strategy: str, n: int, seed: int) -> Job:
    config = TrainConfig.model_validate(
        {
            "ranker": shape,
            "loss": LossConfig(),
            "epochs": 1,
            "ema": 0,
            "warmup_steps": 1,
            "learning_rate": 1e-3,
            "tokens_per_step": ROWS * shape.max_len // n,
            "precision": "fp32",
            "strategy": strategy,
            "seed": seed,
        }
    )
    return Job(config=config, sequences=ROWS * steps, items=ITEMS, workers=n, seed=seed)


def _row(strategy: str, n: int, figures: Figures, steps: int, one: Figures, law: Law | None, cores: int) -> list[Cell]:
    if "error" in figures:
        return [f"{strategy}: {figures['error']}", n, *[None] * 8]
    return [
        strategy,
        n,
        1000 * figures["seconds"] / steps,
        one["seconds"] / figures["seconds"] if "error" not in one else None,
        1000 * law.predict(n, PASSES[strategy], cores) if law else None,
        _speedup(law, strategy, n) if law else None,
        1000 * figures["cpu_seconds"] / steps,
        1000 * figures["exchange_seconds"] if n > 1 else None,
        round(figures["peak_mib"]),
        figures["train_loss"],
    ]


def _foretold(strategy: str, n: int, law: Law) -> list[Cell]:
    return [
        strategy,
        n,
        None,
        None,
        1000 * law.predict(n, PASSES[strategy], n),
        _speedup(law, strategy, n),
        *[None] * 4,
    ]


def _speedup(law: Law, strategy: str, n: int) -> float:
    """With a core for each worker."""
    return law.predict(1, PASSES[strategy], 1) / law.predict(n, PASSES[strategy], n)


def _notes(laws: dict[str, Law], cores: int, found: dict[tuple[str, int], Figures]) -> list[str]:
    told = "; ".join(
        f"{strategy}: {1000 * law.serial:.0f} ms serial, {1000 * law.parallel:.0f} ms divided, "
        f"{1000 * law.exchange:.0f} ms for a copy of all gradients"
        for strategy, law in laws.items()
    )
    notes = [
        "The law: t(n) = serial + parallel / min(n, cores) + passes · (n − 1)/n · "
        "exchange, with 2 passes over the parameters for DDP and 3 for FSDP. Exchange is measured on its own, with "
        f"nothing else to do; the other two are fitted to the measured rows: {told or 'too few arms ran'}.",
        f"This machine has {cores} cores. Rows with more workers than cores show only that the result is the same and "
        "what sharing cores costs. What the law says beyond the cores here is a model, not a measurement: it rests on "
        "three points, on no overlap of exchange and computation, on a core for each worker and on links as fast as "
        "this machine's memory (gloo over loopback).",
        "The tokens of a step are the same for any number of workers, so the losses differ by rounding and by "
        "dropout's draws only.",
        "Exchange alone: the median of three all-reduces of the gradients with nothing else to do.",
        "Wall time on a machine that does other work says how busy it was; CPU-ms, of all workers, do not.",
    ]
    if any("error" in figures for figures in found.values()):
        notes.append("An arm without figures says in its first cell why it could not run.")
    return notes


def _draw(seconds: dict[tuple[str, int], float], laws: dict[str, Law], cores: int) -> Any:
    def draw(axes: "Axes") -> None:
        counts = np.array([1, 2, 4, 8, 16, 32])
        for number, (strategy, law) in enumerate(laws.items()):
            known = [n for n in COUNTS if _arm(strategy, n) in seconds]
            points = [seconds[_arm(strategy, 1)] / seconds[_arm(strategy, n)] for n in known]
            axes.plot(known, points, "os"[number % 2], color=f"C{number}", label=f"{strategy}, measured")
            label = f"{strategy}, law with a core each"
            axes.plot(counts, [_speedup(law, strategy, int(n)) for n in counts], color=f"C{number}", label=label)
        axes.plot(counts, counts, ":", color="#888888", label="linear")
        axes.axvline(cores, color="#bbbbbb", linewidth=1)
        axes.annotate(f"{cores} cores here", (cores, 1), (4, -2), textcoords="offset points", fontsize=8)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.set_yticks(counts, [str(n) for n in counts])
        axes.set_xlabel("workers")
        axes.set_ylabel("speed-up over one worker")
        axes.legend()

    return draw
