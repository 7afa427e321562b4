"""What an experiment is given. Knows no workload, and not where figures are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipway.experiments.findings import Findings
from slipway.workload import Progress

Figures = dict[str, Any]
"""What one arm measured; JSON must hold it."""

Remember = Callable[[str, Callable[[], Mapping[str, Any]]], Figures]
"""(key of an arm, how it is measured) → its figures, measured now or in an earlier, interrupted run."""


@dataclass(frozen=True)
class Context:
    """data: a data set folder, as `Workload.ingest` writes it. scratch: an empty folder at first, kept until the
    experiment is done. budget: CPU-seconds for the whole experiment, which its arms share as they see fit.
    """

    data: Path
    scratch: Path
    budget: float
    seed: int
    progress: Progress
    remember: Remember


class Experiment(Protocol):
    """A module slipway/workloads/<workload>/experiments/<name>.py.

    One that makes its own data says NEEDS_DATA = False, and context.data is then an empty folder.
    """

    DESCRIPTION: str
    """One line; a literal, because the list of experiments imports none of them."""

    def run(self, context: Context) -> Findings: ...
