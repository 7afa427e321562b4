import math
import statistics
import time

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from slipway import workload
from slipway.tracking import Tracker
from slipway.tuning import search
from slipway.tuning.diary import Diary
from slipway.tuning.study import Record, Report, State, Study, append

DEFAULT = {"train.learning_rate": 0.002, "train.ranker.dim": 16}


def test_a_resumed_study_judges_by_the_rungs_of_what_ended_before(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan())
    for number, (rate, value) in enumerate([(0.002, 0.5), (0.005, 0.4)], start=1):
        point = {"train.learning_rate": rate, "train.ranker.dim": 8}
        study.write(Record(number=number, point=point, state=State.finished))
        append(study.place(point), Report(epoch=1, value=value, best=value, cpu_seconds=1))
    scheduler = search._halving(study, study.trials())
    new = type("T", (), {"trial_id": "new"})
    scheduler.on_trial_add(None, new)
    assert scheduler.on_trial_result(None, new, {"epoch": 1, "best": 0.1}) == "STOP"
    fresh = search._halving(study, [])
    fresh.on_trial_add(None, new)
    assert fresh.on_trial_result(None, new, {"epoch": 1, "best": 0.1}) == "CONTINUE"


def test_the_profiles_own_point_is_first_and_known_ones_are_told_to_the_sampler(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan(overrides={"train": {"ranker": {"dim": 16}}}))
    assert search._proposals(study, []).suggest("first") == DEFAULT
    study.write(Record(number=1, point=DEFAULT, state=State.finished))
    append(study.place(DEFAULT), Report(epoch=1, value=0.5, best=0.5, cpu_seconds=1))
    study.write(Record(number=2, point={**DEFAULT, "train.ranker.dim": 8}, state=State.running))
    resumed = search._proposals(study, study.trials())
    assert resumed.suggest("interrupted") == {**DEFAULT, "train.ranker.dim": 8}
    assert [trial.value for trial in resumed._ot_study.trials if trial.state.is_finished()] == [0.5]


def test_cma_es_searches_numbers_and_leaves_choices_to_chance(plan):
    asked = plan(search="cma", trials=8)
    study = optuna.create_study(sampler=search.sampler(asked, 0), direction="maximize")
    space = {"rate": FloatDistribution(1e-4, 1, log=True), "dim": CategoricalDistribution([8, 16])}
    for _ in range(60):
        trial = study.ask(space)
        study.tell(trial, -(math.log10(trial.params["rate"] / 0.01) ** 2))
    first, last = study.trials[:10], study.trials[-10:]
    assert max(t.value for t in last) > -0.01
    assert statistics.median(t.value for t in last) > statistics.median(t.value for t in first)


@pytest.mark.slow
def test_trials_fail_are_pruned_and_go_on_after_an_interruption(tmp_path, plan):
    """Real trainings under a real Ray: interrupted in the first trial, resumed, one more fails with NaN."""
    chosen = workload.load("movies")
    overrides = {
        "simulate": {"users": 150},
        "train": {"epochs": 3, "ranker": {"max_len": 10, "dim": 16}, "rerank": {"cases": 10}},
    }
    config = chosen.config("demo", overrides)
    chosen.simulate(tmp_path / "source", config, lambda *_: None)
    chosen.ingest(tmp_path / "source", tmp_path / "data", config, lambda *_: None)
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "tuning")
    parent = tracker.start("study", {})
    study = Study.create(tmp_path / "study", plan(overrides=overrides, trials=4, seed=3))

    def interrupt(study, record):
        if study.find(record.point).reports:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(study, Diary(parent, interrupt), concurrency=1)
    (begun,) = study.trials()
    assert begun.record.state is State.running
    assert begun.record.point == DEFAULT
    seen = begun.reports
    assert seen

    search.run(Study.open(study.folder), Diary(parent, lambda *_: None), concurrency=2)
    trials = study.trials()
    resumed = trials[0]
    assert resumed.reports[: len(seen)] == seen  # its first epochs were not trained again
    assert [r.epoch for r in resumed.reports] == [1, 2, 3]
    assert resumed.record.state is State.finished
    assert resumed.record.final["validation_ndcg10_ranker"] > 0
    states = {t.record.point["train.learning_rate"]: t.record.state for t in trials}
    assert states[1e30] is State.failed
    assert len(trials) >= 3
    (nan,) = [t for t in trials if t.record.point["train.learning_rate"] == 1e30][:1]
    assert "nan" in nan.record.error or "inf" in nan.record.error
    assert study.best().record.state in (State.finished, State.pruned)
    assert not list(study.folder.glob("trials/*/checkpoints"))
    assert not (study.folder / "ray").exists()

    children = tracker.client.search_runs(
        [tracker.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.id}'"
    )
    outcome = {child.info.run_name: (child.info.status, child.data.tags["outcome"]) for child in children}
    assert outcome[f"trial {resumed.record.number}"] == ("FINISHED", "finished")
    assert outcome[f"trial {nan.record.number}"] == ("FAILED", "failed")
    history = tracker.client.get_metric_history(resumed.record.run, "validation_ndcg10")
    assert [m.step for m in history] == [1, 2, 3]

    # What is planned is done: nothing starts again, not even Ray.
    begun_at = time.process_time()
    search.run(study.extended({"trials": len(trials)}), Diary(parent, lambda *_: None), concurrency=1)
    assert time.process_time() - begun_at < 1
