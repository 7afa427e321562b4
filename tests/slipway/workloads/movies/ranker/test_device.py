"""Training anywhere but on the CPU: on a device that PyTorch has on every machine, and on a GPU where there is one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slipway.workload import Scaling
from slipway.workloads.movies.experiments.probe import histories
from slipway.workloads.movies.ranker import device, distribution, loop, resume, shards
from slipway.workloads.movies.ranker import loss as losses
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig, TrainConfig
from slipway.workloads.movies.ranker.loop import Task, TrainingStep
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.validation import Validation

Make = Callable[..., TrainConfig]

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")


@pytest.mark.slow
def test_another_device_than_the_cpu_trains_and_resumes_as_the_cpu_does(tmp_path: Path) -> None:
    """elsewhere.py refuses what a GPU would refuse, and counts what it would wait for."""
    script = Path(__file__).parent / "elsewhere.py"
    ended = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    runs = json.loads(ended.stdout.splitlines()[-1])
    assert runs
    for name, run in runs.items():
        near, far = run["losses"]
        assert far == pytest.approx(near, rel=1e-6), name
        assert run["ndcg"][0] == pytest.approx(run["ndcg"][1]), name
        assert run["differs"] < 1e-7, name
        assert run["resumed_differs"] == 0, name
        waits = run["waits"]
        in_steps = {place: n for place, n in waits.items() if not place.startswith(("_to_copy", "to at scorer"))}
        parts = run["parts"] * (2 if "loss._surprise" in " ".join(waits) else 1)
        assert sum(in_steps.values()) == parts + 2 * run["steps"], f"{name}: a new wait? {in_steps}"


def test_the_arithmetic_of_a_token_is_what_pytorch_counts() -> None:
    """Full softmax in one piece, attention as plain products: those take the whole window, the formula the half."""
    shape = RankerConfig(dim=48, user_dim=16, layers=3, heads=4, max_len=16, dropout=0.0)
    n_items, rows = 500, 6
    step = TrainingStep(
        Ranker(shape, n_items, 5), losses.build(LossConfig(chunked=False), torch.ones(n_items + 1)), False
    )
    items = torch.randint(1, n_items + 1, (rows, shape.max_len))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step(items, torch.zeros(rows, dtype=torch.int64), items).backward()
    other_half = 3 * shape.layers * 2 * 2 * shape.width * shape.max_len / 2
    expected = device.flops_per_token(shape, LossConfig(), n_items) + other_half
    assert counter.get_total_flops() == expected * items.numel()


@pytest.fixture
def learnable(tmp_path: Path, small: Make) -> Callable[..., Task]:
    """The same numbers on every device: no dropout, whose draws differ between CPU and GPU."""

    def make(**different: object) -> Task:
        made = histories(64, 40, 200, 0)
        plain = {"ranker": {"dim": 64, "heads": 2, "max_len": 40, "dropout": 0.0}, "precision": "fp32", "epochs": 2}
        data = shards.write(made, (tmp_path / "data").as_uri(), 10**6)
        config = small(**(plain | different))
        return Task(data, Validation(made, made.indptr[1:33] - 1, False), config, "test")

    return make


def run(task: Task, where: torch.device) -> State:
    return loop.run(task, Place(where), None, lambda _: None)


@on_a_gpu
def test_a_gpu_in_fp32_learns_what_the_cpu_learns(learnable: Callable[..., Task]) -> None:
    near, far = (run(learnable(), where) for where in (CPU, GPU))
    assert far.history[-1]["train_loss"] == pytest.approx(near.history[-1]["train_loss"], rel=1e-4)
    assert far.history[-1]["validation_ndcg10"] == pytest.approx(near.history[-1]["validation_ndcg10"], abs=0.02)
    assert far.history[-1]["peak_memory_mb"] < 2000  # what tensors hold there, not the process


@on_a_gpu
@pytest.mark.parametrize("kind", ["full", "sampled", "gbce"])
def test_a_gpu_in_bf16_learns_nearly_that(learnable: Callable[..., Task], kind: str) -> None:
    if not device.computes_bf16(GPU):
        pytest.skip("this GPU does not compute in bf16")
    loss = LossConfig(kind=kind, negatives=16)
    exact, rounded = (run(learnable(precision=p, loss=loss), GPU) for p in ("fp32", "bf16"))
    assert rounded.history[-1]["train_loss"] == pytest.approx(exact.history[-1]["train_loss"], rel=0.02)
    assert rounded.history[-1]["train_loss"] != exact.history[-1]["train_loss"]


@on_a_gpu
def test_recomputed_activations_change_nothing_but_memory_on_a_gpu(learnable: Callable[..., Task]) -> None:
    shape = {"dim": 64, "heads": 2, "layers": 6, "max_len": 40, "dropout": 0.2}
    states = []
    for again in (False, True):
        torch.cuda.reset_peak_memory_stats()
        knobs = {"ranker": shape, "activation_checkpointing": again, "tokens_per_step": 10**6, "epochs": 1}
        states.append(run(learnable(**knobs), GPU))
    kept, recomputed = (state.history[-1] for state in states)
    assert recomputed["train_loss"] == pytest.approx(kept["train_loss"], rel=1e-5)
    assert recomputed["peak_memory_mb"] < kept["peak_memory_mb"]


@on_a_gpu
def test_a_run_resumed_on_a_gpu_ends_where_the_unbroken_one_does(
    learnable: Callable[..., Task], tmp_path: Path
) -> None:
    """Through a file, as after a loss. Sums over scattered rows are added in any order: equal but for rounding."""
    task = learnable(checkpoint_every=3, ranker={"dim": 64, "heads": 2, "max_len": 40, "dropout": 0.2})
    uri = (tmp_path / "resume").as_uri()

    def keep(state: State) -> None:
        if state.batches and state.epoch == 0:
            resume.write(uri, state)

    whole = loop.run(task, Place(GPU), None, keep)
    again = loop.run(task, Place(GPU), resume.newest(uri, "test"), lambda _: None)
    assert again.step == whole.step
    assert again.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-3)


@on_a_gpu
def test_attention_in_bf16_is_a_fused_kernel(learnable: Callable[..., Task]) -> None:
    if not device.computes_bf16(GPU):
        pytest.skip("this GPU does not compute in bf16")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run(learnable(precision="bf16", epochs=1), GPU)
    names = " ".join(event.key.lower() for event in profile.key_averages())
    assert any(part in names for part in ("flash", "fmha", "sdpa")), names


@pytest.mark.slow
@on_a_gpu
def test_a_worker_of_ray_with_a_gpu_ends_where_this_process_does(
    learnable: Callable[..., Task], tmp_path: Path
) -> None:
    task = learnable()
    alone = run(task, GPU)
    state = distribution.fit(task, Scaling(1, use_gpu=True), (tmp_path / "resume").as_uri(), lambda *_: None)
    assert state.finished
    assert state.history[-1]["train_loss"] == pytest.approx(alone.history[-1]["train_loss"], rel=1e-4)
