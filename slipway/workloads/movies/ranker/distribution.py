"""The loop under Ray Train: in this process (num_workers 0), or on many workers. Knows Ray; knows no model.

With workers, checkpoints go through Ray's storage (below `resume`) and progress comes back through a queue, because
Ray's controller, which alone hears the reports, is a process of its own.
"""

import logging
import os
import queue
import secrets
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these once, when it is imported. Without them it would keep a token in the home folder, which may be
# read-only; with authentication off, whoever reaches its ports could run code as this user.
if "ray" not in sys.modules and not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & os.environ.keys():
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue

from slipway.errors import SlipwayError, TrainingError
from slipway.workload import Scaling
from slipway.workloads.movies.ranker import loop, resume
from slipway.workloads.movies.ranker.loop import Place, Task
from slipway.workloads.movies.ranker.resume import State

Report = Callable[[int, dict[str, float]], None]
"""(epochs done, the newest epoch's record)."""


def fit(task: Task, scaling: Scaling, folder: Path, report: Report) -> State:
    """Train to the end, from the newest checkpoint below folder if there is one.

    Raises TrainingError: see loop.run and resume.newest; also when Ray cannot start or lost its workers.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it repeats every report
    folder.mkdir(parents=True, exist_ok=True)
    start = resume.newest(folder, task.fingerprint)
    if start is not None and start.finished:
        return start
    if scaling.num_workers == 0:
        return _in_process(task, start, folder, report, scaling.use_gpu)
    return _on_workers(task, start, folder, report, scaling)


def _in_process(task: Task, start: State | None, folder: Path, report: Report, use_gpu: bool) -> State:
    def keep(state: State) -> None:
        resume.write(folder, state)
        record = state.history[-1]
        ray.train.report(record)
        report(state.epoch, record)

    def train(config: dict[str, Any]) -> State:
        device = torch.device("cuda" if config["use_gpu"] else "cpu")
        return loop.run(task, Place(device, lambda module: module.to(device)), start, keep)

    if use_gpu and not torch.cuda.is_available():
        raise TrainingError("a GPU is asked for, but PyTorch finds none", "train with use_gpu=false")
    trainer = TorchTrainer(
        train,
        train_loop_config={"use_gpu": use_gpu},
        scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=use_gpu),
    )
    state = trainer.fit().return_value
    assert isinstance(state, State)
    return state


def _on_workers(task: Task, start: State | None, folder: Path, report: Report, scaling: Scaling) -> State:
    with _cluster(scaling), _sigint_restored():
        records = Queue(actor_options={"num_cpus": 0})
        try:
            trainer = TorchTrainer(
                _work,
                # Arrays travel through the object store, not inside the function: they may be large.
                train_loop_config={"task": ray.put(task), "start": ray.put(start)},
                torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=scaling.num_workers, use_gpu=scaling.use_gpu),
                run_config=ray.train.RunConfig(
                    name=f"ranker-{uuid.uuid4().hex[:12]}",  # a name used before would resume its finished run
                    storage_path=str(folder.absolute() / "ray"),
                    checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                    failure_config=ray.train.FailureConfig(max_failures=1),
                    callbacks=[_Forward(records)],
                ),
            )
            with _listening(records, report):
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _ours(error) from error
        finally:
            records.shutdown(force=True)
    state = None
    if result.checkpoint is not None:
        with result.checkpoint.as_directory() as path:
            state = resume.newest(Path(path), task.fingerprint)
    if state is None or not state.finished:  # Ray ends so, without an error, when it is interrupted
        done = 0 if state is None else state.epoch
        raise TrainingError(f"the workers stopped after {done} epochs", "run again: it goes on from the last one")
    return state


def _work(config: dict[str, Any]) -> None:
    """One worker. After a failure Ray calls it again, with the checkpoint of the last epoch that it had stored."""
    task: Task = ray.get(config["task"])
    start: State | None = ray.get(config["start"])
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as path:
            start = resume.newest(Path(path), task.fingerprint)
    context = ray.train.get_context()
    rank = context.get_world_rank()

    def keep(state: State) -> None:
        record = state.history[-1]
        if rank != 0:
            ray.train.report(record)
            return
        with tempfile.TemporaryDirectory() as folder:
            resume.write(Path(folder), state)
            ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))

    device = ray.train.torch.get_device()
    loop.run(task, Place(device, ray.train.torch.prepare_model, rank, context.get_world_size()), start, keep)


class _Forward(ray.train.UserCallback):  # type: ignore[misc]  # Ray ships no types
    """Runs in Ray's controller: sends each stored epoch's record to the process that waits for the result."""

    def __init__(self, records: Queue) -> None:
        self.records = records

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: ARG002
        self.records.put(metrics[0])


@contextmanager
def _listening(records: Queue, report: Report) -> Iterator[None]:
    ended = threading.Event()

    def listen() -> None:
        while True:
            try:
                record = records.get(timeout=0.2)
            except queue.Empty:
                if ended.is_set():
                    return
                continue
            report(int(record["epoch"]), record)

    thread = threading.Thread(target=listen, name="training progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


@contextmanager
def _cluster(scaling: Scaling) -> Iterator[None]:
    """The Ray that is there (RAY_ADDRESS, or an earlier ray.init), else one of this machine's, stopped afterwards."""
    if ray.is_initialized():
        yield
        return
    ours: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        # More workers than cores are slow; waiting for cores that never come would be worse.
        ours["num_cpus"] = max(os.cpu_count() or 1, scaling.num_workers)
    try:
        ray.init(include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False, **ours)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Ray cannot be started or reached: {error}", "check RAY_ADDRESS, or train in process"
        ) from error
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if ours and scaling.use_gpu and gpus < scaling.num_workers:
            raise TrainingError(
                f"{scaling.num_workers} workers need a GPU each, this machine offers Ray {gpus}",
                "train with fewer workers or with use_gpu=false",
            )
        yield
    finally:
        ray.shutdown()


@contextmanager
def _sigint_restored() -> Iterator[None]:
    """trainer.fit takes SIGINT for itself and does not give it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ours(error: ray.train.TrainingFailedError) -> SlipwayError:
    """The worker's own error where it is one of ours, else what Ray says."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, SlipwayError):
                return cause
            cause = getattr(cause, "_base_exc", None) or cause.__cause__  # Ray wraps what a worker raised
    first = str(error).strip().splitlines()
    return TrainingError(f"the training workers failed: {first[-1] if first else error!r}", "run again: it goes on")
