"""One trial, in a Ray worker: the workload's own training with another configuration. Knows Ray Tune and no model.

What it reported before it was interrupted is reported again first, so that halving and sampler judge a resumed trial
as they would have judged a whole one; the training itself goes on from its checkpoint.
"""

import fcntl
import math
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from ray import tune

from slipway import storage, workload
from slipway.config import merge
from slipway.errors import SlipwayError, TrainingError
from slipway.tuning.space import nest
from slipway.tuning.study import Report, Study, append, reports
from slipway.workload import Scaling

ERROR = "error.txt"


class TrialRun(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """A step is an epoch. Not a function trainable: Ray Train, which a workload may use, refuses to run inside one."""

    def setup(self, config: dict[str, Any], study: Study) -> None:
        self._study = study
        self._training = _Training(study, config)

    def step(self) -> dict[str, Any]:
        return self._training.next()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial in the same process: importing torch costs as much as a small trial."""
        self._training.end()
        self._training.join()  # it waits for this, between two epochs
        self._training = _Training(self._study, new_config)
        return True

    def cleanup(self) -> None:
        self._training.end()


class _Ended(BaseException):
    """Unwinds a training that is not wanted any more; no Exception, so that nobody handles it on the way."""


class _Training(threading.Thread):
    """The training, an epoch at a time: it waits after each report until the next one is asked for."""

    def __init__(self, study: Study, point: Mapping[str, Any]) -> None:
        super().__init__(name="trial", daemon=True)
        self._study, self._point, self._place = study, point, study.place(point)
        self._go, self._unwanted = threading.Semaphore(0), False
        self._said: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
        self.start()

    def next(self) -> dict[str, Any]:
        """The next report; the last one is `done`. Raises what the training raises."""
        self._go.release()
        said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return said

    def end(self) -> None:
        self._unwanted = True
        self._go.release()

    def run(self) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        with (self._place / "lock").open("w") as lock:
            try:
                self._wait()
                fcntl.flock(lock, fcntl.LOCK_EX)  # the same point twice at once: the second repeats the first
                (self._place / ERROR).unlink(missing_ok=True)
                self._said.put({**self._train(), "done": True})
            except _Ended:
                pass
            except SlipwayError as error:
                storage.write_atomically(self._place / ERROR, error.message)
                self._said.put(error)
            except BaseException as error:  # a thread's errors are lost unless handed over
                text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
                storage.write_atomically(self._place / ERROR, text)
                self._said.put(error)
            finally:
                shutil.rmtree(self._place / "model", ignore_errors=True)

    def _wait(self) -> None:
        self._go.acquire()
        if self._unwanted:
            raise _Ended

    def _report(self, report: Report) -> None:
        self._said.put(report.model_dump())
        self._wait()

    def _train(self) -> dict[str, Any]:
        plan, known = self._study.plan, reports(self._place)
        for report in known:
            self._report(report)
        past = self._study.find(self._point)
        if past is not None and past.record.final:  # proposed a second time
            return {**known[-1].model_dump(), "cpu_seconds": past.record.cpu_seconds, "final": past.record.final}
        before = known[-1].cpu_seconds if known else 0.0
        chosen = workload.load(plan.workload)
        point = nest({**plan.space.trial, **plan.space.settle(self._point)})
        config = chosen.config(plan.profile, merge(plan.overrides, point))
        begun = time.process_time()

        def progress(_what: str, _share: float, metrics: Mapping[str, float]) -> None:
            if "epoch" not in metrics or plan.space.metric not in metrics:
                return
            epoch, value = int(metrics["epoch"]), float(metrics[plan.space.metric])
            if (known and epoch <= known[-1].epoch) or not math.isfinite(value):
                return
            best = value if not known or plan.space.better(value, known[-1].best) else known[-1].best
            spent = before + time.process_time() - begun
            known.append(Report(epoch=epoch, value=value, best=best, cpu_seconds=spent))
            append(self._place, known[-1])
            self._report(known[-1])

        scaling, checkpoints = Scaling(0, plan.use_gpu), (self._place / "checkpoints").absolute().as_uri()
        final = chosen.train(plan.data_set, self._place / "model", config, scaling, progress, checkpoints)
        if not known:
            raise TrainingError(
                f"the training reported no {plan.space.metric} with its epochs",
                "name a metric of the training's progress in the search space",
            )
        spent = before + time.process_time() - begun
        return {**known[-1].model_dump(), "cpu_seconds": spent, "final": final}
