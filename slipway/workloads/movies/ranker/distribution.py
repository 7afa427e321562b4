"""The loop under Ray Train: in this process (num_workers 0), or on many workers. Knows Ray; knows no model.

Progress comes back from workers through a queue, because Ray's controller, which alone hears their reports, is a
process of its own. A worker that is lost is started again max_failures times, from the newest checkpoint.
"""

import logging
import os
import queue
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from slipway.cluster import cluster  # before Ray: it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue

from slipway.errors import SlipwayError, TrainingError
from slipway.workload import Scaling
from slipway.workloads.movies.ranker import loop, resume
from slipway.workloads.movies.ranker.loop import Task
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State

Report = Callable[[int, dict[str, float]], None]
"""(epochs done, the newest epoch's record)."""


def fit(task: Task, scaling: Scaling, checkpoints: str, report: Report) -> State:
    """Train to the end, from the newest checkpoint below the URI `checkpoints` if there is one.

    Raises TrainingError: see loop.run and resume.newest; also when Ray cannot start, or lost workers more often than
    max_failures allows. StorageError, naming the last good checkpoint, when one could not be written.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it repeats every report
    start = resume.newest(checkpoints, task.fingerprint, scaling.s3_endpoint_url)
    if start is not None and start.finished:
        return start
    if scaling.num_workers == 0:
        return _in_process(task, start, checkpoints, report, scaling)
    return _on_workers(task, checkpoints, report, scaling)


def _in_process(task: Task, start: State | None, checkpoints: str, report: Report, scaling: Scaling) -> State:
    def keep(state: State) -> None:
        resume.write(checkpoints, state, scaling.s3_endpoint_url)
        if not state.batches:
            ray.train.report(state.history[-1])
            report(state.epoch, state.history[-1])

    def train(config: dict[str, Any]) -> State:
        return loop.run(task, Place(torch.device("cuda" if config["use_gpu"] else "cpu")), start, keep)

    if scaling.use_gpu and not torch.cuda.is_available():
        raise TrainingError("a GPU is asked for, but PyTorch finds none", "train with use_gpu=false")
    trainer = TorchTrainer(
        train,
        train_loop_config={"use_gpu": scaling.use_gpu},
        scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=scaling.use_gpu),
    )
    state = trainer.fit().return_value
    assert isinstance(state, State)
    return state


def _on_workers(task: Task, checkpoints: str, report: Report, scaling: Scaling) -> State:
    gpus = scaling.num_workers if scaling.use_gpu else 0
    with cluster(scaling.num_workers, gpus), _sigint_restored():
        records = Queue(actor_options={"num_cpus": 0})
        filesystem, path = _ray_storage(f"{checkpoints}/ray", scaling.s3_endpoint_url)
        try:
            trainer = TorchTrainer(
                _work,
                # Arrays travel through the object store, not inside the function: they may be large.
                train_loop_config={
                    "task": ray.put(task),
                    "checkpoints": checkpoints,
                    "endpoint_url": scaling.s3_endpoint_url,
                    "records": records,
                },
                torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=scaling.num_workers, use_gpu=scaling.use_gpu),
                run_config=ray.train.RunConfig(
                    name=f"ranker-{uuid.uuid4().hex[:12]}",  # a name used before would resume its finished run
                    storage_filesystem=filesystem,
                    storage_path=path,
                    failure_config=ray.train.FailureConfig(max_failures=task.config.max_failures),
                ),
            )
            with _listening(records, report) as refused:
                trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _ours(error, task.config.max_failures, _reached(task, checkpoints, scaling)) from error
        finally:
            records.shutdown(force=True)
    if refused:
        raise refused[0]
    state = resume.newest(checkpoints, task.fingerprint, scaling.s3_endpoint_url)
    if state is None or not state.finished:  # Ray ends so, without an error, when it is interrupted
        raise TrainingError(
            f"the workers stopped; the last checkpoint is {_reached(task, checkpoints, scaling)}",
            "run again: it goes on from there",
        )
    return state


def _work(config: dict[str, Any]) -> None:
    """One worker. After a failure Ray calls it again, on new processes: it goes on from the newest checkpoint.

    Checkpoints are ours and not Ray's: they count as soon as they are written, not once a controller has heard of them.
    """
    task: Task = ray.get(config["task"])
    uri, endpoint_url, records = config["checkpoints"], config["endpoint_url"], config["records"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    # One worker looks and tells the others: they must all go on from the same.
    found = [resume.newest(uri, task.fingerprint, endpoint_url) if rank == 0 else None]
    torch.distributed.broadcast_object_list(found)

    def keep(state: State) -> None:
        if rank == 0:
            resume.write(uri, state, endpoint_url)
        if not state.batches:
            ray.train.report(state.history[-1])  # waits for all workers
            if rank == 0:
                records.put(state.history[-1])

    place = Place(ray.train.torch.get_device(), rank, context.get_world_size(), task.config.strategy)
    try:
        loop.run(task, place, found[0], keep)
    except TrainingError as error:
        # On all workers at once, and the same again if it were tried again: so it is told, and nothing is raised.
        if rank == 0:
            records.put(error)


def _ray_storage(uri: str, endpoint_url: str | None) -> tuple[Any, str]:
    """pyarrow's file system and the path in it: where Ray keeps what it knows of a run."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return None, unquote(parts.path)
    from pyarrow.fs import S3FileSystem

    # "When supported" (the default) breaks most servers that are not AWS's own. Workers started by us inherit it.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    where: dict[str, str] = {}
    if endpoint_url:
        endpoint = urlsplit(endpoint_url)
        where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    return S3FileSystem(**where), f"{parts.netloc}{parts.path}"


def _reached(task: Task, checkpoints: str, scaling: Scaling) -> str:
    try:
        state = resume.newest(checkpoints, task.fingerprint, scaling.s3_endpoint_url)
    except SlipwayError as error:
        return f"unknown ({error.message})"
    return "none" if state is None else f"of {state.where} in {checkpoints}"


@contextmanager
def _listening(records: Queue, report: Report) -> Iterator[list[TrainingError]]:
    """Yields what the workers refused to go on with, filled once they have ended."""
    ended = threading.Event()
    refused: list[TrainingError] = []

    def listen() -> None:
        while True:
            try:
                record = records.get(timeout=0.2)
            except queue.Empty:
                if ended.is_set():
                    return
                continue
            if isinstance(record, TrainingError):
                refused.append(record)
            else:
                report(int(record["epoch"]), record)

    thread = threading.Thread(target=listen, name="training progress", daemon=True)
    thread.start()
    try:
        yield refused
    finally:
        ended.set()
        thread.join(timeout=10)


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


def _ours(error: ray.train.TrainingFailedError, max_failures: int, reached: str) -> SlipwayError:
    """The worker's own error where it is one of ours, else what Ray says."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, SlipwayError):
                return cause
            cause = getattr(cause, "_base_exc", None) or cause.__cause__  # Ray wraps what a worker raised
    lines = [line for line in str(error).splitlines() if line.strip()]
    return TrainingError(
        f"the training workers failed more often than max_failures={max_failures}: "
        f"{lines[-1].strip() if lines else repr(error)}; the last checkpoint is {reached}",
        "run again, perhaps with a higher max_failures: it goes on from there",
    )
