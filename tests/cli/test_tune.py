"""What `slipway tune` and `slipway experiment` refuse before anything starts, and what an experiment leaves."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cli.main import app
from slipway.errors import ConfigError, SourceError
from slipway.experiments import catalogue
from slipway.experiments.findings import Findings
from slipway.settings import settings


@pytest.fixture
def call(tmp_path, monkeypatch):
    """call(*words) → the result of the command line in this process, with a home of its own."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, list(words))
    settings.cache_clear()


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--budget", "soon"], ConfigError, "no length of time"),
        (["--budget", "0"], ConfigError, "tries nothing"),
        (["--name", "My Study"], ConfigError, "cannot name a study"),
        (["--set", "train.epoch=3"], ConfigError, "Extra inputs"),
        (["--profile", "nightly"], ConfigError, "no profile"),
        (["--data", "nowhere"], SourceError, "no folder"),
        (["--space", "nowhere.yaml"], ConfigError, "cannot be read"),
        (["--resume", "nothing"], ConfigError, "no study 'nothing'"),
        (["--resume", "nothing", "--seed", "3", "--trials", "9"], ConfigError, "seed cannot be given with --resume"),
    ],
)
def test_tune_refuses_before_it_starts(call, tmp_path, words, error, said):
    ended = call("tune", *words)
    assert isinstance(ended.exception, error)
    assert said in ended.exception.message
    assert ended.exception.remedy
    assert not (tmp_path / "home" / "tuning").exists()


def test_an_unknown_hyper_parameter_is_named_before_data_are_read(call, tmp_path):
    (tmp_path / "space.yaml").write_text(
        "metric: m\nparameters: [{name: train.ranker.dims, kind: int, low: 2, high: 9}]\n"
    )
    ended = call("tune", "--space", "space.yaml")
    assert "'train.ranker.dims'" in ended.exception.message
    assert "train.ranker.dim" in ended.exception.remedy
    assert not (tmp_path / "home" / "data").exists()


def test_experiments_are_listed_and_an_unknown_one_is_refused(call):
    assert "strategies" in call("experiment", "--list").output
    ended = call("experiment", "strategy")
    assert isinstance(ended.exception, ConfigError)
    assert "strategies" in ended.exception.remedy
    ended = call("experiment", "strategies", "--set", "train.epochs=3")
    assert isinstance(ended.exception, ConfigError)
    assert "train cannot be set" in ended.exception.message


def test_an_experiment_leaves_a_page_and_measures_nothing_twice(call, tmp_path, monkeypatch):
    measured = []

    def run(context):
        figures = context.remember("one", lambda: measured.append(context.seed) or {"x": context.budget})
        again = call("experiment", "tiny", "--budget", "5", "--seed", "7", "--out", "pages")
        assert "at work in another process" in again.exception.message
        return Findings("Tiny", "Is it?", ("arm", "x"), [["one", figures["x"]]])

    monkeypatch.setattr(catalogue, "load", lambda *_: SimpleNamespace(NEEDS_DATA=False, run=run))
    for _ in range(2):
        ended = call("experiment", "tiny", "--budget", "5", "--seed", "7", "--out", "pages")
        assert ended.exit_code == 0, ended.exception
    assert measured == [7]
    page = (tmp_path / "pages" / "tiny.md").read_text()
    assert "`slipway experiment tiny --budget 5 --seed 7`" in page
    assert "| one | 5.000 |" in page
    call("experiment", "tiny", "--budget", "5", "--seed", "7", "--out", "pages", "--fresh")
    assert measured == [7, 7]
