"""Data set → trained models, tracked in MLflow and resumable. Knows runs and checkpoints, not models."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.report import step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.errors import ObjectNotFoundError
from slipway.package import tree_hashes
from slipway.settings import settings
from slipway.workload import Scaling

if TYPE_CHECKING:
    from slipway.tracking import Run

MEMORY = "mlflow_run"  # which run of MLflow a training belongs to, however often it is killed


def run(
    workload_name: str,
    profile: str,
    overrides: str,
    num_workers: int,
    use_gpu: bool,
    code_version: str,
    dataset: Path,
    out: Path,
) -> tuple[str, dict[str, float]]:
    """Returns the MLflow run's id and the training metrics.

    A run that was killed goes on from its last checkpoint, in the same MLflow run, when it is started again with
    the same data, configuration and code. With workers on a cluster, Ray's pods are KubeRay's (kuberay.py).
    """
    with step("train") as progress:
        env = settings()
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        data_hash = _hash(str(tree_hashes(dataset)))
        key = _hash(f"{data_hash}{config!r}{num_workers}{code_version}")[:16]
        checkpoints = f"{env.store}/checkpoints/{key}"
        objects = storage.store(checkpoints, env.s3_endpoint_url)
        tracking = Stopwatch()
        with tracking:
            tracked = _run(objects, workload_name, profile)

        def report(what: str, share: float, metrics: Mapping[str, float]) -> None:
            with tracking:
                progress(what, share, metrics)
                if "epoch" in metrics:
                    tracked.log(metrics=metrics, step=int(metrics["epoch"]))

        with tracked:
            with tracking:
                tracked.log(
                    params={
                        "profile": profile,
                        "num_workers": num_workers,
                        "use_gpu": use_gpu,
                        **_flat(config.model_dump(mode="json")["train"]),
                    },
                    tags={
                        "data_sha256": data_hash,
                        "mlflow.source.git.commit": env.git_commit,
                        "pipeline_run": env.pipeline_run,
                        "code_version": code_version,
                    },
                )
            begun, before = time.perf_counter(), tracking.seconds
            if num_workers and env.training_namespace:
                from components.train import kuberay  # a cluster's business

                request = kuberay.Request(
                    workload=workload_name,
                    profile=profile,
                    overrides=overrides,
                    num_workers=num_workers,
                    use_gpu=use_gpu,
                )
                metrics = kuberay.train(request, dataset, out, checkpoints, key, env, report)
            else:
                scaling = Scaling(num_workers, use_gpu, env.s3_endpoint_url)
                metrics = chosen.train(dataset, out, config, scaling, report, checkpoints)
            trained = time.perf_counter() - begun - (tracking.seconds - before)
            metrics |= {"tracking_seconds": tracking.seconds, "tracking_share": tracking.seconds / trained}
            tracked.log(metrics=metrics)
        for key in list(objects.keys()):
            objects.delete(key)
        return tracked.id, metrics


class Stopwatch:
    """Adds up the seconds spent within it: what tracking and reports held the step up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begun


def _run(objects: storage.ObjectStore, workload_name: str, profile: str) -> "Run":
    """The run of a training that was killed, or a new one, remembered beside the checkpoints."""
    from slipway.tracking import Tracker  # its import is a second or more, and counts as tracking

    env = settings()
    tracker = Tracker(env.tracking, workload_name)
    try:
        return tracker.resume(objects.read(MEMORY).decode())
    except ObjectNotFoundError:
        started = tracker.start(f"{profile}-{env.pipeline_run}", {})
        objects.write(MEMORY, started.id.encode())
        return started


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
