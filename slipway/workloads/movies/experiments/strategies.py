"""Time and memory against strategy: what each way to train a large ranker costs, and what it saves.

slipway experiment strategies                     # the size at which it matters: about ten minutes of one core
slipway experiment strategies --budget 60         # a smaller model, to see that it runs
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from slipway.experiments.context import Context, Figures
from slipway.experiments.findings import Cell, Findings
from slipway.workloads.movies.experiments import probe
from slipway.workloads.movies.experiments.probe import Job
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig, TrainConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = "time and memory against strategy: accumulation, bf16, activation checkpointing, chunked loss, DDP, FSDP"
NEEDS_DATA = False

LARGE = RankerConfig(dim=512, layers=6, heads=8, max_len=200, dropout=0.1)
SMALL = RankerConfig(dim=128, layers=4, heads=4, max_len=200, dropout=0.1)
ENOUGH = 400.0  # CPU-seconds of the whole experiment from which the large model gets a few steps per arm
ROWS = 10  # sequences of one step, over all workers and accumulated parts
FLOPS = 4e10  # per second and core, to size the arms by the budget: nothing is measured by it

PLAIN: dict[str, Any] = {"precision": "fp32", "chunked": False}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation × 5": {"accumulation": 5},
    "bf16": {"precision": "bf16"},
    "activation checkpointing": {"activation_checkpointing": True},
    "chunked loss": {"chunked": True},
    "chunked, bf16": {"chunked": True, "precision": "bf16"},
    "chunked, bf16, checkpointing": {"chunked": True, "precision": "bf16", "activation_checkpointing": True},
    "all four": {"chunked": True, "precision": "bf16", "activation_checkpointing": True, "accumulation": 5},
    "DDP, 2 workers": {"workers": 2, "strategy": "ddp"},
    "FSDP, 2 workers": {"workers": 2, "strategy": "fsdp"},
    "FSDP, chunked, bf16, checkpointing": {
        "workers": 2,
        "strategy": "fsdp",
        "chunked": True,
        "precision": "bf16",
        "activation_checkpointing": True,
    },
}


def run(context: Context) -> Findings:
    large = context.budget >= ENOUGH
    shape, items = (LARGE, 50_000) if large else (SMALL, 10_000)
    steps = _steps(shape, items, context.budget)
    found: dict[str, Figures] = {}
    for number, (name, knobs) in enumerate(ARMS.items()):
        context.progress(name, number / len(ARMS), {})
        job = _job(shape, items, steps, {**PLAIN, **knobs}, context.seed)
        found[name] = context.remember(name, partial(probe.run, job, context.scratch / "probe"))
    plain = found["plain"]
    rows = [_row(name, figures, plain) for name, figures in found.items()]
    return Findings(
        title="Time and memory against strategy",
        question=(
            f"A ranker of {plain.get('parameters', 0) / 1e6:.1f}M parameters (d {shape.dim}, {shape.layers} layers, "
            f"{shape.max_len} items of history, a catalogue of {items:,}) takes {steps} optimiser steps of "
            f"{ROWS * shape.max_len:,} tokens in each arm. What does each strategy cost in time, and save in memory?"
        ),
        columns=(
            "strategy",
            "CPU-ms per token",
            "× plain",
            "tokens/s",
            "peak MiB",
            "of it training",
            "× plain's",
            "loss",
        ),
        rows=rows,
        notes=_notes(found),
        figures={"cost": _draw(found)},
    )


def _steps(shape: RankerConfig, items: int, budget: float) -> int:
    weights = shape.layers * 12 * shape.dim**2 + items * shape.dim
    seconds = 6 * weights * ROWS * shape.max_len / FLOPS
    return max(2, min(50, int(budget / len(ARMS) / seconds)))


def _job(shape: RankerConfig, items: int, steps: int, knobs: dict[str, Any], seed: int) -> Job:
    """The same tokens in each step, however they are divided."""
    workers, parts = knobs.get("workers", 1), knobs.get("accumulation", 1)
    config = TrainConfig(
        ranker=shape,
        loss=LossConfig(chunked=knobs["chunked"]),
        epochs=1,
        ema=0,
        warmup_steps=1,
        learning_rate=1e-3,
        tokens_per_step=ROWS * shape.max_len // workers // parts,
        accumulation=parts,
        precision=knobs["precision"],
        activation_checkpointing=knobs.get("activation_checkpointing", False),
        strategy=knobs.get("strategy", "ddp"),
        seed=seed,
    )
    return Job(config=config, sequences=ROWS * steps, items=items, workers=workers, seed=seed)


def _row(name: str, figures: Figures, plain: Figures) -> list[Cell]:
    if "error" in figures:
        return [f"{name}: {figures['error']}", *[None] * 7]
    cost, grown = _cost(figures), _grown(figures)
    comparable = "error" not in plain
    return [
        name,
        cost,
        cost / _cost(plain) if comparable else None,
        figures["tokens"] / figures["seconds"],
        round(figures["peak_mib"]),
        round(grown),
        grown / _grown(plain) if comparable else None,
        figures["train_loss"],
    ]


def _cost(figures: Figures) -> float:
    """CPU-milliseconds per token."""
    return float(1000 * figures["cpu_seconds"] / figures["tokens"])


def _grown(figures: Figures) -> float:
    """MiB of the largest worker beyond what it held before training: libraries and data."""
    return float(figures["peak_mib"] - figures["start_mib"])


def _notes(found: dict[str, Figures]) -> list[str]:
    notes = [
        "Each arm runs in fresh processes, one thread per worker, on made-up histories (Zipf's law over the "
        "catalogue). CPU-ms are of all workers together; tokens/s is wall time and says how busy the machine was too.",
        "Peak MiB: the largest worker's resident memory over its life; *of it training*: what grew after libraries and "
        "data were in memory: weights, gradients, optimiser, activations, and the copies that a checkpoint is made "
        "from, which no strategy but sharding makes smaller.",
        "Loss: the mean over all tokens of the arm. Equal tokens in equal steps, so arms differ by rounding, dropout's "
        "draws and nothing else.",
    ]
    if any("error" in figures for figures in found.values()):
        notes.append("An arm without figures says in its first cell why it could not run.")
    return notes


def _draw(found: dict[str, Figures]) -> Any:
    good = {name: figures for name, figures in found.items() if "error" not in figures}

    def draw(axes: "Axes") -> None:
        for number, (name, figures) in enumerate(good.items()):
            many = "workers" in name or "FSDP" in name
            colour = f"C{number}" if number < 10 else "black"
            axes.plot(_cost(figures), _grown(figures) / 1024, "s" if many else "o", color=colour, label=name, ms=7)
        axes.set_xlabel("CPU-milliseconds per token (squares: of two workers together)")
        axes.set_ylabel("GiB that training adds to a worker")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.05 * max((_grown(f) / 1024 for f in good.values()), default=1.0))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return draw
