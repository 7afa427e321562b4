"""Trained models → a sealed package in the object store and a version in the MLflow registry."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from components.report import step
from slipway import storage, workload
from slipway.evaluation.results import Evaluation
from slipway.package import Golden, Package, Snapshot, check_golden, write_golden
from slipway.settings import settings
from slipway.tracking import Tracker


def run(workload_name: str, profile: str, run_id: str, dataset: Path, model: Path, evaluation: Path) -> str:
    """Returns the package's URI. The registry's alias `challenger` points at it afterwards, not before."""
    with step("register") as progress, tempfile.TemporaryDirectory(prefix="slipway-register-") as scratch:
        env = settings()
        chosen = workload.load(workload_name)
        tracker = Tracker(env.tracking, workload_name)
        with tracker.run(run_id) as tracked:
            folder = Path(scratch) / "package"
            progress("exporting to ONNX", 0.0, {})
            exported = chosen.export(dataset, model, folder)
            write_golden(folder, [Golden(inputs, outputs) for inputs, outputs in exported.golden])
            package = Package.seal(
                folder,
                workload=workload_name,
                created=datetime.now(UTC),
                git_commit=env.git_commit,
                pipeline_run=env.pipeline_run,
                data=Snapshot(
                    uri=exported.data_uri or dataset.as_posix(), sha256=exported.data_sha256, events=exported.events
                ),
                signature=exported.signature,
                metrics=Evaluation.read(evaluation).flat(),
            )
            progress("checking the sealed package", 0.5, {})
            predictor = chosen.predictor(Package.open(folder))
            check_golden(package, lambda inputs: predictor.predict(inputs).outputs)
            uri = f"{env.store}/packages/{workload_name}/{package.version}"
            if not storage.is_complete(uri, env.s3_endpoint_url):
                storage.put_tree(folder, uri, env.s3_endpoint_url)
            tracked.log_files(folder / "package.json", "package")
            tags = {"git_commit": env.git_commit, "pipeline_run": env.pipeline_run, "profile": profile}
            number = tracker.register(workload_name, uri, package.version, run_id, tags)
            tracked.log(tags={"package_uri": uri, "package_version": package.version, "model_version": number})
            tracked.finish()
        return uri
