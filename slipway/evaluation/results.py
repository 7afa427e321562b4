"""What an evaluation found, as it is kept: evaluation.json and evaluation.npz. Knows no model and computes nothing."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from slipway.errors import SourceError
from slipway.evaluation.bootstrap import Interval
from slipway.evaluation.calibration import Bin
from slipway.evaluation.checks import MEASURED, Check, Outcome
from slipway.evaluation.fairness import Comparison
from slipway.evaluation.measurement import Measurement
from slipway.evaluation.slices import Slicing
from slipway.package import Frozen

DOCUMENT = "evaluation.json"
PER_USER = "evaluation.npz"

Floats = npt.NDArray[np.float64]


class Row(Frozen):
    """One model of the table. intervals: of means over users; figures: of all answers together (coverage, novelty)."""

    model: str
    intervals: dict[str, Interval]
    figures: dict[str, float]
    recall: tuple[float, ...]  # at 1, 2, … 100
    finite: bool
    cpu_seconds: float  # for scoring all cases


class Table(Frozen):
    """The same models asked in another way. metrics: model → metric → its interval, over the same users."""

    name: str
    title: str
    cases: int
    metrics: dict[str, dict[str, Interval]]


class Stage(Frozen):
    """What one part of the whole adds: the primary metric of model minus that of over, paired."""

    model: str
    over: str
    gain: Interval


class Decision(Frozen):
    """slipway.workload.Verdict, as JSON."""

    admitted: bool
    reason: str
    metrics: dict[str, float]


class Evaluation(Frozen):
    """evaluation.json. primary: the metric that the gate judges; served: the model that is judged; bar: what it must
    beat; lineage: where it comes from; champion: its metrics, null where there is none.
    """

    format: Literal[2] = 2
    title: str
    data_sha256: str
    facts: dict[str, str]
    lineage: dict[str, str]
    configuration: str
    protocol: str
    filtered: bool
    k: int
    primary: str
    served: str
    bar: str
    users: int
    cases: int
    rows: tuple[Row, ...]
    tables: tuple[Table, ...]
    stages: tuple[Stage, ...]
    slicings: tuple[Slicing, ...]
    fairness: tuple[Comparison, ...]
    reliability: tuple[Bin, ...]
    measurements: tuple[Measurement, ...]
    checks: tuple[Check, ...]
    champion: dict[str, float] | None
    verdict: Decision
    training: dict[str, tuple[tuple[float, float], ...]]  # (epoch, value) points of each curve

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Raises SourceError when the folder holds none."""
        path = folder / DOCUMENT
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise SourceError(f"{path} is no evaluation: {error}", "evaluate the model again") from error

    def flat(self) -> dict[str, float]:
        """What trackers keep, by names without spaces: <model>/<metric>, gate/<figure>, measured/<measurement> and
        check/<measurement>, 1 where it passed and 0 where not.
        """
        named = [(row.model, {n: i.value for n, i in row.intervals.items()} | row.figures) for row in self.rows]
        for table in self.tables:
            named += [(model, {n: i.value for n, i in found.items()}) for model, found in table.metrics.items()]
        named.append(("gate", self.verdict.metrics))
        flat = {f"{model.replace(' ', '_')}/{name}": value for model, values in named for name, value in values.items()}
        flat |= {MEASURED + m.name: m.value for m in self.measurements if m.value is not None and m.cases}
        judged = [check for check in self.checks if check.outcome is not Outcome.NOT_MEASURED]
        return flat | {f"check/{check.name}": float(check.outcome is Outcome.PASSED) for check in judged}

    def headline(self) -> dict[str, float]:
        """The primary metric of every model: what fits on a line of progress."""
        return {row.model.replace(" ", "_"): row.intervals[self.primary].value for row in self.rows}


def write(folder: Path, evaluation: Evaluation, per_user: dict[str, npt.NDArray[Any]], report: str) -> None:
    """Write evaluation.npz, report.html and, last, evaluation.json: where that lies, the rest is whole.

    per_user: `users` (source ids), `cases` and, for each <model>/<metric>, (users,) values: for paired comparisons
    with models that are evaluated later on the same cases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = folder / f".{PER_USER}.part"
    with arrays.open("wb") as stream:
        keyed: dict[str, Any] = dict(per_user)
        np.savez_compressed(stream, **keyed)
    arrays.rename(folder / PER_USER)
    for name, text in (("report.html", report), (DOCUMENT, evaluation.model_dump_json(indent=2) + "\n")):
        draft = folder / f".{name}.part"
        with draft.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(folder / name)
