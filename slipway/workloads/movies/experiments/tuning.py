"""What the search gains over the default configuration with several seeds, at equal CPU-seconds.

slipway experiment tuning --data ~/ml-100k --budget 1200
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway import workload
from slipway.config import merge
from slipway.errors import TrainingError
from slipway.evaluation.metrics import user_means
from slipway.experiments.context import Context, Figures
from slipway.experiments.findings import Findings
from slipway.workload import Scaling
from slipway.workloads.movies import dataset
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.splits import choose, split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from slipway.tuning.study import Study

DESCRIPTION = "the search's gain over the default with several seeds, at equal CPU-seconds"

WORKLOAD, PROFILE = "movies", "demo"
SEEDS, SEARCH = "default, best of its seeds", "search, best found"
CASES = 10_000  # validated and tested; the same for every seed


def run(context: Context) -> Findings:
    share = context.budget / 2
    context.progress(SEEDS, 0.0, {})
    seeds = context.remember(SEEDS, lambda: _seeds(context, share))
    context.progress(SEARCH, 0.4, {})
    found = context.remember(SEARCH, lambda: _search(context, share))
    arms = {SEEDS: seeds, SEARCH: found}
    for number, (name, figures) in enumerate(arms.items()):
        what = f"test: {name}"
        context.progress(what, 0.8 + number / 10, {})
        figures["test"] = context.remember(what, partial(_test, context, figures["point"]))
    mean, half = _difference(seeds["test"]["users"], found["test"]["users"])
    told = ", ".join(f"{name.removeprefix('train.')} {value:g}" for name, value in found["point"].items())
    return Findings(
        title="The search against the default at equal cost",
        question=(
            f"With {share:,.0f} CPU-seconds each: train the `{PROFILE}` profile with one seed after another and keep "
            "the best on validation, or search its hyper-parameters?"
        ),
        columns=(
            "arm",
            "trained",
            "of them whole",
            "CPU-s",
            "validation NDCG@10, best",
            "first default's",
            "test NDCG@10 of the best",
        ),
        rows=[
            [name, f["trained"], f["whole"], f["cpu_seconds"], f["curve"][-1][1], f["first"], f["test"]["ndcg10"]]
            for name, f in arms.items()
        ],
        notes=[
            f"On the test, the search's best less the default's best: {mean:+.4f} ± {half:.4f} NDCG@10 (95 %, paired "
            f"over {len(seeds['test']['users']):,} users). Both were chosen on validation, trained again, and asked "
            "the test once.",
            f"Found: {told}.",
            "Both arms are judged by the ranker alone, on the same validation cases, whatever the seed. CPU-seconds "
            "are those of training and validating; what Ray itself takes (about ten at the start) is not among them, "
            "nor is the training again for the test.",
            "A maximum over many noisy values flatters, and more so for more of them: the test says what is left.",
        ],
        figures={"curve": _draw(arms)},
    )


def _overrides() -> dict[str, Any]:
    space = workload.load(WORKLOAD).search_space()
    from slipway.tuning.space import nest

    return merge(nest(space.trial), {"train": {"validation_cases": CASES}})


class _Exhausted(BaseException):
    """Unwinds a training when the budget is used up."""


def _seeds(context: Context, share: float) -> Figures:
    """The default with seed after seed, until the share is used up; the last one is cut off there."""
    chosen, metric = workload.load(WORKLOAD), workload.load(WORKLOAD).search_space().metric
    curve: list[list[float]] = []
    values: list[float] = []
    best, best_seed, whole = -np.inf, context.seed, 0
    begun = time.process_time()
    while time.process_time() - begun < share:
        seed = context.seed + len(values)
        values.append(-np.inf)
        place = context.scratch / f"seed-{seed}"

        def progress(_what: str, _share: float, metrics: Mapping[str, float], seed: int = seed) -> None:
            nonlocal best, best_seed
            spent = time.process_time() - begun
            if "epoch" in metrics and metric in metrics:
                values[-1] = max(values[-1], metrics[metric])
                if values[-1] > best:
                    best, best_seed = values[-1], seed
                curve.append([spent, best])
                context.progress(SEEDS, 0.4 * min(spent / share, 1), {"seed": seed, metric: metrics[metric]})
            if spent >= share:
                raise _Exhausted

        try:
            config = chosen.config(PROFILE, merge(_overrides(), {"train": {"seed": seed}}))
            chosen.train(context.data, place / "model", config, Scaling(), progress, (place / "at").as_uri())
            whole += 1
        except _Exhausted:
            break
    if not curve:
        raise TrainingError("the budget ended before the first epoch did", "raise --budget")
    return {
        "curve": curve,
        "point": {"train.seed": best_seed},
        "trained": len(values),
        "whole": whole,
        "first": values[0],
        "cpu_seconds": curve[-1][0],
    }


def _search(context: Context, share: float) -> Figures:
    from slipway.tuning import search
    from slipway.tuning.diary import Diary
    from slipway.tuning.study import PLAN, Plan, State, Study

    chosen, folder = workload.load(WORKLOAD), context.scratch / "study"
    plan = Plan(
        name="experiment",
        workload=WORKLOAD,
        profile=PROFILE,
        overrides=_overrides(),
        data=context.data.name,
        data_version="",
        data_set=context.data.absolute(),
        trials=1000,
        budget=share,
        seed=context.seed,
        space=chosen.search_space(),
        commit="",
        created=datetime.now(UTC),
    )
    study = Study.open(folder) if (folder / PLAN).exists() else Study.create(folder, plan)

    def changed(study: "Study", record: Any) -> None:
        spent = sum(trial.record.cpu_seconds for trial in study.trials())
        context.progress(SEARCH, 0.4 + 0.4 * min(spent / share, 1), {"trial": record.number})

    search.run(study, Diary(None, changed), concurrency=1)
    best, trials = study.best(), study.trials()
    curve: list[list[float]] = []
    spent, so_far = 0.0, -np.inf
    for trial in trials:  # one after another: concurrency is 1
        for report in trial.reports:
            so_far = max(so_far, report.best)
            curve.append([spent + report.cpu_seconds, so_far])
        spent += trial.record.cpu_seconds
    states = [trial.record.state for trial in trials]
    return {
        "curve": curve,
        "point": best.record.point,
        "trained": len(trials),
        "whole": states.count(State.finished),
        "first": trials[0].best,
        "cpu_seconds": spent,
    }


def _test(context: Context, point: Mapping[str, Any]) -> Figures:
    """Train this configuration again and ask the test once: the mean over cases, and each user's."""
    from slipway.tuning.space import nest
    from slipway.workloads.movies.ranker.scorer import RankerScorer

    place = context.scratch / "test"
    chosen = workload.load(WORKLOAD)
    config = chosen.config(PROFILE, merge(_overrides(), nest(point)))
    key = "-".join(f"{value}" for value in point.values())
    out: Path = place / key / "model"
    chosen.train(context.data, out, config, Scaling(), lambda *_: None, (place / key / "at").as_uri())
    snapshot = dataset.read(context.data)
    whole = Interactions.from_events(dataset.scan_events(context.data).collect())
    parts = split(whole, choose(config.train.protocol, snapshot.timed))
    asked = Validation.draw(whole, parts.test, not snapshot.repeats, CASES, context.seed)
    values = asked.ndcg(RankerScorer.load(out))
    _, owners = np.unique(np.searchsorted(whole.indptr, asked.cases, side="right") - 1, return_inverse=True)
    means = user_means(values, owners, int(owners.max()) + 1)
    return {"ndcg10": float(means.mean()), "users": means}


def _difference(one: list[float], other: list[float]) -> tuple[float, float]:
    """Mean of other less one, and half its 95 % interval, paired."""
    difference: npt.NDArray[np.float64] = np.array(other) - np.array(one)
    return float(difference.mean()), float(1.96 * difference.std() / np.sqrt(len(difference)))


def _draw(arms: Mapping[str, Figures]) -> Any:
    def draw(axes: "Axes") -> None:
        for name, figures in arms.items():
            axes.step(*zip(*figures["curve"], strict=True), where="post", label=name)
        axes.set_xlabel("CPU-seconds of training and validating")
        axes.set_ylabel("best validation NDCG@10 so far")
        axes.legend(loc="lower right")

    return draw
