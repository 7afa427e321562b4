"""Runs what is left of a study on Ray Tune: Optuna proposes, asynchronous successive halving stops. Knows no screen.

TPE: Bergstra et al. 2011. CMA-ES: Hansen 2016. ASHA: Li et al. 2020.
"""

import logging
import os
import shutil
import uuid
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is the caller's; the study needs no farewell
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its table is printed whatever verbose says
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study and MLflow hold what they would write

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from slipway import workload
from slipway.cluster import cluster
from slipway.tuning.diary import Diary
from slipway.tuning.space import Choice, FloatRange, SearchSpace
from slipway.tuning.study import Plan, State, Study, Trial
from slipway.tuning.trial import TrialRun

BEST = "best"
EPOCH = "epoch"
LONGEST = 10**6  # epochs: halving never ends a trial for being whole


def run(study: Study, diary: Diary, concurrency: int) -> None:
    """Run trials until there are as many as planned or the budget is used up; resumes what was interrupted.

    Raises TrainingError when Ray cannot start, KeyboardInterrupt on Ctrl-C; the study can be run again after either.
    """
    plan = study.plan
    known = study.trials()
    ended = [trial for trial in known if trial.record.state is not State.running]
    left = plan.trials - len(ended)
    budget = _Budget(plan.budget, {str(study.place(t.record.point)): t.record.cpu_seconds for t in ended})
    if left <= 0 or budget.stop_all():
        return
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failed trials are told by the diary
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scratch = study.folder / "ray"
    try:
        with cluster(concurrency, gpus=concurrency if plan.use_gpu else 0):
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialRun, study=study), {"cpu": 1, "gpu": 1 if plan.use_gpu else 0}
                ),
                tune_config=tune.TuneConfig(
                    search_alg=_proposals(study, known),
                    scheduler=_halving(study, ended),
                    num_samples=left,
                    max_concurrent_trials=concurrency,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=f"{plan.name}-{uuid.uuid4().hex[:8]}",  # a name used before would be resumed by Ray
                    storage_path=str(scratch),
                    stop=budget,
                    callbacks=[diary.listen(study, budget.stop_all)],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=0, fail_fast=False),
                    verbose=0,
                ),
            )
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for p in space.parameters:
        if isinstance(p, Choice):
            found[p.name] = CategoricalDistribution(p.values)
        elif isinstance(p, FloatRange):
            found[p.name] = FloatDistribution(p.low, p.high, log=p.log)
        else:
            found[p.name] = IntDistribution(p.low, p.high, log=p.log)
    return found


def sampler(plan: Plan, known: int) -> BaseSampler:
    """known: trials so far; a resumed study goes on with other random numbers, not with the first ones again."""
    seed, first = plan.seed + 1000 * known, max(4, plan.trials // 4)
    if plan.search == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=first, multivariate=True, seed=seed)
    return optuna.samplers.CmaEsSampler(n_startup_trials=first, seed=seed)


def _proposals(study: Study, known: list[Trial]) -> OptunaSearch:
    """Interrupted trials first, then the profile's own point where nothing was tried yet, then what Optuna proposes."""
    plan = study.plan
    first = [trial.record.point for trial in known if trial.record.state is State.running]
    default = plan.space.default(workload.load(plan.workload).config(plan.profile, plan.overrides))
    if not known and default is not None:
        first.append(default)
    proposals = OptunaSearch(
        distributions(plan.space),
        metric=BEST,
        mode=plan.space.mode,
        points_to_evaluate=first,
        sampler=sampler(plan, len(known)),
    )
    for trial in known:
        if trial.record.state is not State.running:
            failed = trial.best is None
            proposals.add_evaluated_point(trial.record.point, 0.0 if trial.best is None else trial.best, error=failed)
    return proposals


def _halving(study: Study, ended: list[Trial]) -> ASHAScheduler:
    """With the rungs of the trials that ended in an earlier run."""
    space = study.plan.space
    scheduler = ASHAScheduler(
        time_attr=EPOCH,
        metric=BEST,
        mode=space.mode,
        max_t=LONGEST,
        grace_period=space.halving.grace,
        reduction_factor=space.halving.factor,
        stop_last_trials=False,
    )
    for trial in ended:
        past = SimpleNamespace(trial_id=f"past-{trial.record.number}")
        scheduler.on_trial_add(None, past)
        for report in trial.reports:
            scheduler.on_trial_result(None, past, report.model_dump())
    return scheduler


class _Budget(tune.Stopper):  # type: ignore[misc]  # Ray ships no types
    """Ends the study when its trials have used so many CPU-seconds together."""

    def __init__(self, seconds: float | None, spent: dict[str, float]) -> None:
        self.seconds, self.spent = seconds, spent

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.spent[trial_id] = float(result["cpu_seconds"])
        return False

    def stop_all(self) -> bool:
        return self.seconds is not None and sum(self.spent.values()) >= self.seconds
