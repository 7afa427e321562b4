import numpy as np
import pytest

from slipway.experiments.memory import PARENT, Memory
from slipway.tracking import Tracker


@pytest.fixture
def tracker(tmp_path):
    return Tracker(f"sqlite:///{tmp_path}/mlflow.db", "experiments")


def test_an_interrupted_experiment_goes_on_where_it_was_in_the_same_run(tmp_path, tracker):
    def interrupted():
        raise KeyboardInterrupt

    first = Memory.open(tmp_path, tracker, "losses", "c1", {"budget": 600})
    got = first.remember("full, 3/4", lambda: {"x": np.float32(0.5), "curve": np.arange(2), "name": "a"})
    with pytest.raises(KeyboardInterrupt), first.run:
        first.remember("gbce", interrupted)
    assert got == {"x": 0.5, "curve": [0, 1], "name": "a"}

    second = Memory.open(tmp_path, tracker, "losses", "c2", {"budget": 600})
    assert second.run.id == first.run.id
    assert second.remember("full, 3/4", lambda: pytest.fail("measured again")) == got
    assert second.remember("gbce", lambda: {"x": 1}) == {"x": 1}
    assert [(arm["key"], arm["commit"]) for arm in second.arms()] == [("full, 3/4", "c1"), ("gbce", "c2")]
    second.run.finish()

    runs = tracker.client.search_runs([tracker.experiment_id])
    status = {(r.info.run_name, r.info.status) for r in runs}
    assert status == {("losses", "FINISHED"), ("full, 3/4", "FINISHED"), ("gbce", "KILLED"), ("gbce", "FINISHED")}
    arm = next(r for r in runs if r.info.run_name == "full, 3/4")
    assert arm.data.tags[PARENT] == first.run.id
    assert arm.data.metrics == {"x": 0.5}
    assert arm.data.params == {"name": "a"}


def test_a_page_holds_no_number_for_each_user(tmp_path, tracker):
    memory = Memory.open(tmp_path, tracker, "ablation", "c", {})
    figures = {"ndcg10": [0.5] * 943, "curve": [0.1, 0.2]}
    assert memory.remember("whole", lambda: figures) == figures  # what is compared with later needs them
    (arm,) = memory.arms()
    assert arm["figures"] == {"curve": [0.1, 0.2]}


def test_figures_that_json_cannot_hold_are_refused_and_not_remembered(tmp_path, tracker):
    memory = Memory.open(tmp_path, tracker, "losses", "c", {})
    with pytest.raises(TypeError, match="cannot be remembered"):
        memory.remember("a", lambda: {"x": object()})
    assert memory.remember("a", lambda: {"x": 1}) == {"x": 1}
