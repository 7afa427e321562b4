import pytest
import yaml

from slipway.errors import ConfigError, TrainingError
from slipway.tuning import profile
from slipway.tuning.study import Record, Report, State, Study, append, reports
from slipway.workloads.movies.config import MoviesConfig

DEFAULT = {"train.learning_rate": 0.002, "train.ranker.dim": 8}
OTHER = {"train.learning_rate": 0.005, "train.ranker.dim": 16}


def add(study, number, point, state, *values, error=""):
    study.write(Record(number=number, point=point, state=state, cpu_seconds=10.0 * len(values), error=error))
    for epoch, value in enumerate(values, start=1):
        best = max(values[:epoch])
        append(study.place(point), Report(epoch=epoch, value=value, best=best, cpu_seconds=10.0 * epoch))


def test_a_study_is_what_its_folder_holds(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan())
    add(study, 2, OTHER, State.pruned, 0.1, 0.3, 0.2)
    add(study, 1, DEFAULT, State.finished, 0.25)
    again = Study.open(tmp_path / "small")
    assert [t.record.number for t in again.trials()] == [1, 2]
    assert again.plan == study.plan
    best = again.best()
    assert (best.record.number, best.best) == (2, 0.3)  # its best epoch, not its last: that is what training keeps
    assert again.extended({"trials": 9}).plan.trials == Study.open(tmp_path / "small").plan.trials == 9


def test_the_same_point_is_the_same_trial_whatever_its_digits(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan())
    assert study.place(DEFAULT) == study.place({**DEFAULT, "not.searched": 1})
    assert study.place(DEFAULT) != study.place(OTHER)


def test_half_a_line_of_a_killed_trial_does_not_count(tmp_path):
    append(tmp_path, Report(epoch=1, value=0.1, best=0.1, cpu_seconds=1))
    with (tmp_path / "reports.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "val')
    assert [r.epoch for r in reports(tmp_path)] == [1]
    append(tmp_path, Report(epoch=2, value=0.2, best=0.2, cpu_seconds=2))
    assert [r.epoch for r in reports(tmp_path)] == [1, 2]


def test_when_every_trial_failed_the_first_error_is_told(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan())
    add(study, 1, DEFAULT, State.failed, error="the loss is nan in epoch 1")
    with pytest.raises(TrainingError, match=r"none of the 1 trials.*the loss is nan"):
        study.best()


def test_studies_are_refused_by_name(tmp_path, plan):
    Study.create(tmp_path / "small", plan())
    with pytest.raises(ConfigError, match="already") as caught:
        Study.create(tmp_path / "small", plan())
    assert "--resume small" in caught.value.remedy
    with pytest.raises(ConfigError, match="no study 'smal'") as caught:
        Study.open(tmp_path / "smal")
    assert "small" in caught.value.remedy
    (tmp_path / "small" / "study.json").write_text('{"name": "small"}')
    with pytest.raises(ConfigError, match="another version"):
        Study.open(tmp_path / "small")


def test_the_best_becomes_a_profile_that_says_where_it_comes_from(tmp_path, plan):
    study = Study.create(tmp_path / "small", plan(overrides={"train": {"epochs": 3}}))
    add(study, 1, {"train.learning_rate": 0.002, "train.ranker.dim": 16}, State.finished, 0.1)
    add(study, 2, OTHER, State.finished, 0.2, 0.3)
    base = {"train": {"epochs": 24, "patience": 8, "ranker": {"dim": 64, "max_len": 50}}}
    profile.write(tmp_path / "tuned.yaml", study, base)
    text = (tmp_path / "tuned.yaml").read_text()
    for told in ("study     small", "2 finished", "30 CPU-seconds", "trial 2", "0.3000 after 2 epochs", "0" * 40):
        assert told in text
    read = MoviesConfig.model_validate(yaml.safe_load(text)).train
    assert (read.epochs, read.patience, read.learning_rate) == (3, 8, 0.005)
    assert (read.ranker.dim, read.ranker.max_len) == (16, 50)
