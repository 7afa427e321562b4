"""A data set's tables against their suites → a report and metrics. Knows where they go, not what is checked."""

from pathlib import Path

from components.report import emit, step
from slipway import workload
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.validation.report import raise_if_failed, render


def run(workload_name: str, data_set: str, report: Path) -> dict[str, float]:
    """data_set: "" is the settings'. Writes the page to report; returns the metrics of every suite.

    A broken hard rule ends the step, with the failing rows in its error; a soft one is a warning event.
    """
    with step("validate") as progress:
        chosen = workload.load(workload_name)
        reports = chosen.validate(Lake(), data_set or settings().data_set, progress)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(render(reports), encoding="utf-8")
        for one in reports:
            for check in one.warnings:
                emit("warning", step="validate", suite=one.suite, check=check.name, message=check.message)
        raise_if_failed(reports)
        return {name: value for one in reports for name, value in one.metrics().items()}
