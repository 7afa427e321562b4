"""Trained models → evaluation.json, evaluation.npz, report.html and the gate's verdict. Knows cases and models by
name; what a metric, an interval and a verdict are, slipway.evaluation knows.

    slipway run --workload movies        evaluates between training and registration
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from slipway.errors import TrainingError
from slipway.evaluation import metrics
from slipway.evaluation.bootstrap import intervals
from slipway.evaluation.gate import Gate
from slipway.evaluation.results import Decision, Evaluation, Row, Slice, write
from slipway.package import Frozen
from slipway.workload import Progress, Verdict
from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.baselines import Counts, Popularity, RepeatLast, markov
from slipway.workloads.movies.combine import Combination, combine
from slipway.workloads.movies.dataset import DataSet
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scorer, Scores

COMBINED = "combined"
BASELINES = ("counts", "markov", "popularity", "repeat last")
LENGTHS = (1, 6, 11, 21, 51, 101, 201)  # first history length of each slice
DECILES = 10
CURVES = ("train_loss", "validation_ndcg10")  # of training.json's epochs
PROTOCOLS = {
    splits.Protocol.TEMPORAL: "global temporal split: trained before one instant, asked about what came after it",
    splits.Protocol.LEAVE_ONE_OUT: "leave-one-out: each user's last item is asked",
}


class EvaluateConfig(Frozen):
    protocol: Literal["auto", "temporal", "loo"] = Field("auto", description="auto: temporal where there are times")
    k: int = Field(10, ge=1, le=100, description="cut-off of every metric")
    max_users: int = Field(10_000, ge=2, description="users drawn from those with cases")
    cases_per_user: int = Field(20, ge=1, description="cases drawn from each user's")
    resamples: int = Field(2000, ge=100, le=100_000, description="of the bootstrap behind the table's intervals")
    seed: int = 0
    gate: Gate = Gate()


@dataclass
class Collected:
    """What one model did, chunk by chunk."""

    ranks: list[IntArray] = field(default_factory=list)
    top: list[IntArray] = field(default_factory=list)
    finite: bool = True
    cpu_seconds: float = 0.0

    def add(self, ranking: metrics.Ranking, cpu_seconds: float) -> None:
        self.ranks.append(ranking.ranks)
        self.top.append(ranking.top)
        self.finite &= ranking.finite
        self.cpu_seconds += cpu_seconds


@dataclass(frozen=True, eq=False)
class Models:
    """The scorers of a table, in its order; combined stands after counts and ranker, whose scores it reuses."""

    before: list[Scorer]
    counts: Scorer
    ranker: Scorer
    combination: Combination
    after: list[Scorer]

    def scores(self, whole: Interactions, positions: IntArray) -> Iterator[tuple[str, Scores, float]]:
        """(name, (cases, n_items + 1) scores, CPU-seconds) of every model, each asked once."""
        for scorer in self.before:
            yield scorer.name, *_timed(scorer, whole, positions)
        counts, counts_seconds = _timed(self.counts, whole, positions)
        yield self.counts.name, counts, counts_seconds
        ranker, ranker_seconds = _timed(self.ranker, whole, positions)
        yield self.ranker.name, ranker, ranker_seconds
        start = time.process_time()
        combined = combine(ranker, counts, self.combination.weight, self.combination.epsilon)
        yield COMBINED, combined, counts_seconds + ranker_seconds + time.process_time() - start
        for scorer in self.after:
            yield scorer.name, *_timed(scorer, whole, positions)


@dataclass(frozen=True, eq=False)
class Asked:
    """What was asked of whom; popularity: (n_items + 1,) training events per item."""

    source: DataSet
    protocol: splits.Protocol
    whole: Interactions
    cases: IntArray
    popularity: Scores
    simulated: bool

    @property
    def name(self) -> str:
        return f"simulated {self.source.source}" if self.simulated else self.source.source

    @property
    def owners(self) -> IntArray:
        """(cases,) the user index of each case."""
        return np.searchsorted(self.whole.indptr, self.cases, side="right") - 1


def evaluate(data: Path, model: Path, out: Path, config: EvaluateConfig, progress: Progress) -> Verdict:
    """Score the test cases with every model, write the table and the report, and let the gate judge.

    Raises TrainingError when the model learned from other data or under another split: it may have seen the answers.
    """
    source = dataset.read(data)
    protocol = splits.choose(config.protocol, source.timed)
    training = _training(model)
    _refuse_leak(training, source, protocol, model)
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    split = splits.split(whole, protocol)
    cases = splits.sample_users(whole, split.test, config.max_users, config.seed)
    cases = splits.sample_cases(whole, cases, config.cases_per_user, config.seed)
    popularity = Popularity.fit(split.train)
    models = _models(data, model, source, split, popularity)
    collected = _collect(models, whole, cases, config.k, not source.repeats, progress)
    asked = Asked(source, protocol, whole, cases, popularity.counts, simulated=(data / "oracle.json").exists())
    evaluation, per_user = _summarise(collected, asked, training, config)

    from slipway.evaluation.report import render  # matplotlib

    write(out, evaluation, per_user, render(evaluation))
    progress("evaluate", 1.0, evaluation.flat())
    return Verdict(evaluation.verdict.admitted, evaluation.verdict.reason, evaluation.flat())


def _training(model: Path) -> dict[str, Any]:
    path = model / "training.json"
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}", "train the model again") from error
    if not isinstance(document, dict) or not {"protocol", "data_sha256", "epochs", "cpu_seconds"} <= document.keys():
        raise TrainingError(f"{path} is no training record", "train the model again")
    return document


def _refuse_leak(training: dict[str, Any], source: DataSet, protocol: splits.Protocol, model: Path) -> None:
    if training.get("protocol") != protocol.value:
        raise TrainingError(
            f"{model} was trained under the protocol {training.get('protocol')!r}, but the evaluation asks for "
            f"{protocol.value!r}: the model may have seen the answers",
            "set train.protocol and evaluate.protocol to the same",
        )
    if training.get("data_sha256") != source.sha256:
        raise TrainingError(
            f"{model} was trained on data {str(training.get('data_sha256'))[:12]}, this data set is "
            f"{source.sha256[:12]}: the model may have seen the answers",
            "evaluate with the data set that the model was trained on, or train it again",
        )


def _models(data: Path, model: Path, source: DataSet, split: splits.Split, popularity: Popularity) -> Models:
    from slipway.workloads.movies.ranker.scorer import RankerScorer  # torch

    counts = Counts.load(model / "counts.npz")
    if counts.n_items != split.train.n_items:
        raise TrainingError(
            f"the counts are of {counts.n_items} items, the data set has {split.train.n_items}",
            "train the model again on this data set",
        )
    after: list[Scorer] = []
    if (data / "oracle.json").exists():
        from slipway.workloads.movies.simulator.oracle import OracleScorer

        after.append(OracleScorer.open(data))
    before: list[Scorer] = [RepeatLast()] if source.repeats else []
    return Models(
        before=[*before, popularity, markov(split.train)],
        counts=counts,
        ranker=RankerScorer.load(model),
        combination=Combination.load(model),
        after=after,
    )


def _collect(
    models: Models, whole: Interactions, cases: IntArray, k: int, filtered: bool, progress: Progress
) -> dict[str, Collected]:
    collected: dict[str, Collected] = {}
    step = metrics.chunk_cases(whole.n_items)
    for begin in range(0, len(cases), step):
        positions = cases[begin : begin + step]
        targets = whole.items[positions].astype(np.int64)
        seen = whole.before(positions) if filtered else None
        for name, scores, seconds in models.scores(whole, positions):
            collected.setdefault(name, Collected()).add(metrics.rank(scores, targets, k, seen), seconds)
        progress("evaluate", 0.95 * min(begin + step, len(cases)) / len(cases), {})
    return collected


def _timed(scorer: Scorer, whole: Interactions, positions: IntArray) -> tuple[Scores, float]:
    start = time.process_time()
    return scorer.score(whole, positions), time.process_time() - start


def _summarise(
    collected: dict[str, Collected], asked: Asked, training: dict[str, Any], config: EvaluateConfig
) -> tuple[Evaluation, dict[str, Any]]:
    filtered = not asked.source.repeats
    suffix = metrics.metric_name("", config.k, asked.protocol.value, filtered)
    primary = f"ndcg{suffix}"
    users, owners = np.unique(asked.owners, return_inverse=True)
    ranks = {model: np.concatenate(c.ranks) for model, c in collected.items()}
    per_user = {
        f"{model}/{name}{suffix}": metrics.user_means(metric(ranks[model], config.k), owners, len(users))
        for model in collected
        for name, metric in metrics.METRICS.items()
    }
    columns = np.stack([*per_user.values()], axis=1)
    found = dict(zip(per_user, intervals(columns, resamples=config.resamples, seed=config.seed), strict=True))
    rows = []
    for model, c in collected.items():
        top = np.concatenate(c.top)
        rows.append(
            Row(
                model=model,
                intervals={f"{name}{suffix}": found[f"{model}/{name}{suffix}"] for name in metrics.METRICS},
                figures={
                    f"coverage{suffix}": metrics.coverage(top, asked.whole.n_items),
                    f"novelty{suffix}": metrics.novelty(top, asked.popularity),
                },
                recall=tuple(metrics.recall_curve(ranks[model], owners, len(users)).tolist()),
                finite=c.finite,
                cpu_seconds=c.cpu_seconds,
            )
        )
    verdict = _judge(config.gate, primary, per_user, collected)
    evaluation = Evaluation(
        title=f"Recommendations on {asked.name}: does the trained model beat counting?",
        data_sha256=asked.source.sha256,
        facts=_facts(asked, len(users), training),
        protocol=asked.protocol.value,
        filtered=filtered,
        k=config.k,
        primary=primary,
        users=len(users),
        cases=len(asked.cases),
        rows=tuple(rows),
        slices=_slices(ranks, asked, config.k),
        verdict=Decision(admitted=verdict.admitted, reason=verdict.reason, metrics=dict(verdict.metrics)),
        training=_curves(training),
    )
    arrays: dict[str, Any] = {"users": asked.whole.user_ids[users], "cases": np.bincount(owners)}
    return evaluation, arrays | per_user


def _judge(gate: Gate, primary: str, per_user: dict[str, Any], collected: dict[str, Collected]) -> Verdict:
    """The bar is counts, or a simpler model where that is stronger: pages that repeat need no counting."""
    baselines = [model for model in collected if model in BASELINES]
    bar = max(baselines, key=lambda model: float(per_user[f"{model}/{primary}"].mean()))
    finite = collected[COMBINED].finite and collected[bar].finite
    return gate.judge(primary, per_user[f"{COMBINED}/{primary}"], per_user[f"{bar}/{primary}"], bar, finite)


def _slices(ranks: dict[str, IntArray], asked: Asked, k: int) -> dict[str, tuple[Slice, ...]]:
    """NDCG@k, mean over cases, by length of the history and by how popular the answer was in training."""
    values = {model: metrics.ndcg(r, k) for model, r in ranks.items()}

    def parts(of_case: IntArray, labels: list[str]) -> tuple[Slice, ...]:
        masks = ((label, of_case == part) for part, label in enumerate(labels))
        return tuple(
            Slice(label=label, cases=int(m.sum()), values={n: float(v[m].mean()) for n, v in values.items()})
            for label, m in masks
            if m.any()
        )

    whole = asked.whole
    history = asked.cases - whole.indptr[asked.owners]
    lengths = [f"{first}–{after - 1}" for first, after in pairwise(LENGTHS)]
    decile = np.empty(whole.n_items, dtype=np.int64)
    decile[np.argsort(asked.popularity[1:], kind="stable")] = np.arange(whole.n_items) * DECILES // whole.n_items
    return {
        "length of the history": parts(
            np.searchsorted(LENGTHS, history, side="right") - 1, [*lengths, f"{LENGTHS[-1]}+"]
        ),
        "popularity of the answer (decile)": parts(
            decile[whole.items[asked.cases] - 1], [str(d) for d in range(1, DECILES + 1)]
        ),
    }


def _facts(asked: Asked, users: int, training: dict[str, Any]) -> dict[str, str]:
    source = asked.source
    return {
        "source": asked.name,
        "events": f"{source.events:,} of {source.users:,} users with {source.items:,} items",
        "quarantined": f"{sum(source.quarantined.values()):,} rows",
        "catalogue": f"{asked.whole.n_items:,} items, every one of them ranked",
        "split": PROTOCOLS[asked.protocol],
        "seen items": "may come again, so they are ranked" if source.repeats else "are left out",
        "asked": f"{len(asked.cases):,} cases of {users:,} users",
        "training": f"{len(training['epochs'])} epochs, {training['cpu_seconds']:,.0f} CPU-seconds",
        "snapshot": source.sha256,
    }


def _curves(training: dict[str, Any]) -> dict[str, tuple[tuple[float, float], ...]]:
    curves = {
        name: tuple((epoch["epoch"], epoch[name]) for epoch in training["epochs"] if name in epoch) for name in CURVES
    }
    return {name: points for name, points in curves.items() if points}
