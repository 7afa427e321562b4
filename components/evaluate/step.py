"""Trained models → a table, a report and the gate's verdict. Knows where they go, not how they are computed."""

import shutil
from pathlib import Path

from pydantic import ValidationError

from components.report import emit, step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.errors import IntegrityError, ObjectNotFoundError, StorageError
from slipway.package import MANIFEST, Manifest
from slipway.settings import settings
from slipway.tracking import Tracker
from slipway.workload import Verdict

TAG_LENGTH = 5000  # MLflow's limit; the whole reason is in evaluation.json and in the report


def run(
    workload_name: str, profile: str, overrides: str, run_id: str, dataset: Path, model: Path, out: Path, report: Path
) -> Verdict:
    """Writes evaluation.json and its companions to out, and the HTML page to report as well."""
    with step("evaluate") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        env = settings()
        tracker = Tracker(env.tracking, workload_name)
        with tracker.run(run_id) as tracked:
            uri = tracker.champion(workload_name)
            champion = None if uri is None else package_metrics(uri, env.s3_endpoint_url)
            verdict = chosen.evaluate(dataset, model, out, config, progress, champion)
            tracked.log(
                metrics=verdict.metrics,
                tags={
                    "gate": "admitted" if verdict.admitted else "refused",
                    "gate_reason": verdict.reason[:TAG_LENGTH],
                    "champion": uri or "none",
                },
            )
            tracked.log_files(out, "evaluation")
            if not verdict.admitted:
                tracked.finish()
        shutil.copyfile(out / "report.html", report)
        emit("verdict", step="evaluate", admitted=verdict.admitted, reason=verdict.reason)
        return verdict


def package_metrics(uri: str, endpoint_url: str | None) -> dict[str, float]:
    """Of the champion's package. Raises StorageError when it is not where the registry says, IntegrityError when its
    package.json cannot be read: without its figures nothing can be said against it.
    """
    try:
        return Manifest.model_validate_json(storage.store(uri, endpoint_url).read(MANIFEST)).metrics
    except ObjectNotFoundError as error:
        raise StorageError(
            f"the registry's champion is at {uri}, but there is no {MANIFEST}",
            "bring the package back, or remove the alias `champion` from the registry",
        ) from error
    except ValidationError as error:
        raise IntegrityError(f"{uri}/{MANIFEST} is not valid: {error}") from error
