"""Trained models → a table, a report and the gate's verdict. Knows where they go, not how they are computed."""

import shutil
from pathlib import Path

from components.report import emit, step
from slipway import workload
from slipway.config import parse_overrides
from slipway.settings import settings
from slipway.tracking import Tracker
from slipway.workload import Verdict


def run(
    workload_name: str, profile: str, overrides: str, run_id: str, dataset: Path, model: Path, out: Path, report: Path
) -> Verdict:
    """Writes evaluation.json and its companions to out, and the HTML page to report as well."""
    with step("evaluate") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        with Tracker(settings().tracking, workload_name).run(run_id) as tracked:
            verdict = chosen.evaluate(dataset, model, out, config, progress)
            tracked.log(
                metrics=verdict.metrics,
                tags={"gate": "admitted" if verdict.admitted else "refused", "gate_reason": verdict.reason},
            )
            tracked.log_files(out, "evaluation")
            if not verdict.admitted:
                tracked.finish()
        shutil.copyfile(out / "report.html", report)
        emit("verdict", step="evaluate", admitted=verdict.admitted, reason=verdict.reason)
        return verdict
