"""The same compiled pipeline on Kubeflow Pipelines. Submits and follows; every step runs in its pod.

    SLIPWAY_KFP_ENDPOINT=https://kubeflow.example/pipeline SLIPWAY_STORE_URI=s3://bucket/slipway \\
    SLIPWAY_IMAGE=<registry>/pipeline@sha256:… SLIPWAY_TRAINING_IMAGE=<registry>/training@sha256:… \\
        slipway run --runner cluster --data s3://bucket/ml-25m
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components import pods
from components.image import PIPELINE, TRAINING
from components.report import PREFIX
from components.train.api import Cluster
from pipelines import fingerprint, ir
from pipelines.parameters import EtlParameters, Parameters
from pipelines.placement import GPU_POOL, GPU_TAINT, NEEDS, SERVICE_ACCOUNT
from pipelines.runners import nodes
from pipelines.runners.kubeflow import AwayError, Kubeflow, no_endpoint
from pipelines.runners.monitor import Step
from slipway.errors import ConfigError, PipelineError, TrainingError
from slipway.lake.reference import is_reference
from slipway.settings import Settings

POLL = 5.0  # seconds between two looks at a run
PATIENCE = 600.0  # seconds that the API may be away while a run is followed
GRACE = 300.0  # seconds in which a Secret may come, or a registry recover, before a pod without it is given up
ROOM = 3600.0  # seconds in which an autoscaler may bring a machine, or another run end, before its place is given up
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """What is uploaded: the compiled pipeline with images by digest, under a name that only this content has."""

    pipeline: str
    version: str
    text: str
    description: str


@dataclass(frozen=True)
class Ended:
    """A run that succeeded. admitted: whether what stands behind the gate ran; None where there is no gate."""

    run_id: str
    link: str
    steps: list[Step]
    admitted: bool | None


def submit(parameters: Parameters | EtlParameters, env: Settings) -> str:
    """Start a run and return its id. Raises ConfigError before anything is sent when it could not work."""
    check(parameters, env)
    source = prepare(parameters, env)
    kubeflow = Kubeflow(env)
    return kubeflow.run(
        f"{parameters.workload}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}",
        kubeflow.experiment(parameters.workload),
        kubeflow.version(source.pipeline, source.version, source.text, source.description),
        fingerprint.arguments(parameters, env) | pod(parameters),
        SERVICE_ACCOUNT,
    )


def check(parameters: Parameters | EtlParameters, env: Settings) -> None:
    """Raises ConfigError for what no pod could work with."""
    if not env.kfp_endpoint:
        raise no_endpoint()
    if is_reference(parameters.data) and not env.store.startswith("s3://"):
        raise ConfigError(
            f"the cluster cannot read the lake in {env.store}", "set SLIPWAY_STORE_URI=s3://bucket/prefix"
        )
    if not (parameters.data == "simulated" or parameters.data.startswith("s3://") or is_reference(parameters.data)):
        raise ConfigError(f"the cluster cannot read {parameters.data!r}", "upload it and name it as s3://bucket/prefix")
    for option, name in (("--slo", getattr(parameters, "slo", "")), ("--canary", getattr(parameters, "policy", ""))):
        if Path(name).is_absolute():
            raise ConfigError(
                f"the cluster cannot read {name}, a file of this machine", f"name one that {option} --help lists"
            )
    for setting, image in (("SLIPWAY_IMAGE", env.image), ("SLIPWAY_TRAINING_IMAGE", env.training_image)):
        if not _DIGEST.fullmatch(image):
            raise ConfigError(
                f"{setting}={image} is not an image by digest, so a rebuilt one would be taken for it by the cache",
                f"set {setting}=<registry>/<name>@sha256:<64 hex digits>, as the build's push printed it",
            )


def prepare(parameters: Parameters | EtlParameters, env: Settings) -> Source:
    text = ir.with_images(ir.compile_ir(parameters.pipeline), {PIPELINE: env.image, TRAINING: env.training_image})
    code = fingerprint.code_version()
    content = hashlib.sha256(text.encode()).hexdigest()[:8]
    about = f"commit {fingerprint.git_commit()}, images {env.image} and {env.training_image}"
    return Source(f"slipway-{parameters.pipeline}", f"{code}-{content}", text, about)


def pod(parameters: Parameters | EtlParameters) -> dict[str, object]:
    """Of the train step's own pod: it needs the GPU where no workers have one."""
    if isinstance(parameters, Parameters) and parameters.use_gpu and parameters.num_workers == 0:
        return {"train_gpus": "1", "train_node_selector": GPU_POOL, "train_tolerations": [GPU_TAINT]}
    return {}


Why = Callable[[str], Sequence[pods.Trouble]]
"""run's id → what keeps its pods from running."""


def why(env: Settings) -> Why | None:
    """Kubeflow does not say why a step waits; Kubernetes does. None where it cannot be asked from here."""
    if not env.kfp_namespace:
        return None
    try:
        cluster = Cluster(env.kfp_namespace)
    except TrainingError:
        return None

    def look(run_id: str) -> Sequence[pods.Trouble]:
        try:
            return pods.troubles(cluster.pods(f"pipeline/runid={run_id}"), cluster.events(), ())
        except TrainingError:  # not allowed, or away: the run is followed all the same
            return ()

    return look


def follow(
    run_id: str,
    kubeflow: Kubeflow,
    changed: Callable[[Step], None],
    *,
    why: Why | None = None,
    poll: float = POLL,
    patience: float = PATIENCE,
    grace: float = GRACE,
    room: float = ROOM,
    wait: Callable[[float], None] = time.sleep,
) -> Ended:
    """Until the run ends. Raises PipelineError with the failed step's own message and remedy; also when a pod can never
    start, or finds no node for an hour, which Kubeflow would wait for.
    """
    told: dict[str, Step] = {}
    away = stuck = 0.0
    before: pods.Trouble | None = None
    while True:
        try:
            run = kubeflow.get_run(run_id)
        except AwayError:
            if away >= patience:
                raise
            away += poll
            wait(poll)
            continue
        away = 0.0
        now = nodes.seen((run.run_details and run.run_details.task_details) or [], NEEDS, datetime.now(UTC))
        trouble = _explain(now, why(run_id)) if why and any(step.what for step in now.steps.values()) else None
        for name, step in now.steps.items():
            if name not in told or (told[name].state, told[name].what) != (step.state, step.what):
                changed(step)
            told[name] = step
        if run.state in nodes.ENDED:
            break
        same = before is not None and trouble is not None and before.reason == trouble.reason
        stuck, before = (stuck if same else 0.0) + poll, trouble
        if trouble is not None and stuck > (grace if trouble.hopeless else room):
            raise PipelineError(
                f"a pod of run {run_id} cannot start: {trouble}",
                f"{trouble.remedy}; the run waits: slipway follow {run_id} goes on, slipway cancel {run_id} ends it",
            )
        wait(poll)
    if run.state != "SUCCEEDED":
        raise _failure(run, now, kubeflow)
    gated = "evaluate" in told
    passed = any(told[name].state in {"done", "cached"} for name in ("register",) if name in told)
    return Ended(run_id, kubeflow.link(run_id), list(told.values()), passed if gated else None)


def _explain(now: nodes.Seen, troubles: Sequence[pods.Trouble]) -> pods.Trouble | None:
    """Each waiting step says why; the first trouble that no waiting helps, else one that none may help."""
    for name, step in now.steps.items():
        found = [trouble for trouble in troubles if trouble.pod in now.pods[name].names]
        if step.what and found:
            step.what = f"{step.what}: {found[0]}"
    serious = (trouble for trouble in troubles if trouble.hopeless or trouble.reason == pods.UNSCHEDULABLE)
    return next(serious, None)  # they come with the worst first


def _failure(run: object, now: nodes.Seen, kubeflow: Kubeflow) -> PipelineError:
    """As the step said it; else the end of its pod's log; else what Kubeflow says of the run."""
    run_id, link = str(run.run_id), kubeflow.link(str(run.run_id))  # type: ignore[attr-defined]
    state, error = run.state, run.error  # type: ignore[attr-defined]
    if state == "CANCELED":
        return PipelineError(f"run {run_id} was cancelled", f"see {link}")
    said = f": {error.message}" if error is not None and error.message else ""
    name = now.failed
    if not name:
        return PipelineError(f"run {run_id} ended as {state}{said}", f"see {link}")
    pods = now.pods[name].names
    log = kubeflow.log(run_id, pods[-1]) if pods else ""
    if own := _own_words(log):
        return PipelineError(f"step {name!r} failed: {own['message']}", f"{own['remedy']}; run: {link}".lstrip("; "))
    last = [line.strip() for line in log.splitlines() if line.strip()][-5:]
    if last:
        return PipelineError(f"step {name!r} failed; its pod {pods[-1]} said last:\n" + "\n".join(last), f"see {link}")
    return PipelineError(
        f"step {name!r} failed{said}, and its pod left no log: it was evicted, ran out of memory or time, or never "
        "started",
        f"see {link}, and: kubectl describe pod -l pipeline/runid={run_id}",
    )


def _own_words(log: str) -> Mapping[str, str] | None:
    """The step's error event, the last one where it was tried again."""
    found = None
    for line in log.splitlines():
        _, mark, event = line.partition(PREFIX)
        if mark and '"error"' in event:
            try:
                read = json.loads(event)
            except ValueError:
                continue
            if read.get("event") == "error":
                found = {"message": str(read.get("message", "")), "remedy": str(read.get("remedy", ""))}
    return found
