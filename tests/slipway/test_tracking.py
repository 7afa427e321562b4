"""MLflow on SQLite, for real: runs, versions, the challenger alias."""

import shutil
import sqlite3

import pytest
from mlflow import MlflowClient

from slipway.errors import TrackingError
from slipway.tracking import Tracker


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"  # its migrations take seconds: once is enough


def test_several_steps_write_one_run(uri, tmp_path):
    started = Tracker(uri, "movies").start("demo", {"pipeline_run": "r1"})
    started.log(params={"dim": 64}, metrics={"loss": 2.0}, step=1)
    later = Tracker(uri, "movies").run(started.id)
    later.log(metrics={"loss": 1.0}, tags={"gate": "admitted"}, step=2)
    (tmp_path / "report.html").write_text("<p>")
    later.log_files(tmp_path / "report.html", "evaluation")
    later.finish()
    client = MlflowClient(uri)
    run = client.get_run(started.id)
    assert run.data.params == {"dim": "64"}
    assert run.info.status == "FINISHED"
    assert [m.value for m in client.get_metric_history(started.id, "loss")] == [2.0, 1.0]
    assert [f.path for f in client.list_artifacts(started.id, "evaluation")] == ["evaluation/report.html"]
    assert later.tags()["gate"] == "admitted"


def test_a_failed_body_leaves_a_failed_run(uri):
    run = Tracker(uri, "movies").start("demo", {})
    with pytest.raises(ZeroDivisionError), run:
        1 / 0  # noqa: B018
    assert MlflowClient(uri).get_run(run.id).info.status == "FAILED"


def test_registering_twice_is_one_version_and_moves_the_alias(uri):
    tracker = Tracker(uri, "movies")
    run = tracker.start("demo", {})
    assert tracker.register("movies", "file:///packages/a", "aaa", run.id, {}) == "1"
    assert tracker.register("movies", "file:///packages/b", "bbb", run.id, {}) == "2"
    assert tracker.package_uri("movies", "challenger") == "file:///packages/b"
    assert tracker.register("movies", "file:///packages/a", "aaa", run.id, {}) == "1"
    assert tracker.package_uri("movies", "challenger") == "file:///packages/a"


def test_the_champion_is_looked_up_and_none_is_no_error(uri):
    tracker = Tracker(uri, "movies")
    assert tracker.champion("nobody-registered-this") is None
    run = tracker.start("demo", {})
    version = tracker.register("crowned", "file:///packages/a", "aaa", run.id, {})
    assert tracker.champion("crowned") is None, "a challenger is no champion"
    MlflowClient(uri).set_registered_model_alias("crowned", "champion", version)
    assert tracker.champion("crowned") == "file:///packages/a"


def test_a_registry_that_cannot_be_asked_is_not_no_champion(tmp_path, uri):
    shutil.copyfile(uri.removeprefix("sqlite:///"), tmp_path / "broken.db")
    tracker = Tracker(f"sqlite:///{tmp_path}/broken.db", "movies")
    with sqlite3.connect(tmp_path / "broken.db") as database:
        database.execute("DROP TABLE registered_models")
    with pytest.raises(TrackingError, match="SLIPWAY_TRACKING_URI"):
        tracker.champion("movies")


def test_more_metrics_than_mlflow_takes_at_once(uri):
    run = Tracker(uri, "movies").start("demo", {})
    run.log(metrics={f"measured/m{n}": float(n) for n in range(1500)}, tags={"gate": "admitted"})
    assert len(MlflowClient(uri).get_run(run.id).data.metrics) == 1500


def test_an_absent_alias_names_the_remedy(uri):
    with pytest.raises(TrackingError, match="slipway run"):
        Tracker(uri, "movies").package_uri("movies", "champion")


def test_an_unreachable_server_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="SLIPWAY_TRACKING_URI"):
        Tracker("http://127.0.0.1:9", "movies")


def test_a_place_where_no_database_can_be_is_told_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match="cannot be a folder"):
        Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", "movies")
    with pytest.raises(TrackingError, match="is a folder, not a database"):
        Tracker(f"sqlite:///{tmp_path}", "movies")
    (tmp_path / "file").write_text("garbage, and more than sixteen bytes of it")
    with pytest.raises(TrackingError, match="is no SQLite database"):
        Tracker(f"sqlite:///{tmp_path}/file", "movies")


def test_a_run_that_this_mlflow_does_not_know_is_told_with_what_to_do(uri):
    with pytest.raises(TrackingError, match="not found") as unknown:
        Tracker(uri, "movies").run("0" * 32).tags()
    assert "runs/cache" in unknown.value.remedy
