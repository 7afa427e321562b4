"""What an evaluation found, as it is kept: evaluation.json and evaluation.npz. Knows no model and computes nothing."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from slipway.errors import SourceError
from slipway.evaluation.bootstrap import Interval
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


class Slice(Frozen):
    """One metric over a part of the cases, per model: mean over the cases."""

    label: str
    cases: int
    values: dict[str, float]


class Decision(Frozen):
    """slipway.workload.Verdict, as JSON."""

    admitted: bool
    reason: str
    metrics: dict[str, float]


class Evaluation(Frozen):
    """evaluation.json. primary: the metric that the gate judges; slices: by what the cases are divided → parts."""

    format: Literal[1] = 1
    title: str
    data_sha256: str
    facts: dict[str, str]
    protocol: str
    filtered: bool
    k: int
    primary: str
    users: int
    cases: int
    rows: tuple[Row, ...]
    slices: dict[str, tuple[Slice, ...]]
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
        """<model>/<metric> → value, and gate/<figure> → value: what trackers keep. Names hold no spaces."""
        named = [(row.model, {n: i.value for n, i in row.intervals.items()} | row.figures) for row in self.rows]
        named.append(("gate", self.verdict.metrics))
        return {f"{model.replace(' ', '_')}/{name}": value for model, values in named for name, value in values.items()}


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
