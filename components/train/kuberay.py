"""Hands a training to KubeRay as a RayJob, follows it to its end, takes it away. Knows Kubernetes; knows no model.

However it ends, the RayJob is deleted: with Ctrl-C, or a pod that is told to stop, its pods go too, and what was
trained by then is in the checkpoints.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components import pods
from components.report import PREFIX
from components.train import rayjob
from components.train.api import AwayError, Cluster, Document, RefusedError
from components.train.job import DATA, METRICS, MODEL, REQUEST, Request
from slipway import storage
from slipway.errors import ObjectNotFoundError, SlipwayError, TrainingError
from slipway.settings import Settings
from slipway.workload import Progress

POLL = 5.0  # seconds between two looks
GRACE = 120.0  # seconds in which a Secret may come, or a registry recover, before a pod without it is given up
PATIENCE = 300.0  # seconds that the API may be away


def train(
    request: Request, dataset: Path, out: Path, checkpoints: str, key: str, env: Settings, progress: Progress
) -> dict[str, float]:
    """As Workload.train, on a Ray cluster of its own. Raises TrainingError in Ray's own words, or Kubernetes'."""
    if not checkpoints.startswith("s3://"):
        raise TrainingError(
            f"Ray's pods cannot read {checkpoints}",
            "set SLIPWAY_STORE_URI=s3://bucket/prefix, or train without workers",
        )
    objects = storage.store(checkpoints, env.s3_endpoint_url)
    if not _done(objects):
        progress("handing the data set to Ray", 0.0, {})
        storage.put_tree(dataset, f"{checkpoints}/{DATA}", env.s3_endpoint_url)
        objects.write(REQUEST, request.model_dump_json().encode())
        wanted = rayjob.Wanted(
            run=env.pipeline_run,
            key=key,
            uri=checkpoints,
            namespace=env.training_namespace,
            image=env.training_image,
            workers=request.num_workers,
            gpu=request.use_gpu,
            cpus=env.ray_cpus,
            memory=env.ray_memory,
            wait=env.ray_wait_seconds,
            deadline=env.ray_deadline_seconds,
        )
        run(Cluster(env.training_namespace), wanted, progress)
    storage.get_tree(f"{checkpoints}/{MODEL}", out, env.s3_endpoint_url)
    metrics: dict[str, float] = json.loads(objects.read(METRICS))
    return metrics


def _done(objects: storage.ObjectStore) -> bool:
    try:
        objects.read(METRICS)
    except ObjectNotFoundError:
        return False
    return True


def run(
    cluster: Cluster,
    wanted: rayjob.Wanted,
    progress: Progress,
    *,
    poll: float = POLL,
    grace: float = GRACE,
    patience: float = PATIENCE,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Create, follow to the end, delete. Raises TrainingError."""
    document = rayjob.render(wanted)
    name = document["metadata"]["name"]
    try:
        _create(cluster, document, wanted.key)
        follower = Follower(cluster, name, wanted, progress, grace)
        away = 0.0
        while True:
            try:
                if follower.look():
                    return
                away = 0.0
            except AwayError:
                if away >= patience:
                    raise
                away += poll
            wait(poll)
    finally:
        _take_away(cluster, name)


def _take_away(cluster: Cluster, name: str) -> None:
    """What ended the training is told, not what kept us from tidying up after it."""
    try:
        cluster.delete(name)
    except TrainingError as error:
        print(f"RayJob {name} was left behind, and ends at its deadline: {error.message}", flush=True)


def _create(cluster: Cluster, document: Document, key: str) -> None:
    """One of an earlier try whose pod was lost goes on, if it is the same training."""
    try:
        cluster.create(document)
    except RefusedError as refused:
        if refused.status != 409:
            raise
        found = cluster.get(document["metadata"]["name"])
        if found["metadata"].get("labels", {}).get(rayjob.KEY) != key:
            raise
        if found.get("status", {}).get("jobDeploymentStatus") in {"Failed", "ValidationFailed"}:
            raise TrainingError(
                f"RayJob {document['metadata']['name']} of an earlier try is still there, and has failed: "
                f"{found['status'].get('message', '')}",
                "it is being deleted: run again",
            ) from refused


class Follower:
    """What is known of one RayJob from one look to the next."""

    def __init__(self, cluster: Cluster, name: str, wanted: rayjob.Wanted, progress: Progress, grace: float) -> None:
        self._cluster, self._name, self._wanted, self._progress, self._grace = cluster, name, wanted, progress, grace
        self._last: dict[str, tuple[str, str]] = {}  # pod → when its last line was said
        self._looked: float | None = None
        self._said = ""
        self._hopeless_since: float | None = None
        self._why: list[pods.Trouble] = []
        self._error: SlipwayError | None = None

    def look(self) -> bool:
        """True when the training is done. Raises TrainingError when it never will be."""
        status = self._cluster.get(self._name).get("status", {})
        self._read_log()
        match status.get("jobDeploymentStatus", ""):
            case "Complete" if status.get("jobStatus") == "SUCCEEDED":
                return True
            case "Complete" | "Failed" | "ValidationFailed":
                raise self._failure(status)
            case "" | "Initializing" | "Waiting" | "Retrying" | "Suspended" | "Suspending":
                self._waiting(status)
        return False

    def _waiting(self, status: Document) -> None:
        selector = f"{rayjob.KEY}={self._wanted.key}"
        names = [self._name, *filter(None, [status.get("rayClusterName")])]
        self._why = pods.troubles(self._cluster.pods(selector), self._cluster.events(), names)
        first = self._why[0] if self._why else None
        said = f"waiting for Ray's pods: {first}" if first else "waiting for Ray's pods"
        if said != self._said:
            self._progress(said, 0.0, {})
            self._said = said
        if first is None or not first.hopeless:
            self._hopeless_since = None
            return
        now = time.monotonic()
        self._hopeless_since = self._hopeless_since or now
        if now - self._hopeless_since >= self._grace:
            raise TrainingError(f"pod {first.pod} cannot start: {first}", first.remedy)

    def _read_log(self) -> None:
        """Of the submitter, which prints what the job prints: our own events, and what Ray says between them."""
        now = time.monotonic()
        seconds = None if self._looked is None else int(now - self._looked) + 5
        for pod in self._cluster.pods(f"job-name={self._name}"):
            name = pod["metadata"]["name"]
            text = self._cluster.log(name, seconds if name in self._last else None)
            for at, line in _stamped(text):
                if at > self._last.get(name, ("", "")):
                    self._last[name] = at
                    self._heard(line)
        self._looked = now

    def _heard(self, line: str) -> None:
        _, mark, event = line.partition(PREFIX)
        if not mark:
            print(line, flush=True)
            return
        try:
            said = json.loads(event)
        except ValueError:
            return
        if said["event"] == "progress":
            self._progress(said["what"], said["share"], said["metrics"])
        elif said["event"] == "error":
            self._error = TrainingError(said["message"], said["remedy"])

    def _failure(self, status: Document) -> SlipwayError:
        """In the words of the training, else of Ray, else of KubeRay and of what kept its pods from running."""
        reason, message = status.get("reason", ""), status.get("message", "")
        for line in message.splitlines():  # KubeRay puts the end of Ray's log there
            if PREFIX in line:
                self._heard(line)
        if self._error is not None:
            return self._error
        why = f"; {self._why[0]}" if self._why else ""
        if reason == "PreRunningDeadlineExceeded":
            return TrainingError(f"Ray's pods did not all run within {self._wanted.wait} s{why}", self._room())
        if reason == "DeadlineExceeded":
            return TrainingError(
                f"the training did not end within {self._wanted.deadline} s",
                "run again: it goes on from its checkpoint; or raise SLIPWAY_RAY_DEADLINE_SECONDS",
            )
        last = "\n".join([line for line in message.splitlines() if line.strip()][-8:])
        return TrainingError(
            f"the Ray job ended as {status.get('jobStatus') or status.get('jobDeploymentStatus')} ({reason}): "
            f"{last or 'it says nothing'}{why}",
            f"see: kubectl -n {self._wanted.namespace} describe rayjob {self._name}; run again: it goes on from its "
            "checkpoint",
        )

    def _room(self) -> str:
        if self._wanted.gpu:
            return (
                f"give the GPU pool {self._wanted.workers} nodes or more (a pool of size 0 never has one), train with "
                "fewer workers or without a GPU, or wait longer: SLIPWAY_RAY_WAIT_SECONDS"
            )
        return (
            "train with fewer workers, ask for less with SLIPWAY_RAY_CPUS and SLIPWAY_RAY_MEMORY, or wait longer: "
            "SLIPWAY_RAY_WAIT_SECONDS"
        )


def _stamped(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """((second, fraction), line): Kubernetes' times leave trailing zeros out, so they are no text to compare."""
    for line in text.splitlines():
        at, _, rest = line.partition(" ")
        second, _, fraction = at.removesuffix("Z").partition(".")
        yield (second, fraction.ljust(9, "0")), rest
