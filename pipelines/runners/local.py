"""The compiled pipeline on this machine: kfp.local, each step in a process of its own, results cached.

One run at a time per home. A run that failed or was interrupted goes on where it was: finished steps are cache hits,
training resumes from its checkpoint. What starts a step is the caller's choice: a subprocess of this Python (here),
or a container (container.py).
"""

import fcntl
import hashlib
import logging
import os
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import psutil
from kfp import components, local

from pipelines import fingerprint, ir
from pipelines.parameters import EtlParameters, Parameters
from pipelines.runners.monitor import Monitor, Step
from slipway.errors import BusyError, PipelineError, SlipwayError
from slipway.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What a finished run left: its MLflow run, the gate's word, and where the evaluation lies."""

    name: str
    run_id: str
    admitted: bool
    evaluation: Path
    log: Path
    steps: list[Step]


@dataclass(frozen=True)
class EtlOutcome:
    """What a finished ETL run left: the data set's version in the lake, the training set, the validation report."""

    name: str
    reference: str
    dataset: Path
    report: Path
    log: Path
    steps: list[Step]
    warnings: list[Mapping[str, Any]]


class Starter(Protocol):
    """What a step's process is. images: what stands for each name of components/image.py in the compiled pipeline, and
    so in its cache's keys.
    """

    @property
    def images(self) -> Mapping[str, str]: ...

    def ready(
        self, name: str, parameters: Parameters | EtlParameters, env: Settings, kubeconfig: Path | None
    ) -> AbstractContextManager[None]:
        """While it lasts, kfp.local's SubprocessRunner starts steps this way; afterwards none is left.

        name: of the run; the environment holds what steps are told.
        """


class Subprocesses:
    """Steps run in this Python, which is where kfp.local starts them by itself."""

    images: Mapping[str, str] = {}

    def ready(self, *_: object) -> AbstractContextManager[None]:
        return nullcontext()


def run(
    parameters: Parameters,
    env: Settings,
    changed: Callable[[Step], None],
    kubeconfig: Path | None = None,
    starter: Starter | None = None,
) -> Outcome:
    """kubeconfig: of the API that the deploy step applies to. starter: by default subprocesses.

    Raises BusyError, or PipelineError with the failed step's own message and remedy.
    """
    name, log, monitor, outputs = _run(parameters, env, changed, kubeconfig, starter or Subprocesses())
    return Outcome(
        name=name,
        run_id=str(outputs["run_id"]),
        admitted=bool(outputs["admitted"]),
        evaluation=Path(outputs["evaluation"].path),
        log=log,
        steps=list(monitor.steps.values()),
    )


def run_etl(
    parameters: EtlParameters, env: Settings, changed: Callable[[Step], None], starter: Starter | None = None
) -> EtlOutcome:
    """Raises BusyError, or PipelineError with the failed step's own message and remedy."""
    name, log, monitor, outputs = _run(parameters, env, changed, None, starter or Subprocesses())
    return EtlOutcome(
        name=name,
        reference=str(outputs["reference"]),
        dataset=Path(outputs["dataset"].path),
        report=Path(outputs["report"].path),
        log=log,
        steps=list(monitor.steps.values()),
        warnings=monitor.warnings,
    )


def _run(
    parameters: Parameters | EtlParameters,
    env: Settings,
    changed: Callable[[Step], None],
    kubeconfig: Path | None,
    starter: Starter,
) -> tuple[str, Path, Monitor, dict[str, Any]]:
    """The run's name, its log, what was seen of it, and the pipeline's outputs."""
    arguments = fingerprint.arguments(parameters, env)
    name = f"{parameters.workload}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    with _exclusive(env.home, name):
        log = env.home / "runs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = _step_environment(env, name, kubeconfig)
        with ExitStack() as stack:
            stream = stack.enter_context(log.open("w"))
            stack.enter_context(_environment(variables))
            stack.enter_context(_interrupted_by_signals())
            stack.enter_context(_ended_children())
            stack.enter_context(starter.ready(name, parameters, env, kubeconfig))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            monitor = Monitor(stream, changed)
            text = ir.tried_once(ir.with_images(ir.compile_ir(parameters.pipeline), starter.images))
            return name, log, monitor, _execute(text, arguments, env, monitor, log)


def _execute(text: str, arguments: dict[str, object], env: Settings, monitor: Monitor, log: Path) -> dict[str, Any]:
    cache = env.home / "runs" / "cache" / _places(env)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(env.home / "runs"),
        workspace_root=str(env.home / "runs" / "workspace"),
        enable_caching=True,
        cache_root=str(cache),
    )
    pipeline = components.load_component_from_text(text)
    try:
        with redirect_stdout(monitor), _logged(monitor):
            return dict(pipeline(**arguments).outputs)
    except SlipwayError:
        raise
    except Exception as error:
        if monitor.error:
            remedy = monitor.error["remedy"]
            if any(step.state == "cached" for step in monitor.steps.values()):  # a damaged result would be taken again
                remedy += f"{'; ' if remedy else ''}to run the cached steps anew, remove {cache}"
            raise PipelineError(f"step {monitor.error['step']!r} failed: {monitor.error['message']}", remedy) from error
        raise PipelineError(f"the pipeline failed: {error}", f"see {log}") from error


def _places(env: Settings) -> str:
    """What a step wrote into MLflow and the store is there alone: with others, nothing was done yet."""
    return hashlib.sha256(f"{env.tracking}\n{env.store}".encode()).hexdigest()[:12]


@contextmanager
def _logged(stream: TextIO) -> Iterator[None]:
    """kfp says that a step was taken from its cache on the root logger alone, which is silent by default."""
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _step_environment(env: Settings, name: str, kubeconfig: Path | None) -> dict[str, str]:
    variables = {
        "SLIPWAY_HOME": str(env.home),
        "SLIPWAY_TRACKING_URI": env.tracking,
        "SLIPWAY_GIT_COMMIT": fingerprint.git_commit(),
        "SLIPWAY_PIPELINE_RUN": name,
        "PYTHONUNBUFFERED": "1",  # a step's events must arrive while it runs
    }
    # Threads that spin while they wait take the time of whoever else works on a laptop, and then wait for them: beside
    # other work two threads on two cores took over ten times as long as one.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // 2)), "OMP_WAIT_POLICY": "passive"}
    variables |= {key: value for key, value in threads.items() if key not in os.environ}
    return variables | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


@contextmanager
def _exclusive(home: Path, name: str) -> Iterator[None]:
    """One run per home: two would write the same caches and checkpoints."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise BusyError(home, lock.read().strip() or "starting") from error
        lock.truncate(0)
        lock.write(f"{name}, pid {os.getpid()}")
        lock.flush()
        yield


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """`kill`, `timeout` and a closed terminal end a run as Ctrl-C does; by default its step would go on without it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # no other may set handlers
    ours = [
        s for s in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(s) is signal.SIG_DFL
    ]  # nohup's stay
    for one in ours:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


@contextmanager
def _ended_children() -> Iterator[None]:
    """However the body ends, no step outlives it: an interrupt reaches us, not always our grandchildren."""
    mine = psutil.Process()
    before = set(mine.children())  # the serving stack among them: it, and what it starts meanwhile, stays up
    try:
        yield
    finally:
        steps = set(mine.children()) - before
        started = [*steps, *(p for step in steps for p in step.children(recursive=True))]
        for process in started:
            process.terminate()
        _, alive = psutil.wait_procs(started, timeout=10)
        for process in alive:
            process.kill()
