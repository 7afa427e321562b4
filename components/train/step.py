"""Data set → trained models, tracked in MLflow and resumable. Knows runs and checkpoints, not models."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from components.report import step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.package import tree_hashes
from slipway.settings import settings
from slipway.tracking import Run, Tracker
from slipway.workload import Scaling


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
    the same data, configuration and code.
    """
    with step("train") as progress:
        env = settings()
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        data_hash = _hash(str(tree_hashes(dataset)))
        resume = env.home / "checkpoints" / _hash(f"{data_hash}{config!r}{num_workers}{code_version}")[:16]
        resume.mkdir(parents=True, exist_ok=True)
        tracked = _run(Tracker(env.tracking, workload_name), resume / "mlflow_run", profile)

        def report(what: str, share: float, metrics: Mapping[str, float]) -> None:
            progress(what, share, metrics)
            if "epoch" in metrics:
                tracked.log(metrics=metrics, step=int(metrics["epoch"]))

        with tracked:
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
            metrics = chosen.train(dataset, out, config, Scaling(num_workers, use_gpu), report, resume)
            tracked.log(metrics=metrics)
        shutil.rmtree(resume, ignore_errors=True)
        return tracked.id, metrics


def _run(tracker: Tracker, memory: Path, profile: str) -> Run:
    if memory.exists():
        return tracker.resume(memory.read_text())
    env = settings()
    started = tracker.start(f"{profile}-{env.pipeline_run}", {})
    storage.write_atomically(memory, started.id)
    return started


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
