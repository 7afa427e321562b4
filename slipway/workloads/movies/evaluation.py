"""Trained models → evaluation.json, evaluation.npz, report.html and the verdict. Knows the order of the work; what a
metric, an interval, a check and a gate are, slipway.evaluation knows.

    slipway run --workload movies        evaluates between training and registration

A challenger is admitted when the gate says that it beats the bar and every blocking threshold is kept:
thresholds.yaml, and differences to it under evaluate.thresholds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from slipway.errors import TrainingError
from slipway.evaluation import checks
from slipway.evaluation.checks import Check, Threshold
from slipway.evaluation.gate import Gate
from slipway.evaluation.measurement import Measurement
from slipway.evaluation.results import Decision, Evaluation, write
from slipway.package import Frozen
from slipway.settings import settings
from slipway.workload import Progress, Verdict
from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.cases import Asked
from slipway.workloads.movies.dataset import DataSet

THRESHOLDS = Path(__file__).with_name("thresholds.yaml")
CURVES = ("train_loss", "validation_ndcg10")  # of training.json's epochs
PROTOCOLS = {
    splits.Protocol.TEMPORAL: "global temporal split: trained before one instant, asked about what came after it",
    splits.Protocol.LEAVE_ONE_OUT: "leave-one-out: each user's last item is asked",
}
ASKING, BEHAVING = 0.6, 0.3  # share of the time that asking all models and the behavioural measurements take


class EvaluateConfig(Frozen):
    protocol: Literal["auto", "temporal", "loo"] = Field("auto", description="auto: temporal where there are times")
    k: int = Field(10, ge=1, le=100, description="cut-off of every metric")
    max_users: int = Field(10_000, ge=2, description="users drawn from those with cases")
    cases_per_user: int = Field(20, ge=1, description="cases drawn from each user's")
    resamples: int = Field(2000, ge=100, le=100_000, description="of the bootstrap behind the table's intervals")
    seed: int = Field(0, ge=0)
    gate: Gate = Gate()
    thresholds: dict[str, dict[str, Any] | None] = Field(
        {}, description="differences to thresholds.yaml: {measurement: {bound: value}}; null takes a threshold away"
    )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        """A threshold that cannot be used stops a run before it trains, not after."""
        self.limits()
        return self

    def limits(self) -> tuple[Threshold, ...]:
        """Raises ConfigError that names the key."""
        return checks.load(THRESHOLDS, self.thresholds)


def evaluate(
    data: Path,
    model: Path,
    out: Path,
    config: EvaluateConfig,
    progress: Progress,
    champion: Mapping[str, float] | None = None,
) -> Verdict:
    """Ask every model the test cases, measure what is served, and judge it. champion: its package's metrics.

    Raises TrainingError when the model learned from other data or under another split: it may have seen the answers;
    ConfigError for a threshold of what nothing measures.
    """
    source = dataset.read(data)
    protocol = splits.choose(config.protocol, source.timed)
    training = _training(model)
    _refuse_leak(training, source, protocol, model)
    asked = Asked.draw(data, source, protocol, config.max_users, config.cases_per_user, config.seed)

    from slipway.workloads.movies.behaviour import Subject, measure
    from slipway.workloads.movies.stages import Stages, collect  # torch
    from slipway.workloads.movies.summary import OWN, Question, names, summarise

    question = Question.of(asked, config.k, config.resamples, config.seed)
    comparable = champion is not None and any(name.endswith(f"/{question.primary}") for name in champion)
    limits = config.limits()
    checks.require_known([t for t in limits if t.measurement.startswith(OWN)], names(question))
    stages = Stages.load(data, model, asked)
    collected = collect(stages, asked, config.k, config.seed, progress, ASKING)
    served = stages.served
    summary = summarise(collected, question, served.name)
    subject = Subject(
        scorer=served,
        counts=stages.counts,
        whole=asked.whole,
        train=asked.crowd.train,
        test=asked.crowd.cases[asked.judged],
        items=asked.crowd.items.select("index", "title", "genres", "year"),
        filter_seen=asked.filtered,
        repeats=source.repeats,
        seed=config.seed,
    )
    behaving = measure(subject, lambda what, share, found: progress(what, ASKING + BEHAVING * share, found))
    measurements = [*summary.measurements, *behaving]
    _refuse_doubles(measurements)
    judged = checks.judge(measurements, champion if comparable else None, limits)
    gate = config.gate.judge(
        question.primary,
        summary.per_user[f"{served.name}/{question.primary}"],
        summary.per_user[f"{summary.bar}/{question.primary}"],
        summary.bar,
        collected.answers[served.name].finite and collected.answers[summary.bar].finite,
    )
    verdict = decide(gate, judged)
    evaluation = Evaluation(
        title=f"Recommendations on {asked.name}: may the trained model be registered?",
        data_sha256=source.sha256,
        facts=_facts(asked, len(summary.users), training, champion is not None, comparable),
        lineage=_lineage(source, training),
        configuration=yaml.safe_dump(training.get("config", {}), sort_keys=False),
        protocol=protocol.value,
        filtered=asked.filtered,
        k=config.k,
        primary=question.primary,
        served=served.name,
        bar=summary.bar,
        users=len(summary.users),
        cases=int(asked.judged.sum()),
        rows=summary.rows,
        tables=summary.tables,
        stages=summary.stages,
        slicings=summary.slicings,
        fairness=summary.fairness,
        reliability=summary.reliability,
        measurements=tuple(measurements),
        checks=judged,
        champion=dict(champion) if champion is not None and comparable else None,
        verdict=Decision(admitted=verdict.admitted, reason=verdict.reason, metrics=dict(verdict.metrics)),
        training=_curves(training),
    )

    from slipway.evaluation.report import render  # matplotlib

    arrays: dict[str, Any] = {"users": summary.users, "cases": summary.cases_per_user, **summary.per_user}
    write(out, evaluation, arrays, render(evaluation))
    progress("evaluate", 1.0, evaluation.headline())
    return Verdict(verdict.admitted, verdict.reason, evaluation.flat())


def decide(gate: Verdict, judged: tuple[Check, ...]) -> Verdict:
    """The gate and every blocking check, or not at all; the reason names each that failed."""
    failed = checks.failures(judged)
    if not failed:
        return gate
    named = "; ".join(f"{check.name}: {check.reason}" for check in failed)
    if gate.admitted:
        count = f"{len(failed)} blocking check{'s' if len(failed) > 1 else ''}"
        return Verdict(False, f"refused by {count}: {named}. The gate alone said: {gate.reason}", gate.metrics)
    return Verdict(False, f"{gate.reason}. Blocking checks failed, too: {named}", gate.metrics)


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


def _refuse_doubles(measurements: list[Measurement]) -> None:
    names = [m.name for m in measurements]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"two measurements have one name: {', '.join(double)}")


def _facts(asked: Asked, users: int, training: dict[str, Any], crowned: bool, comparable: bool) -> dict[str, str]:
    source = asked.source
    if not crowned:
        relative = "no model is champion: only absolute thresholds hold"
    elif not comparable:
        relative = "the champion was judged under another protocol: only absolute thresholds hold"
    else:
        relative = "relative thresholds compare with its figures, which were taken on its own data"
    return {
        "source": asked.name,
        "events": f"{source.events:,} of {source.users:,} users with {source.items:,} items",
        "quarantined": f"{sum(source.quarantined.values()):,} rows",
        "catalogue": f"{asked.whole.n_items:,} items, every one of them ranked",
        "split": PROTOCOLS[asked.protocol],
        "seen items": "may come again, so they are ranked" if source.repeats else "are left out",
        "asked": f"{int(asked.judged.sum()):,} cases of {users:,} users",
        "champion": relative,
        "training": f"{len(training['epochs'])} epochs, {training['cpu_seconds']:,.0f} CPU-seconds",
    }


def _lineage(source: DataSet, training: dict[str, Any]) -> dict[str, str]:
    """What this evaluation comes from, so that it can be made again."""
    tables = {f"table {t.table}": f"{t.uri}, version {t.version}" for t in source.tables}
    env = settings()
    return {
        "data snapshot": source.sha256,
        **tables,
        "code": env.git_commit,
        "pipeline run": env.pipeline_run,
        "best epoch": str(training.get("best_epoch", "unknown")),
    }


def _curves(training: dict[str, Any]) -> dict[str, tuple[tuple[float, float], ...]]:
    curves = {
        name: tuple((epoch["epoch"], epoch[name]) for epoch in training["epochs"] if name in epoch) for name in CURVES
    }
    return {name: points for name, points in curves.items() if points}
