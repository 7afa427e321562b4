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
SHARES = (1, 2, 4, 8, 16)  # into how many parts a step is divided, one of which is timed alone


@dataclass(frozen=True)
class Law:
    """Seconds of one step on n workers with a core each: serial + parallel / n + passes (n - 1) / n exchange.

    serial: what every worker does whole, such as DDP's optimiser step; parallel: what is divided (Amdahl 1967). The
    last term is a ring's traffic (Patarasu & Yuan 2009): hardly more for more workers, and never less.
    """

    serial: float
    parallel: float
    exchange: float

    @classmethod
    def fit(cls, shares: Sequence[int], seconds: Sequence[float], exchange: float) -> Self:
        """Least squares over single workers that did 1/share of a step each, alone: no run of several workers is
        among them, so that those test the law. exchange: measured on its own.
        """
        from scipy.optimize import nnls

        n = np.array(shares, dtype=float)
        found, _ = nnls(np.stack([np.ones_like(n), 1 / n], axis=1), np.array(seconds))
        return cls(float(found[0]), float(found[1]), exchange)

    def predict(self, n: int, passes: float) -> float:
        return self.serial + self.parallel / n + self.exchange * passes * (n - 1) / n


def run(context: Context) -> Findings:
    shape = LARGE if context.budget >= ENOUGH else SMALL
    steps = _steps(shape, context.budget)
    arms = [(strategy, n) for n in COUNTS for strategy in STRATEGIES if n > 1 or strategy == "ddp"]
    jobs = {f"{strategy}, {n} workers": _job(shape, steps, strategy, n, context.seed) for strategy, n in arms if n > 1}
    jobs |= {f"1/{n} of a step": _job(shape, steps, "ddp", 1, context.seed, n) for n in SHARES}
    found: dict[str, Figures] = {}
    for number, (name, job) in enumerate(jobs.items()):
        context.progress(name, number / len(jobs), {})
        found[name] = context.remember(name, partial(probe.run, job, context.scratch / "probe"))
    shares = {n: found[f"1/{n} of a step"] for n in SHARES}
    runs = {(strategy, n): shares[1] if n == 1 else found[f"{strategy}, {n} workers"] for strategy, n in arms}
    done = {n: figures["seconds"] / steps for n, figures in shares.items() if "error" not in figures}
    law = Law.fit(list(done), list(done.values()), _exchange(runs)) if len(done) >= 3 else None
    rows: list[list[Cell]] = [_share(n, figures, steps, shares[1]) for n, figures in shares.items()]
    for strategy in STRATEGIES:
        rows += [_row(strategy, n, runs[strategy, n], steps, shares[1], law) for n in COUNTS if n > 1]
        rows += [_foretold(strategy, n, law) for n in PREDICTED if law]
    return Findings(
        title="Training time against the number of workers",
        question=(
            f"{steps} steps of {ROWS * shape.max_len:,} tokens (d {shape.dim}, {shape.layers} layers, {ITEMS:,} items, "
            f"{shares[1].get('parameters', 0) / 1e6:.1f}M parameters), the same whatever the number of workers: how "
            "much sooner are they done, and what would more workers than this machine's bring?"
        ),
        columns=(
            "strategy",
            "workers",
            "ms per step",
            "speed-up",
            "law, a core each: ms per step",
            "law, a core each: speed-up",
            "CPU-ms per step",
            "exchange alone, ms",
            "peak MiB per worker",
            "loss",
        ),
        rows=rows,
        notes=_notes(law, [*shares.values(), *runs.values()]),
        figures={"scaling": _draw({arm: f["seconds"] / steps for arm, f in runs.items() if "error" not in f}, law)},
    )


def _exchange(found: dict[tuple[str, int], Figures]) -> float:
    """Seconds of one pass over all gradients, from the all-reduce (two passes) of the fewest workers that ran."""
    measured = {n: f["exchange_seconds"] for (_, n), f in sorted(found.items()) if n > 1 and "error" not in f}
    return next((seconds * n / (n - 1) / PASSES["ddp"] for n, seconds in measured.items()), 0.0)


def _steps(shape: RankerConfig, budget: float) -> int:
    weights = shape.layers * 12 * shape.dim**2 + ITEMS * shape.dim
    seconds = 6 * weights * ROWS * shape.max_len / FLOPS
    return max(3, min(60, int(budget / 7 / seconds)))


def _job(shape: RankerConfig, steps: int, strategy: str, n: int, seed: int, share: int = 1) -> Job:
    """share: into how many parts each step is divided, of which this does one."""
    config = TrainConfig.model_validate(
        {
            "ranker": shape,
            "loss": LossConfig(),
            "epochs": 1,
            "ema": 0,
            "warmup_steps": 1,
            "learning_rate": 1e-3,
            "tokens_per_step": ROWS * shape.max_len // n // share,
            "precision": "fp32",
            "strategy": strategy,
            "seed": seed,
        }
    )
    return Job(config=config, sequences=ROWS * steps // share, items=ITEMS, workers=n, seed=seed)


def _share(n: int, figures: Figures, steps: int, one: Figures) -> list[Cell]:
    name = "1 worker, all of the step" if n == 1 else f"1 worker, 1/{n} of the step"
    if "error" in figures:
        return [f"{name}: {figures['error']}", 1, *[None] * 8]
    loss = figures["train_loss"] if n == 1 else None  # of other data
    speedup = one["seconds"] / figures["seconds"] if "error" not in one else None
    per_step = 1000 * figures["seconds"] / steps
    cpu = 1000 * figures["cpu_seconds"] / steps
    return [name, 1, per_step, speedup, None, None, cpu, None, round(figures["peak_mib"]), loss]


def _row(strategy: str, n: int, figures: Figures, steps: int, one: Figures, law: Law | None) -> list[Cell]:
    if "error" in figures:
        return [f"{strategy}: {figures['error']}", n, *[None] * 8]
    return [
        strategy,
        n,
        1000 * figures["seconds"] / steps,
        one["seconds"] / figures["seconds"] if "error" not in one else None,
        1000 * law.predict(n, PASSES[strategy]) if law else None,
        _speedup(law, strategy, n) if law else None,
        1000 * figures["cpu_seconds"] / steps,
        1000 * figures["exchange_seconds"],
        round(figures["peak_mib"]),
        figures["train_loss"],
    ]


def _foretold(strategy: str, n: int, law: Law) -> list[Cell]:
    return [strategy, n, None, None, 1000 * law.predict(n, PASSES[strategy]), _speedup(law, strategy, n), *[None] * 4]


def _speedup(law: Law, strategy: str, n: int) -> float:
    return law.predict(1, PASSES[strategy]) / law.predict(n, PASSES[strategy])


def _notes(law: Law | None, arms: Sequence[Figures]) -> list[str]:
    cores = os.cpu_count() or 1
    told = (
        f"{1000 * law.serial:.0f} ms serial, {1000 * law.parallel:.0f} ms divided, {1000 * law.exchange:.0f} ms for a "
        "copy of all gradients"
        if law
        else "too few arms ran"
    )
    notes = [
        "The law: t(n) = serial + parallel / n + passes · (n − 1)/n · exchange, with 2 passes over the parameters for "
        "DDP and 3 for FSDP. Serial and divided are fitted to the first rows, where one worker alone does its share of "
        "a step that n would divide; exchange is measured on its own, between two workers with nothing else to do. "
        f"Here: {told}. No run of several workers is fitted: they test it.",
        f"This machine has {cores} cores. Rows with more workers than cores show that the result is the same and what "
        "sharing a core costs; the law says what the same workers would take with a core each. Beyond the cores here "
        "it is a model, not a measurement: it knows of no overlap of exchange and computation, of no cost of sharding "
        "but its traffic, and of links as fast as this machine's memory (gloo over loopback).",
        "The tokens of a step are the same for any number of workers, so the losses differ by rounding and by "
        "dropout's draws only.",
        "Wall time on a machine that does other work says how busy it was; CPU-ms, of all workers, do not.",
    ]
    if any("error" in figures for figures in arms):
        notes.append("An arm without figures says in its first cell why it could not run.")
    return notes


def _draw(seconds: dict[tuple[str, int], float], law: Law | None) -> Any:
    def draw(axes: "Axes") -> None:
        counts = np.array([1, 2, 4, 8, 16, 32])
        for number, strategy in enumerate(STRATEGIES):
            known = [n for n in COUNTS if (strategy, n) in seconds]
            points = [seconds["ddp", 1] / seconds[strategy, n] for n in known] if ("ddp", 1) in seconds else []
            if points:
                axes.plot(known, points, "os"[number % 2], color=f"C{number}", label=f"{strategy}, measured")
            if law:
                label = f"{strategy}, law with a core each"
                axes.plot(counts, [_speedup(law, strategy, int(n)) for n in counts], color=f"C{number}", label=label)
        axes.plot(counts, counts, ":", color="#888888", label="linear")
        cores = os.cpu_count() or 1
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
