"""Writes a study down as it goes: each trial's record, its MLflow child run, and a word to who watches. Knows no Ray
but its callback.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune

from slipway.tracking import Run
from slipway.tuning.study import Record, State, Study
from slipway.tuning.trial import ERROR

PARENT = "mlflow.parentRunId"  # what MLflow's pages nest runs by
STATUS = {State.failed: "FAILED"}


@dataclass(frozen=True)
class Diary:
    """run: the study's in MLflow, if it is tracked. changed: told after each change, with study and trial's record."""

    run: Run | None
    changed: Callable[[Study, Record], None]

    def listen(self, study: Study, exhausted: Callable[[], bool]) -> "Listener":
        """exhausted: whether the budget is used up, so that a trial that ends was not judged."""
        return Listener(self, study, exhausted)


class Listener(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Called in the process that runs the study."""

    def __init__(self, diary: Diary, study: Study, exhausted: Callable[[], bool]) -> None:
        self.diary, self.study, self.exhausted = diary, study, exhausted

    def __deepcopy__(self, memo: object) -> "Listener":
        return self  # holds a connection

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its callbacks, for a resume that is not ours

    def on_trial_start(self, trial: Any, **_: Any) -> None:
        point = self.study.plan.space.settle(trial.config)
        known = self.study.find(point)
        if known is not None:
            record = known.record.model_copy(update={"state": State.running, "error": ""})
            if self.diary.run is not None and record.run:
                self.diary.run.tracker.resume(record.run)
        else:
            record = Record(number=1 + len(self.study.trials()), point=point, state=State.running)
            if self.diary.run is not None:
                tags = {PARENT: self.diary.run.id, "kind": "trial"}
                run = self.diary.run.tracker.start(f"trial {record.number}", tags)
                run.log(params=point)
                record = record.model_copy(update={"run": run.id})
        self._write(record)

    def on_trial_result(self, trial: Any, result: dict[str, Any], **_: Any) -> None:
        record = self._record(trial)
        run, spent = self._run(record), float(result["cpu_seconds"])
        # Neither what a resumed trial repeats, nor the last epoch once more with the final figures.
        if run is not None and spent > record.cpu_seconds and "final" not in result:
            metric = self.study.plan.space.metric
            run.log(metrics={metric: result["value"], "cpu_seconds": spent}, step=int(result["epoch"]))
        final = record.final | {name: float(value) for name, value in result.get("final", {}).items()}
        if run is not None:
            run.log(metrics={f"final/{name}": value for name, value in final.items()})
        state = State.finished if result.get("done") and "final" in result else State.running
        spent = max(spent, record.cpu_seconds)
        self._write(record.model_copy(update={"cpu_seconds": spent, "final": final, "state": state}))

    def on_trial_complete(self, trial: Any, **_: Any) -> None:
        record = self._record(trial)
        if record.state is State.running:
            record = record.model_copy(update={"state": State.stopped if self.exhausted() else State.pruned})
        self._end(record)

    def on_trial_error(self, trial: Any, **_: Any) -> None:
        record = self._record(trial)
        path = self.study.place(record.point) / ERROR
        error = path.read_text().strip() if path.exists() else "its process died"
        self._end(record.model_copy(update={"state": State.failed, "error": error}))

    def _record(self, trial: Any) -> Record:
        known = self.study.find(trial.config)
        assert known is not None
        return known.record

    def _run(self, record: Record) -> Run | None:
        return self.diary.run.tracker.run(record.run) if self.diary.run is not None and record.run else None

    def _end(self, record: Record) -> None:
        run = self._run(record)
        if run is not None:
            run.log(tags={"outcome": record.state.value, **({"error": record.error[:5000]} if record.error else {})})
            run.finish(STATUS.get(record.state, "FINISHED"))
        shutil.rmtree(self.study.place(record.point) / "checkpoints", ignore_errors=True)
        self._write(record)

    def _write(self, record: Record) -> None:
        self.study.write(record)
        self.diary.changed(self.study, record)
