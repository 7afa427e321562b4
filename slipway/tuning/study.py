"""A study on disk: what was asked for, and each trial as far as it came. Knows files; knows no search and no Ray.

<folder>/study.json                     Plan
<folder>/trials/<key>/reports.jsonl     a line per validated epoch, written by the trial itself
<folder>/trials/<key>/trial.json        Record, written by who runs the study
<folder>/trials/<key>/checkpoints       from which an interrupted trial goes on; gone when it has ended

That is all that resuming needs: Ray Tune's own snapshots (Tuner.restore) forget the rungs of its successive halving
(ray 2.60, TuneController.__getstate__), are seconds old after a kill, and are pickles.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from slipway import storage
from slipway.errors import ConfigError, TrainingError
from slipway.package import Frozen
from slipway.tuning.space import Point, SearchSpace

PLAN = "study.json"


class Plan(Frozen):
    """study.json. overrides: over the profile, in every trial. data_set: the ingested folder; budget: CPU-seconds of
    all trials together. commit: of the code that began it. run: of MLflow.
    """

    name: str
    workload: str
    profile: str
    overrides: dict[str, Any]
    data: str
    data_version: str
    data_set: Path
    trials: int = Field(ge=1)
    budget: float | None = Field(None, gt=0)
    search: Literal["tpe", "cma"] = "tpe"
    use_gpu: bool = False
    seed: int = Field(0, ge=0)
    space: SearchSpace
    commit: str
    created: datetime


class State(StrEnum):
    running = "running"
    finished = "finished"
    pruned = "pruned"  # stopped early by successive halving
    stopped = "stopped"  # the budget was used up
    failed = "failed"


class Report(Frozen):
    """best: of `value` so far, which is what a trial is judged by, as training keeps its best epoch."""

    epoch: int
    value: float
    best: float
    cpu_seconds: float


class Record(Frozen):
    """trial.json. number: from 1, in order of beginning; final: the metrics of a whole training."""

    number: int = Field(ge=1)
    point: Point
    state: State
    run: str = Field("", description="of MLflow")
    cpu_seconds: float = 0.0
    final: dict[str, float] = Field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Trial:
    """One configuration and how far it came."""

    record: Record
    reports: tuple[Report, ...]

    @property
    def best(self) -> float | None:
        return self.reports[-1].best if self.reports else None


@dataclass(frozen=True)
class Study:
    folder: Path
    plan: Plan

    @classmethod
    def create(cls, folder: Path, plan: Plan) -> Self:
        if (folder / PLAN).exists():
            raise ConfigError(
                f"there is a study {plan.name!r} already",
                f"go on with it by --resume {plan.name}, or choose another name",
            )
        storage.write_atomically(folder / PLAN, plan.model_dump_json(indent=2) + "\n")
        return cls(folder, plan)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises ConfigError when there is none, or when another version of the code wrote it."""
        if not (folder / PLAN).exists():
            known = sorted(path.parent.name for path in folder.parent.glob(f"*/{PLAN}"))
            raise ConfigError(f"there is no study {folder.name!r}", f"there is: {', '.join(known) or 'none yet'}")
        try:
            return cls(folder, Plan.model_validate_json((folder / PLAN).read_bytes()))
        except ValidationError as error:
            raise ConfigError(
                f"study {folder.name!r} was begun by another version of Slipway", "begin a new one"
            ) from error

    def extended(self, limits: Mapping[str, Any]) -> Self:
        """With other limits (trials, budget) from now on."""
        if not limits:
            return self
        plan = self.plan.model_copy(update=dict(limits))
        storage.write_atomically(self.folder / PLAN, plan.model_dump_json(indent=2) + "\n")
        return type(self)(self.folder, plan)

    def place(self, point: Mapping[str, Any]) -> Path:
        """A trial's folder: the same point is the same trial, so that nothing is trained twice."""
        text = json.dumps(self.plan.space.settle(point), sort_keys=True)
        return self.folder / "trials" / hashlib.sha256(text.encode()).hexdigest()[:12]

    def write(self, record: Record) -> None:
        storage.write_atomically(self.place(record.point) / "trial.json", record.model_dump_json(indent=2) + "\n")

    def find(self, point: Mapping[str, Any]) -> Trial | None:
        path = self.place(point) / "trial.json"
        if not path.exists():
            return None
        return Trial(Record.model_validate_json(path.read_bytes()), tuple(reports(path.parent)))

    def trials(self) -> list[Trial]:
        """In order of beginning."""
        records = [Record.model_validate_json(p.read_bytes()) for p in self.folder.glob("trials/*/trial.json")]
        found = [Trial(record, tuple(reports(self.place(record.point)))) for record in records]
        return sorted(found, key=lambda trial: trial.record.number)

    def best(self) -> Trial:
        """Raises TrainingError when no trial reported a value."""
        best: Trial | None = None
        trials = self.trials()
        for trial in trials:
            if trial.best is not None and (
                best is None or best.best is None or self.plan.space.better(trial.best, best.best)
            ):
                best = trial
        if best is not None:
            return best
        errors = [trial.record.error for trial in trials if trial.record.error]
        first = f"; the first: {errors[0]}" if errors else ""
        raise TrainingError(
            f"none of the {len(trials)} trials of study {self.plan.name!r} came to a {self.plan.space.metric}{first}",
            "correct what failed, or narrow the search space, and begin a new study",
        )


def reports(place: Path) -> list[Report]:
    """A killed trial may leave half a line at the end: it does not count."""
    path = place / "reports.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Report.model_validate_json(line) for line in lines]


def append(place: Path, report: Report) -> None:
    path = place / "reports.jsonl"
    whole = "".join(f"{known.model_dump_json()}\n" for known in [*reports(place), report])
    storage.write_atomically(path, whole)
