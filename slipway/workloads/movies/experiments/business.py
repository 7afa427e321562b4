"""What the served cascade is worth to the streaming service, on simulated people. Knows arms and settings.

slipway experiment business --data <a simulated data set>
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from slipway import workload
from slipway.experiments.context import Context
from slipway.experiments.findings import Findings
from slipway.workload import Scaling
from slipway.workloads.movies import dataset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.business import power, trial
from slipway.workloads.movies.business.arms import Arm, Editorial, Oracle, Scored, Served
from slipway.workloads.movies.business.comparison import gain, worth
from slipway.workloads.movies.business.market import Market, Setting, Span
from slipway.workloads.movies.business.trial import Taken
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.predictor import MoviesPredictor
from slipway.workloads.movies.scorer import Scorer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DESCRIPTION = "expected uplift of the served cascade over the editorial row, on simulated people"

QUESTION = (
    "How many more plays does a visit start from the home page's row when the served cascade fills it instead of the "
    "editors? Simulated people open the page once a visit, look down the row and play or not; what they play becomes "
    "their history. The same people come at the same times with the same luck in every arm. Why plays per visit, and "
    "how it is measured with real people: [docs/business.md](../../business.md)."
)
BUDGET = 600.0  # CPU-seconds for which the sizes below are meant; less makes all of them smaller
VISITS, FEWER, DAYS = 9_000, 4_000, 14
EVENTS = 3_000_000  # that training passes
AS_IT_IS = "the world as it is"
SETTINGS = {
    AS_IT_IS: Setting(),
    "every position is looked at": Setting(position_bias=0),
    "few look below the first": Setting(position_bias=1.6),
    "popular films are liked, +0.5": Setting(popular=0.5),
    "popular films are liked, +1.5": Setting(popular=1.5),
    "tastes moved half-way since": Setting(taste=0.5),
}
CASCADE, STATUS_QUO = "cascade", "editorial row"
COLUMNS = (
    "people", "arm", "plays per visit", "95 %", "over the editorial row", "95 % of that", "visits with a play",
    "films per person and week", "mean stars", "s to the first play", "films shown",
)  # fmt: skip


def run(context: Context) -> Findings:
    """Raises SourceError unless the data is simulated."""
    whole = Interactions.from_events(dataset.scan_events(context.data).collect())
    share = min(context.budget / BUDGET, 1.0)
    markets = {
        name: Market.open(
            context.data, whole, setting, Span(days=DAYS, visits=_visits(name, share), seed=context.seed + 1)
        )
        for name, setting in SETTINGS.items()
    }
    package = _package(context, share)
    status_quo: dict[str, Taken] = {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for setting, market in markets.items():
        for name, arm in _arms(setting, market, package, whole).items():
            context.progress(f"{setting}: {name}", len(found) / (6 + 3 * (len(SETTINGS) - 1)), {})
            measure = _measure(setting, market, arm, status_quo)
            found[setting, name] = context.remember(f"{setting}: {name}", measure)
    needed = context.remember("people needed", lambda: _needed(_before(AS_IT_IS, markets[AS_IT_IS], status_quo)))
    return Findings(
        title="What the recommendations are worth",
        question=QUESTION,
        columns=COLUMNS,
        rows=[_row(setting, name, arm) for (setting, name), arm in found.items()],
        notes=_notes(found, needed),
        figures={
            "arms": lambda axes: _draw_arms(axes, found),
            "days": lambda axes: _draw_days(axes, found),
            "settings": lambda axes: _draw_settings(axes, found),
        },
    )


def _visits(setting: str, share: float) -> int:
    return max(round((VISITS if setting == AS_IT_IS else FEWER) * share), 200)


def _package(context: Context, share: float) -> tuple[Path, Path]:
    """(trained model, its package's files), trained once and kept in scratch."""
    from slipway.workloads.movies.export import export  # torch

    movies = workload.load("movies")
    model, package = context.scratch / "model", context.scratch / "package"
    if not model.exists():
        config = movies.config("demo", {"train": {"max_events": round(EVENTS * share)}})
        checkpoints = (context.scratch / "checkpoints").as_uri()
        movies.train(context.data, model, config, Scaling(), context.progress, checkpoints)
    if not package.exists():
        draft = package.with_name("package.part")
        export(context.data, model, draft)
        draft.rename(package)
    return model, package


def _arms(setting: str, market: Market, package: tuple[Path, Path], whole: Interactions) -> dict[str, Arm]:
    model, folder = package
    predictor = MoviesPredictor.open(folder)
    few: list[Arm] = [Editorial(market), Editorial(market, unseen=True), Served(CASCADE, predictor)]
    if setting == AS_IT_IS:
        from slipway.workloads.movies.ranker.scorer import RankerScorer  # torch

        scorers: list[Scorer] = [Counts.load(model / "counts.npz"), RankerScorer.load(model)]
        alone = [Scored(f"{scorer.name} alone", _subject(scorer, whole), market) for scorer in scorers]
        few = [*few[:2], *alone, few[2], Oracle()]
    return {arm.name: arm for arm in few}


def _subject(scorer: Scorer, whole: Interactions) -> Subject:
    items = pl.DataFrame({"index": np.arange(1, whole.n_items + 1)})  # no scorer here asks for a title or a genre
    nothing = np.empty(0, dtype=np.int64)
    return Subject(scorer, scorer, whole, whole, nothing, items, filter_seen=True, repeats=False, seed=0)


def _before(setting: str, market: Market, status_quo: dict[str, Taken]) -> Taken:
    if setting not in status_quo:
        status_quo[setting] = trial.run(market, Editorial(market), _silent)
    return status_quo[setting]


def _measure(setting: str, market: Market, arm: Arm, status_quo: dict[str, Taken]) -> Callable[[], Mapping[str, Any]]:
    def measure() -> Mapping[str, Any]:
        before = _before(setting, market, status_quo)
        taken = before if arm.name == STATUS_QUO else trial.run(market, arm, _silent)
        return {"worth": worth(taken, DAYS).model_dump(), "gain": gain(taken, before).model_dump()}

    return measure


def _needed(taken: Taken) -> dict[str, Any]:
    came = taken.visits > 0
    plays, visits = taken.plays[came], taken.visits[came]
    return {
        "people_for_1_percent": power.people_needed(plays, visits, 0.01),
        "people_for_5_percent": power.people_needed(plays, visits, 0.05),
        "seen_by_10000": power.detectable(plays, visits, 10_000),
    }


def _row(setting: str, name: str, arm: dict[str, Any]) -> list[str | float | int | None]:
    worth, gain = arm["worth"], arm["gain"]
    over = [None, None] if name == STATUS_QUO else [_percent(gain["value"]), _range(gain, _percent)]
    return [
        setting,
        name,
        worth["plays"]["value"],
        _range(worth["plays"], "{:.2f}".format),
        *over,
        f"{worth['success']['value']:.0%}",
        round(worth["weekly"]["value"], 2),
        None if worth["stars"] is None else round(worth["stars"], 2),
        worth["wait"],
        worth["films"],
    ]


def _percent(share: float) -> str:
    return f"{share:+.0%}"


def _range(interval: dict[str, float], text: Callable[[float], str]) -> str:
    return f"{text(interval['low'])} to {text(interval['high'])}"


def _notes(found: dict[tuple[str, str], dict[str, Any]], needed: dict[str, Any]) -> list[str]:
    main = found[AS_IT_IS, CASCADE]["worth"]
    return [
        f"{main['people']:,} people, {main['visits']:,} visits in {DAYS} days; intervals are of a bootstrap over "
        "people, paired where two arms are compared. The editorial row: the films with the most plays of the last 28 "
        "days, set once a week, the same for everybody. `popular, without seen`: the same order without what the "
        "person saw, which needs no model. The oracle shows the films that each person is truly most likely to play: "
        "the ceiling of one row, not of a fortnight.",
        "**A simulator proves only what it assumes.** These people choose as the simulator's equations say, the models "
        "learned from data of the same equations, and the position-based model of a click was not fitted to anybody. "
        "The sign and the order of the arms are worth something where they hold in every setting; the size is no "
        "forecast.",
        "Nothing is trained again in the fortnight: films that came out since are in the editorial row once people "
        "find them, and in no model's answer.",
        f"An A/B test by person needs {needed['people_for_5_percent']:,} people in each arm for {DAYS} days to see 5 % "
        f"more plays per visit than the editorial row's (α 0.05, power 0.8), {needed['people_for_1_percent']:,} for "
        f"1 %; 10,000 in each arm see {needed['seen_by_10000']:.1%}.",
    ]


def _draw_arms(axes: "Axes", found: dict[tuple[str, str], dict[str, Any]]) -> None:
    arms = {name: arm["worth"]["plays"] for (setting, name), arm in found.items() if setting == AS_IT_IS}
    for place, plays in enumerate(reversed(arms.values())):
        errors = [[plays["value"] - plays["low"]], [plays["high"] - plays["value"]]]
        axes.barh(place, plays["value"], xerr=errors, color="#0072b2", error_kw={"capsize": 3})
    axes.set_yticks(range(len(arms)), list(reversed(arms)))
    axes.set_xlabel("plays from the row per visit, with the 95 % interval")


def _draw_days(axes: "Axes", found: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (setting, name), arm in found.items():
        if setting == AS_IT_IS and name != "oracle":
            axes.plot(range(1, DAYS + 1), arm["worth"]["daily"], marker="o", markersize=3, label=name)
    axes.set_xlabel("day; the models are not trained again")
    axes.set_ylabel("plays per visit")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _draw_settings(axes: "Axes", found: dict[tuple[str, str], dict[str, Any]]) -> None:
    for offset, name in enumerate(("popular, without seen", CASCADE)):
        gains = [found[setting, name]["gain"] for setting in SETTINGS]
        errors = [[g["value"] - g["low"] for g in gains], [g["high"] - g["value"] for g in gains]]
        axes.errorbar(
            [g["value"] for g in gains],
            [place - 0.2 * offset for place in range(len(SETTINGS), 0, -1)],
            xerr=errors,
            fmt="s" if offset else "o",
            capsize=3,
            label=name,
        )
    axes.axvline(0, color="#7a7a7a", linewidth=1)
    axes.set_yticks(range(len(SETTINGS), 0, -1), list(SETTINGS))
    axes.xaxis.set_major_formatter("{x:+.0%}")
    axes.set_xlabel("plays per visit over the editorial row")
    axes.legend(fontsize=8)


def _silent(_what: str, _share: float, _metrics: Mapping[str, float]) -> None:
    """Arms report by name; their days would only flicker."""
