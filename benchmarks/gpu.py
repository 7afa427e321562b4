"""What training the ranker reaches on one GPU: tokens per second, share of its peak, memory, kernels, equal numbers.

    python -m benchmarks.gpu                          # on a machine with a GPU
    python -m benchmarks.gpu --part ceilings large    # some parts; those measured before are kept
    python -m benchmarks.gpu --device cpu --tiny --out <folder>   # that the benchmark itself runs; no evidence

Every part is a process of its own: memory is counted from nothing, and what fails says so and stops no other. The loop
is the one that Ray's workers run, on made-up histories; the part `ray` runs it under Ray Train. Writes
docs/evidence/gpu.md, .json and .svg, each part as soon as it is measured.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipway.workload import Scaling
from slipway.workloads.movies.experiments.probe import histories
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import device as machine
from slipway.workloads.movies.ranker import loop, resume, shards
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig, TrainConfig
from slipway.workloads.movies.ranker.loss import chunked_cross_entropy
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.validation import Validation

EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"
SECONDS = 900  # that a part may take
LARGE = RankerConfig(dim=512, layers=8, heads=8, max_len=256, dropout=0.1)
LARGE_ITEMS = 60_000
TOKENS = 65_536  # of a step of the large one
CHUNKS = (512, 2048, 8192, 32_768)
Figures = dict[str, Any]

FULL_ARMS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "bf16, all scores at once": {"precision": "bf16", "loss": LossConfig(chunked=False)},
    "bf16, 16 times the step": {"precision": "bf16", "tokens_per_step": 65_536},
}
LARGE_ARMS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "fp32, recomputed activations": {"precision": "fp32", "activation_checkpointing": True},
    "bf16, recomputed activations": {"precision": "bf16", "activation_checkpointing": True},
    "bf16, 4 parts a step": {"precision": "bf16", "accumulation": 4, "tokens_per_step": TOKENS // 4},
    "bf16, 4 parts, all scores at once": {
        "precision": "bf16",
        "accumulation": 4,
        "tokens_per_step": TOKENS // 4,
        "loss": LossConfig(chunked=False),
    },
}


class Bench:
    """device: where; scratch: for shards and checkpoints; tiny: sizes that a CPU does in seconds."""

    def __init__(self, device: torch.device, scratch: Path, tiny: bool) -> None:
        self.device, self.scratch, self.tiny = device, scratch, tiny
        self.place = Place(device)

    # What is trained

    def full(self, **knobs: Any) -> loop.Task:
        """The shipped configuration on as many users, events and films as MovieLens-1M has."""
        users, items, events = (60, 300, 3000) if self.tiny else (6040, 3416, 999_611)
        return self.task(sessions(users, items, events), TrainConfig(epochs=3), knobs)

    def large(self, **knobs: Any) -> loop.Task:
        steps, shape, items, tokens = 12, LARGE, LARGE_ITEMS, TOKENS
        if self.tiny:
            steps, shape, items, tokens = 2, RankerConfig(dim=32, layers=2, heads=2, max_len=32), 500, 512
        made = histories(steps * tokens // shape.max_len, shape.max_len, items, 0)
        config = TrainConfig(ranker=shape, epochs=3, tokens_per_step=tokens, ema=0.0, learning_rate=3e-4)
        return self.task(made, config, knobs)

    def task(self, made: Interactions, config: TrainConfig, knobs: dict[str, Any]) -> loop.Task:
        changed = config.model_copy(update=knobs)
        if self.tiny:
            changed = changed.model_copy(update={"tokens_per_step": min(512, changed.tokens_per_step)})
        data = shards.write(made, Path(tempfile.mkdtemp(dir=self.scratch)).as_uri(), changed.shard_events)
        return loop.Task(data, Validation(made, made.indptr[1:65] - 1, False), changed, "benchmark")

    # What is measured

    def about(self) -> Figures:
        facts: Figures = {"device": machine.name(self.device), "torch": torch.__version__, "cores": os.cpu_count()}
        if self.device.type == "cuda":
            held = torch.cuda.get_device_properties(self.device)
            facts |= {
                "gib": round(held.total_memory / 2**30, 1),
                "multiprocessors": held.multi_processor_count,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
                "datasheet_bf16": machine.peak_flops(self.device, True),
                "datasheet_fp32": machine.peak_flops(self.device, False),
            }
        return facts

    def ceilings(self) -> Figures:
        """FLOP/s of square products on random numbers, and bytes/s of a copy, read and written."""
        side = 512 if self.tiny else 8192
        found: Figures = {"side": side}
        for name, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("bf16", torch.bfloat16, False),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = (torch.randn(side, side, device=self.device).to(dtype) for _ in range(2))
            found[name] = 2 * side**3 / self.seconds(lambda a=a, b=b: a @ b)
        torch.backends.cuda.matmul.allow_tf32 = False
        source = torch.randn((1 if self.tiny else 512) * 2**20, device=self.device)
        target = torch.empty_like(source)
        found["copy_bytes"] = 2 * source.nbytes / self.seconds(lambda: target.copy_(source))
        return found

    def arms(self, make: Callable[..., loop.Task], arms: dict[str, dict[str, Any]]) -> Figures:
        return {name: self.attempt(lambda knobs=knobs: self.throughput(make(**knobs))) for name, knobs in arms.items()}

    def throughput(self, task: loop.Task) -> Figures:
        """The median of the epochs after the first, as the loop records them itself."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        state = loop.run(task, self.place, None, lambda _: None)
        rate = statistics.median(record["tokens_per_second"] for record in state.history[1:])
        flops = machine.flops_per_token(task.config.ranker, task.config.loss, task.shards.n_items)
        return {
            "tokens_per_second": rate,
            "flops_per_token": flops,
            "flops_per_second": rate * flops,
            "bf16": machine.in_bf16(task.config.precision, self.device),
            "peak_memory_mb": max(record["peak_memory_mb"] for record in state.history),
            "parameters": sum(t.numel() for t in state.model.values()),
            "steps_per_epoch": state.history[0]["step"],
            "train_loss": state.history[-1]["train_loss"],
        }

    def loss(self) -> Figures:
        """Milliseconds of the whole softmax alone, forward and backward, by rows of a chunk."""
        rows, items, dim = (256, 500, 32) if self.tiny else (TOKENS, LARGE_ITEMS, LARGE.dim)
        weight = torch.randn(items + 1, dim, device=self.device, requires_grad=True)
        hidden = torch.randn(rows, dim, device=self.device).bfloat16().requires_grad_()
        target = torch.randint(1, items + 1, (rows,), device=self.device)
        flops = 6 * rows * items * dim

        def once(chunk: int) -> None:
            chunked_cross_entropy(hidden, weight, target, chunk).backward()
            hidden.grad = weight.grad = None

        found = {str(chunk): self.attempt(lambda c=chunk: self.seconds(lambda: once(c))) for chunk in CHUNKS}
        return {
            chunk: took if isinstance(took, dict) else {"ms": 1000 * took, "flops_per_second": flops / took}
            for chunk, took in found.items()
        }

    def kernels(self) -> Figures:
        found = {
            "full, bf16": lambda: self.profile(self.full(precision="bf16", epochs=1)),
            "large, fp32": lambda: self.profile(self.large(precision="fp32", epochs=1)),
            "large, bf16": lambda: self.profile(self.large(precision="bf16", epochs=1)),
        }
        return {name: self.attempt(measure) for name, measure in found.items()}

    def profile(self, task: loop.Task, steps: int = 4) -> Figures:
        """Of the steps after the first few: kernels by the device's time, and the share of the wall's it was busy."""
        from torch.profiler import ProfilerActivity, profile

        todo = _steps(task)
        learner = loop.Learner(task, self.place)
        learner.model.train()
        warm = max(1, min(4, len(todo) - 1))
        for number, step in enumerate(todo[:warm]):
            learner.learn(step, number, 1e-4)
        gpu = self.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as seen:
            begun = time.perf_counter()
            for number, step in enumerate(todo[warm : warm + steps], warm):
                learner.learn(step, number, 1e-4)
            if gpu:
                torch.cuda.synchronize(self.device)
            wall = time.perf_counter() - begun
        spent = {e.key: e.self_device_time_total if gpu else e.self_cpu_time_total for e in seen.key_averages()}
        total = sum(spent.values())
        top = sorted(spent.items(), key=lambda pair: -pair[1])
        attention = [name for name in spent if any(part in name.lower() for part in ("flash", "fmha", "sdpa"))]
        return {
            "device_busy": total / 1e6 / wall,
            "kernels": [[name, share / total] for name, share in top[:12]],
            "attention": attention or ["none that is fused: plain products and a softmax"],
        }

    def agreement(self) -> Figures:
        """The loss of each of the first steps on the CPU in fp32, here in fp32 and bf16; no dropout, equal batches."""
        shape = {"dropout": 0.0} | ({"dim": 32, "max_len": 32} if self.tiny else {})
        config = TrainConfig(ranker=RankerConfig(**shape), epochs=1, checkpoint_every=1, ema=0.0)
        made = sessions(60, 300, 3000) if self.tiny else sessions(1500, 3416, 60 * config.tokens_per_step)
        curves = {}
        for name, where, precision in (
            ("cpu fp32", torch.device("cpu"), "fp32"),
            ("fp32", self.device, "fp32"),
            ("bf16", self.device, "bf16"),
        ):
            curves[name] = _curve(self.task(made, config, {"precision": precision}), Place(where))
        exact = np.array(curves["cpu fp32"])
        apart = {name: float(np.abs(np.array(c) / exact - 1).max()) for name, c in curves.items() if name != "cpu fp32"}
        return {"curves": curves, "largest_relative_difference": apart}

    def resumed(self) -> Figures:
        """A run, the same again, and one that goes on from a checkpoint in the middle, read from its file."""
        found = {}
        for name, exact in (("as shipped", False), ("deterministic algorithms", True)):
            found[name] = self.attempt(lambda exact=exact: self.again(exact))
        return found

    def again(self, exact: bool) -> Figures:
        torch.use_deterministic_algorithms(exact)
        task = self.full(epochs=2)
        half = max(1, len(_steps(task)) // 2)
        task = replace(task, config=task.config.model_copy(update={"checkpoint_every": half}))
        uri = Path(tempfile.mkdtemp(dir=self.scratch)).as_uri()
        kept: list[str] = []

        def keep(state: State) -> None:
            if state.batches and not kept:
                resume.write(uri, state)
                kept.append(state.where)

        whole, twice = (loop.run(task, self.place, None, told) for told in (keep, lambda _: None))
        on = loop.run(task, self.place, resume.newest(uri, "benchmark"), lambda _: None)
        return {
            "from": kept[0],
            "twice": _difference(whole, twice),
            "resumed": _difference(whole, on),
            "train_loss": [state.history[-1]["train_loss"] for state in (whole, twice, on)],
        }

    def ray(self) -> Figures:
        """The very path of `slipway run --gpu`: one worker of Ray Train with the GPU, NCCL, checkpoints, records."""
        from slipway.workloads.movies.ranker import distribution

        task = self.full(epochs=2)
        alone = loop.run(task, self.place, None, lambda _: None)
        begun = time.perf_counter()
        scaling = Scaling(1, use_gpu=self.device.type == "cuda")
        state = distribution.fit(task, scaling, Path(tempfile.mkdtemp(dir=self.scratch)).as_uri(), lambda *_: None)
        return {
            "seconds": time.perf_counter() - begun,
            "tokens_per_second": [s.history[-1]["tokens_per_second"] for s in (alone, state)],
            "train_loss": [s.history[-1]["train_loss"] for s in (alone, state)],
            "share_of_peak": state.history[-1].get("share_of_peak"),
        }

    # How

    def seconds(self, work: Callable[[], object], rounds: int = 20) -> float:
        """Median of one call, after warming up, by the device's own clock."""
        for _ in range(3):
            work()
        took = []
        for _ in range(rounds):
            if self.device.type == "cuda":
                begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begun.record()
                work()
                ended.record()
                torch.cuda.synchronize()
                took.append(begun.elapsed_time(ended) / 1000)
            else:
                start = time.perf_counter()
                work()
                took.append(time.perf_counter() - start)
        return statistics.median(took)

    def attempt(self, measure: Callable[[], Any]) -> Any:
        """Its figures, or why there are none: too little memory is an answer too."""
        try:
            return measure()
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "about": Bench.about,
    "ceilings": Bench.ceilings,
    "full": lambda bench: bench.arms(bench.full, FULL_ARMS),
    "large": lambda bench: bench.arms(bench.large, LARGE_ARMS),
    "loss": Bench.loss,
    "kernels": Bench.kernels,
    "agreement": Bench.agreement,
    "resumed": Bench.resumed,
    "ray": Bench.ray,
}


def sessions(users: int, items: int, events: int) -> Interactions:
    """Histories of unequal lengths, 20 at least, as MovieLens' are; films by Zipf's law."""
    random = np.random.default_rng(0)
    drawn = random.lognormal(0, 1, users)
    lengths = 20 + np.floor(drawn / drawn.sum() * max(0, events - 20 * users)).astype(np.int64)
    weights = 1 / np.arange(1, items + 1)
    return Interactions(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        items=(random.choice(items, int(lengths.sum()), p=weights / weights.sum()) + 1).astype(np.int32),
        times=None,
        user_ids=np.arange(1, users + 1),
        item_ids=np.arange(items + 1) - (np.arange(items + 1) == 0),
    )


def _steps(task: loop.Task) -> list[loop.Step]:
    """Of the first epoch."""
    config = task.config
    draw = loop.Draw(config.ranker.max_len, config.tokens_per_step, config.seed, 0)
    return list(loop.steps(task.shards, draw, config.accumulation))


def _curve(task: loop.Task, place: Place) -> list[float]:
    """The loss of each step: differences of the epoch's sums."""
    sums: list[list[float]] = [[0.0, 0.0]]
    loop.run(task, place, None, lambda state: sums.append(state.sums[0][:2]) if state.batches else None)
    return [(now[0] - then[0]) / (now[1] - then[1]) for then, now in pairwise(sums)]


def _difference(a: State, b: State) -> float:
    """The largest of any weight, over the largest weight."""
    largest = max(float(t.abs().max()) for t in a.model.values())
    return max(float((a.model[name] - b.model[name]).abs().max()) for name in a.model) / largest


def work(arguments: argparse.Namespace) -> None:
    """One part, in this process."""
    with tempfile.TemporaryDirectory(prefix="slipway-gpu-") as scratch:
        bench = Bench(torch.device(arguments.device, 0), Path(scratch), arguments.tiny)
        arguments.work.write_text(json.dumps(bench.attempt(lambda: PARTS[arguments.part[0]](bench))))


def measure(part: str, arguments: argparse.Namespace) -> Figures:
    """One part, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", part, "--device", arguments.device]
    command += ["--tiny"] if arguments.tiny else []
    # What cuBLAS needs to add in the same order each time.
    environment = {**os.environ, **({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if part == "resumed" else {})}
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "part.json"
        begun = time.perf_counter()
        try:
            ended = subprocess.run([*command, "--work", str(found)], check=False, timeout=SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {SECONDS} seconds"}
        figures: Figures = json.loads(found.read_text()) if found.exists() else {"error": f"exit {ended.returncode}"}
        return figures | {"part_seconds": round(time.perf_counter() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does: to see that the benchmark runs")
    parser.add_argument("--out", type=Path, default=EVIDENCE)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: run it where `torch.cuda.is_available()` is true")
    if (arguments.device == "cpu" or arguments.tiny) and arguments.out == EVIDENCE and not arguments.work:
        parser.error("figures of a CPU or of tiny sizes are no evidence: name another folder with --out")
    if arguments.work:
        work(arguments)
        return
    from benchmarks import gpu_page

    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "gpu.json"
    found: dict[str, Figures] = json.loads(kept.read_text()) if kept.exists() else {}
    for part in arguments.part:
        found[part] = measure(part, arguments)
        print(part, json.dumps(found[part])[:1500], flush=True)
        kept.write_text(json.dumps(found, indent=2) + "\n")
        gpu_page.write(arguments.out, found)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
