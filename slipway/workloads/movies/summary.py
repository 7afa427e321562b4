"""What models answered → tables, slices, comparisons and measurements. Knows names and definitions; asks no model and
admits nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.evaluation import calibration, fairness, metrics, slices
from slipway.evaluation.bootstrap import Interval, intervals
from slipway.evaluation.calibration import Bin
from slipway.evaluation.fairness import Attribute, Comparison
from slipway.evaluation.measurement import Kind, Measurement
from slipway.evaluation.results import Row, Stage, Table
from slipway.evaluation.slices import Division, Slicing
from slipway.workloads.movies.cases import Asked
from slipway.workloads.movies.slices import attributes, divisions
from slipway.workloads.movies.splits import Protocol
from slipway.workloads.movies.stages import BASELINES, NEGATIVES, Collected

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PERMUTATIONS = 2000
STEPS = (  # what each part adds: model, over
    ("ranker", "counts"),
    ("combined", "counts"),
    ("combined", "ranker"),
    ("reranked", "combined"),
    ("diverse", "reranked"),
)


@dataclass(frozen=True, eq=False)
class Question:
    """What is measured, before it is known: k and resampling as configured; parts and groups as the data allows."""

    asked: Asked
    k: int
    resamples: int
    seed: int
    divisions: list[Division]
    attributes: tuple[Attribute, ...]

    @classmethod
    def of(cls, asked: Asked, k: int, resamples: int, seed: int) -> "Question":
        return cls(asked, k, resamples, seed, divisions(asked.crowd), attributes(asked.crowd))

    @property
    def primary(self) -> str:
        return self.name("ndcg")

    def name(self, metric: str, protocol: str = "", among: str = "full") -> str:
        return metrics.metric_name(
            metric, self.k, protocol or self.asked.protocol.value, self.asked.filtered, among=among
        )


@dataclass(frozen=True, eq=False)
class Summary:
    """users: source ids of those who were judged; per_user: <model>/<metric> → (users,)."""

    rows: tuple[Row, ...]
    tables: tuple[Table, ...]
    stages: tuple[Stage, ...]
    slicings: tuple[Slicing, ...]
    fairness: tuple[Comparison, ...]
    reliability: tuple[Bin, ...]
    measurements: list[Measurement]
    bar: str
    users: Ints
    cases_per_user: Ints
    per_user: dict[str, Floats]


OWN = (
    "served_",
    "retrieval_",
    "slice_",
    "slices_",
    "fairness_",
    "calibration_",
)  # how the names of this module's begin


def names(question: Question) -> set[str]:
    """Every measurement that `summarise` will give: what is known of a threshold before any model is asked."""
    known = {f"served_{what}" for what in (*metrics.METRICS, "gain", "coverage", "novelty")}
    known.add("retrieval_recall")
    known |= {m.name for m in fairness.measurements(fairness.nothing(question.attributes))}
    known |= {m.name for m in calibration.measurements(())}
    empty = [Slicing(key=d.key, title=d.title, parts=slices.nothing(d)) for d in question.divisions]
    return known | {m.name for m in slices.measurements(empty, "", "")}


def summarise(collected: Collected, question: Question, served: str) -> Summary:
    asked, answers = question.asked, collected.answers
    users, owners = np.unique(asked.crowd.owners, return_inverse=True)
    ranks = {model: given.all_ranks for model, given in answers.items()}

    def by_user(metric: str, of: Mapping[str, Ints], inside: npt.NDArray[np.bool_]) -> dict[str, Floats]:
        measure = metrics.METRICS[metric]
        return {
            model: metrics.user_means(measure(r[inside], question.k), owners[inside], len(users))
            for model, r in of.items()
        }

    per_user = {
        f"{model}/{question.name(metric)}": values
        for metric in metrics.METRICS
        for model, values in by_user(metric, ranks, asked.judged).items()
    }
    asides = _asides(question, collected)
    beside = {
        f"{model}/{question.name(metric, aside.protocol, aside.among)}": values
        for aside in asides
        for metric in ("ndcg", "hr")
        for model, values in by_user(metric, aside.ranks, aside.inside).items()
    }
    bar = max(
        (model for model in answers if model in BASELINES),
        key=lambda model: float(per_user[f"{model}/{question.primary}"].mean()),
    )
    gains = {
        (model, over): per_user[f"{model}/{question.primary}"] - per_user[f"{over}/{question.primary}"]
        for model, over in _steps([*answers], served, bar)
    }
    columns = [*per_user.values(), *beside.values(), *gains.values()]
    drawn = intervals(np.stack(columns, axis=1), resamples=question.resamples, seed=question.seed)
    found = dict(zip([*per_user, *beside, *gains], drawn, strict=True))
    judged_owners = owners[asked.judged]
    rows = tuple(
        Row(
            model=model,
            intervals={question.name(m): found[f"{model}/{question.name(m)}"] for m in metrics.METRICS},
            figures={
                question.name("coverage"): metrics.coverage(given.all_top[asked.judged], asked.whole.n_items),
                question.name("novelty"): metrics.novelty(given.all_top[asked.judged], asked.popularity),
            },
            recall=tuple(metrics.recall_curve(ranks[model][asked.judged], judged_owners, len(users)).tolist()),
            finite=given.finite,
            cpu_seconds=given.cpu_seconds,
        )
        for model, given in answers.items()
    )
    tables = tuple(aside.table(question, found) for aside in asides)
    stages = tuple(Stage(model=model, over=over, gain=found[model, over]) for model, over in _steps([*answers]))
    metric = f"NDCG@{question.k}"
    values = {model: metrics.ndcg(ranks[model][asked.judged], question.k) for model in (served, bar)}
    slicings = slices.measure(
        [_judged(division, asked.judged) for division in question.divisions],
        values[served],
        values[bar],
        judged_owners,
        question.resamples,
        question.seed,
    )
    comparisons = fairness.compare(
        [Attribute(a.key, a.title, a.labels, a.group[users]) for a in question.attributes],
        per_user[f"{served}/{question.primary}"],
        per_user[f"{bar}/{question.primary}"],
        metric,
        bar,
        PERMUTATIONS,
        question.seed,
    )
    reliability = _reliability(collected, question, served)
    served_row = next(row for row in rows if row.model == served)
    measured = [
        *_retrieval(collected, question, owners, len(users)),
        *_headline(served_row, question, found[served, bar], bar, int(asked.judged.sum())),
        *slices.measurements(slicings, metric, bar),
        *fairness.measurements(comparisons),
        *calibration.measurements(reliability, "the served scores are not finite numbers"),
    ]
    return Summary(
        rows=rows,
        tables=tables,
        stages=stages,
        slicings=slicings,
        fairness=comparisons,
        reliability=reliability,
        measurements=measured,
        bar=bar,
        users=asked.whole.user_ids[users],
        cases_per_user=np.bincount(judged_owners).astype(np.int64),
        per_user=per_user,
    )


@dataclass(frozen=True, eq=False)
class _Aside:
    """The same models under another protocol. ranks: by model, of all cases; inside: (cases,) those that count."""

    key: str
    title: str
    protocol: str
    among: str
    ranks: dict[str, Ints]
    inside: npt.NDArray[np.bool_]

    def table(self, question: Question, found: Mapping[Any, Interval]) -> Table:
        names = [question.name(metric, self.protocol, self.among) for metric in ("ndcg", "hr")]
        return Table(
            name=self.key,
            title=self.title,
            cases=int(self.inside.sum()),
            metrics={model: {name: found[f"{model}/{name}"] for name in names} for model in self.ranks},
        )


def _asides(question: Question, collected: Collected) -> list[_Aside]:
    asked, found = question.asked, []
    if asked.last is not None:
        ranks = {model: given.all_ranks for model, given in collected.answers.items()}
        title = "Each user's last event only, in place of a sample of all that came after the split"
        found.append(_Aside("last", title, f"{Protocol.TEMPORAL.value}_last", "full", ranks, asked.last))
    if collected.sampled:
        ranks = {model: given.all_sampled for model, given in collected.answers.items()}
        title = f"Ranked among {NEGATIVES} random unseen items, as older papers do: it flatters every model"
        found.append(_Aside("sampled", title, asked.protocol.value, f"sampled{NEGATIVES}", ranks, asked.judged))
    return found


def _steps(models: Sequence[str], *also: str) -> list[tuple[str, str]]:
    """Pairs to compare; also: one more."""
    steps = [(model, over) for model, over in STEPS if {model, over} <= {*models}]
    return list(dict.fromkeys([*steps, also])) if len(also) == 2 else steps


def _judged(division: Division, judged: npt.NDArray[np.bool_]) -> Division:
    return Division(division.key, division.title, division.labels, division.members[judged], division.absent)


def _reliability(collected: Collected, question: Question, served: str) -> tuple[Bin, ...]:
    """Of every answer shown: its score as a probability, and whether it was what came."""
    asked = question.asked
    if not collected.answers[served].finite:
        return ()
    top = collected.answers[served].all_top[asked.judged]
    shown = top > 0
    if not shown.any():
        return ()
    hits = (top == asked.crowd.answers[asked.judged, None]).astype(np.float64)
    return calibration.reliability(collected.probabilities[asked.judged][shown], hits[shown])


def _retrieval(collected: Collected, question: Question, owners: Ints, users: int) -> list[Measurement]:
    """How often the answer is among the candidates at all: what no later stage can make good."""
    if collected.retrieved is None:
        why = "this model has no candidates: it orders the whole catalogue"
        return [Measurement(name="retrieval_recall", kind=Kind.METRIC, value=None, cases=0, detail=why)]
    judged = question.asked.judged
    by_user = metrics.user_means(collected.retrieved[judged].astype(np.float64), owners[judged], users)
    (found,) = intervals(by_user[:, None], resamples=question.resamples, seed=question.seed)
    return [
        Measurement(
            name="retrieval_recall",
            kind=Kind.METRIC,
            value=found.value,
            cases=int(judged.sum()),
            low=found.low,
            high=found.high,
            detail="share of answers that are among the candidates, before any is ordered",
        )
    ]


def _headline(row: Row, question: Question, gain: Interval, bar: str, cases: int) -> list[Measurement]:
    found = [
        Measurement(
            name=f"served_{metric}",
            kind=Kind.METRIC,
            value=row.intervals[name].value,
            cases=cases,
            low=row.intervals[name].low,
            high=row.intervals[name].high,
            detail=f"{name} of {row.model}",
        )
        for metric in metrics.METRICS
        for name in (question.name(metric),)
    ]
    found.append(
        Measurement(
            name="served_gain",
            kind=Kind.METRIC,
            value=gain.value,
            cases=cases,
            low=gain.low,
            high=gain.high,
            detail=f"{question.primary} of {row.model} minus that of {bar}, paired",
        )
    )
    for metric in ("coverage", "novelty"):
        name = question.name(metric)
        found.append(
            Measurement(
                name=f"served_{metric}",
                kind=Kind.METRIC,
                value=row.figures[name],
                cases=cases,
                detail=f"{name} of {row.model}",
            )
        )
    return found
