"""The whole DAG on this machine, for real: the gate open and closed, what is skipped, what is resumed, who waits."""

import os
import signal

import pytest

from pipelines.runners import local
from slipway import storage
from slipway.errors import BusyError, PipelineError, TrackingError
from slipway.package import Package
from slipway.settings import Settings
from slipway.tracking import Tracker

pytestmark = pytest.mark.slow


def run(parameters, env):
    outcome = local.run(parameters, env, lambda _: None)
    return outcome, {step.name: step.state for step in outcome.steps}


@pytest.fixture(scope="module")
def closed(env, tiny):
    """A run whose gate asks for more than any model can give."""
    return run(tiny(evaluate={"gate": {"min_gain": 0.9}}), env)


def test_a_closed_gate_registers_nothing(closed, env):
    outcome, states = closed
    assert not outcome.admitted
    assert states == {"ingest": "done", "train": "done", "evaluate": "done"}
    with pytest.raises(TrackingError, match="slipway run"):
        Tracker(env.tracking, "movies").package_uri("movies", "challenger")
    assert not (env.home / "objects" / "packages").exists()
    assert Tracker(env.tracking, "movies").run(outcome.run_id).tags()["gate"] == "refused"


def test_an_open_gate_registers_a_package_that_opens_and_trains_nothing_again(closed, env, tiny, tmp_path):
    outcome, states = run(tiny(), env)
    assert outcome.admitted
    assert states == {"ingest": "cached", "train": "cached", "evaluate": "done", "optimise": "done", "register": "done"}
    uri = Tracker(env.tracking, "movies").package_uri("movies", "challenger")
    storage.get_tree(uri, tmp_path / "package")
    manifest = Package.open(tmp_path / "package").manifest
    assert uri.endswith(manifest.version)
    assert manifest.pipeline_run == outcome.name
    cards = Tracker(env.tracking, "movies").artifacts("movies", "challenger", "cards", tmp_path)
    for name in ("model_card.md", "data_card.md"):
        assert name in manifest.files, "sealed with the package"
        assert len((cards / name).read_text()) > 2_000
    assert f"`{manifest.version}`" in (cards / "model_card.md").read_text(), "the run's card says which package it is"
    assert outcome.name in (cards / "model_card.md").read_text()
    assert "package.json beside this card" in (tmp_path / "package" / "model_card.md").read_text()
    assert manifest.metrics["gate/gain"] == pytest.approx(
        Tracker(env.tracking, "movies").client.get_run(outcome.run_id).data.metrics["gate/gain"]
    )


def test_the_same_again_is_skipped_whole(closed, env, tiny):
    again, states = run(tiny(evaluate={"gate": {"min_gain": 0.9}}), env)
    assert set(states.values()) == {"cached"}
    assert again.run_id == closed[0].run_id


def test_a_step_that_fails_on_cached_results_says_how_to_make_them_anew(closed, env, tiny):
    with pytest.raises(PipelineError, match=r"step 'evaluate' failed: .*nonsense") as failed:
        local.run(tiny(evaluate={"nonsense": 1}), env, lambda _: None)
    assert str(env.home / "runs" / "cache") in failed.value.remedy


def test_a_changed_line_of_code_runs_everything_again(closed, env, tiny, monkeypatch):
    monkeypatch.setattr("pipelines.fingerprint.code_version", lambda: "another")
    parameters = tiny(simulate={"users": 1_000_000_000})  # refused at once: enough to see that ingest ran
    with pytest.raises(PipelineError, match=r"step 'ingest' failed: .*users"):
        local.run(parameters, env, lambda _: None)


def test_a_failed_step_passes_on_its_message_and_remedy(env, tiny, tmp_path):
    (tmp_path / "note.txt").write_text("no ratings here")
    parameters = tiny().model_copy(update={"data": str(tmp_path)})
    with pytest.raises(PipelineError, match="step 'ingest' failed") as failed:
        local.run(parameters, env, lambda _: None)
    assert "u.data" in failed.value.message + failed.value.remedy


def test_steps_leave_a_core_to_others_unless_they_are_told(env, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    told = local._step_environment(env, "run", None)
    assert (told["OMP_NUM_THREADS"], told["OMP_WAIT_POLICY"]) == ("4", "passive")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in local._step_environment(env, "run", None)


def test_what_was_done_in_another_mlflow_or_store_is_not_done_in_this_one(env):
    places = {
        local._places(Settings(home=env.home)),
        local._places(Settings(home=env.home, tracking_uri="sqlite:////elsewhere/mlflow.db")),
        local._places(Settings(home=env.home, store_uri="file:///elsewhere")),
    }
    assert len(places) == 3
    assert local._places(Settings(home=env.home)) in places


def test_a_terminated_run_ends_like_an_interrupted_one():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray, in another test of this process, may have set one
    try:
        with pytest.raises(KeyboardInterrupt), local._interrupted_by_signals():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_run_on_the_same_home_is_told_to_wait(env, tiny):
    with local._exclusive(env.home, "first"), pytest.raises(BusyError, match=f"first, pid {os.getpid()}") as busy:
        local.run(tiny(), env, lambda _: None)
    assert "SLIPWAY_HOME" in busy.value.remedy
