"""Trained models → the files that will be served, and a table of what was tried. Knows where they go, not how."""

import shutil
import tempfile
from pathlib import Path

from components.report import emit, step
from slipway import workload
from slipway.config import parse_overrides
from slipway.optimisation.results import TABLE
from slipway.settings import settings
from slipway.tracking import Tracker

FOLDER = "optimisation"  # of the MLflow run's artifacts


def run(
    workload_name: str,
    profile: str,
    overrides: str,
    run_id: str,
    dataset: Path,
    model: Path,
    out: Path,
    table: Path,
) -> dict[str, float]:
    """Writes the servable files to out and the table to table; returns the figures of what is shipped."""
    with step("optimise") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        tracker = Tracker(settings().tracking, workload_name)
        with tracker.run(run_id) as tracked, tempfile.TemporaryDirectory(prefix="slipway-optimise-") as scratch:
            if out.exists():  # of a step that was killed
                shutil.rmtree(out)
            found = chosen.optimise(dataset, model, out, config, progress)
            found.publish(Path(scratch))
            tracked.log_files(Path(scratch), FOLDER)
            tracked.log(metrics=found.metrics(), tags={"served_graph": found.shipped.name})
            shutil.copyfile(Path(scratch) / TABLE, table)
        emit("optimised", step="optimise", shipped=found.shipped.name, reason=found.shipped.reason)
        return found.metrics()
