"""What staging found of one build, and how it reads: a verdict, a page, numbers for MLflow. Knows no cluster."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from components.stage.suite import Finding, Result
from load_tests import run as load
from slipway.errors import StagingError

FACTS = {
    "requests": "requests",
    "intended_per_s": "requests/s intended, after the ramp",
    "generator_late_p99_ms": "ms by which the generator itself was late (p99): part of the latency above",
    "generator_cpu_share": "of a core, spent by the generator",
    "uncorrected_p50_ms": "ms p50 from when a request was sent: what a closed loop would have reported",
    "uncorrected_p99_ms": "ms p99 likewise",
}


@dataclass(frozen=True)
class Verdict:
    """load: None where the build did not come so far."""

    package: str
    url: str
    slo: str
    findings: tuple[Finding, ...]
    load: load.Result | None
    seconds: float

    @property
    def broken(self) -> list[str]:
        """Each check and objective that did not hold; empty: the build may go on."""
        checks = [f"{f.name}: {f.detail}" for f in self.findings if f.result is Result.FAILED]
        if self.load is None:
            return checks or ["it was not loaded"]
        strangers = sorted(set(self.load.document["versions"]) - {self.package})
        mixed = [f"package {', '.join(strangers)} answered as well"] if strangers else []
        return checks + self.load.breaches + mixed

    @property
    def passed(self) -> bool:
        return not self.broken

    def metrics(self) -> dict[str, float]:
        """staging/<objective>, and how many checks failed; what could not be measured is left out."""
        numbers: dict[str, float] = {
            "staging/checks": float(len(self.findings)),
            "staging/failed_checks": float(sum(f.result is Result.FAILED for f in self.findings)),
        }
        if self.load is not None:
            figures = {**self.load.measured, **self.load.facts}
            numbers |= {f"staging/{name}": float(v) for name, v in figures.items() if v == v}  # noqa: PLR0124 - NaN
        return numbers

    def document(self) -> dict[str, Any]:
        return {
            "package": self.package,
            "url": self.url,
            "slo": self.slo,
            "passed": self.passed,
            "broken": self.broken,
            "seconds": self.seconds,
            "findings": [dataclasses.asdict(f) for f in self.findings],
            "load": None if self.load is None else dict(self.load.document),
        }

    def write(self, folder: Path) -> Path:
        """staging.json and report.html into folder; returns the page."""
        (folder / "staging.json").write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")
        page = folder / "report.html"
        page.write_text(self.html(self._pictures()), "utf-8")
        return page

    def _pictures(self) -> dict[str, str]:
        if self.load is None:
            return {}
        from load_tests import plots

        drawn = plots.draw(self.load)
        return {name: base64.b64encode(path.read_bytes()).decode() for name, path in drawn.items()}

    def html(self, pictures: Mapping[str, str]) -> str:
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"g": lambda v: f"{v:,.4g}", "share": lambda v: "" if v is None else f"{v:+.0%}"}
        template = environment.from_string(files("components.stage").joinpath("report.html").read_text("utf-8"))
        return template.render(v=self, pictures=pictures, facts=FACTS, now=datetime.now(UTC))


class RefusedError(StagingError):
    """verdict: everything that was found, for whoever shows a refusal."""

    def __init__(self, verdict: Verdict, remedy: str) -> None:
        self.verdict = verdict
        super().__init__(verdict.package, verdict.broken, remedy)
