"""What a suite found in a table, as data, as metrics and as a page. Knows counts and rows, not what they mean."""

import re
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Literal

from jinja2 import Environment, StrictUndefined
from pydantic import Field

from slipway.errors import DataQualityError
from slipway.package import Frozen
from slipway.validation.profile import Profile

SHOWN = 20  # failing rows that a report keeps of a check
Status = Literal["passed", "failed", "warned", "skipped"]
WORDS: dict[Status, str] = {"failed": "✗ failed", "warned": "! warning", "passed": "✓ passed", "skipped": "– skipped"}


class Result(Frozen):
    """One check. rows: how many failed it (hard); observed, limit: what a soft one compared.

    column: the one to blame, where there is one; examples: the first failing rows, every value as text.
    """

    name: str
    hard: bool
    status: Status
    message: str
    column: str = ""
    rows: int = 0
    observed: float | None = None
    limit: float | None = None
    examples: tuple[dict[str, str], ...] = ()


class Report(Frozen):
    """table: where the rows came from; version: of the suite; snapshot: of the table, where it has any.

    passed: no hard check failed. warned: a soft one found something.
    """

    suite: str
    version: str
    stage: str
    table: str
    snapshot: int | None
    checked_at: datetime
    rows: int
    seconds: float
    checks: tuple[Result, ...]
    profile: Profile | None = Field(None, exclude=True, repr=False)

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def warned(self) -> bool:
        return bool(self.warnings)

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def warnings(self) -> tuple[Result, ...]:
        return tuple(check for check in self.checks if check.status == "warned")

    def metrics(self) -> dict[str, float]:
        """validation_<suite>_<check>: failing rows of a hard check, the observed value of a soft one."""
        prefix = f"validation_{self.suite}_"
        found = {
            "rows": float(self.rows),
            "failed": float(len(self.failures)),
            "warned": float(len(self.warnings)),
        }
        for check in self.checks:
            value = float(check.rows) if check.hard else check.observed
            if value is not None and check.status != "skipped":
                found[check.name] = value
        return {re.sub(r"[^A-Za-z0-9_./-]+", "_", prefix + name).rstrip("_"): value for name, value in found.items()}

    def raise_if_failed(self) -> None:
        """Raises DataQualityError, which shows the first failing rows."""
        raise_if_failed([self])


def raise_if_failed(reports: Sequence[Report]) -> None:
    """One DataQualityError for all suites that refused their table; nothing when none did."""
    refused = [report for report in reports if not report.passed]
    if refused:
        raise DataQualityError(
            ", ".join(report.suite for report in refused),
            {f"{report.suite}.{check.name}": check.rows for report in refused for check in report.failures},
            "\n".join(line for report in refused for check in report.failures for line in _lines(check)),
            "repair what wrote the rows, or the rows (docs/validation.md); where the data is right, correct the suite",
        )


def render(reports: Sequence[Report]) -> str:
    """One page of the reports of a data set's tables: no scripts, no links to follow; the worst comes first."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("slipway.validation").joinpath("report.html").read_text("utf-8"))
    ordered = sorted(reports, key=lambda report: (report.passed, not report.warned))
    return template.render(
        reports=[
            (report, {status: [c for c in report.checks if c.status == status] for status in WORDS})
            for report in ordered
        ],
        words=WORDS,
        failed=[report for report in ordered if not report.passed],
        warned=[report for report in ordered if report.passed and report.warned],
        number=_number,
    )


def _lines(check: Result) -> list[str]:
    rows = [
        "    " + ", ".join(f"{name}={value}" for name, value in row.items() if value != "null" or name == check.column)
        for row in check.examples[:3]
    ]
    return [f"  {check.name}: {check.message}", *rows]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1 else f"{value:.4g}"
