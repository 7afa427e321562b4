"""Parts that are really slow or away: graphs that compute for minutes, a Redis that is stopped, then killed."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from slipway.settings import Settings, settings
from slipway.workloads.movies import budget, runtime
from slipway.workloads.movies.budget import PATIENCE, Budget, Guards
from slipway.workloads.movies.predictor import MoviesPredictor

ROOMY = Budget(features=10, ranker=10, rerank=10, total=30)
SLACK = 5  # seconds that a loaded machine may take for what has no limit


def slowed(path: Path, output: str, kind: int, out: Path) -> Path:
    """The same graph with a loop before one output that would take minutes; the output's values stay."""
    model = onnx.load(path)
    graph = model.graph
    (last,) = (node for node in graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "quick"
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["sum", "sum"], ["doubled"])],
        "body",
        [value("step", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("sum", kind, [1])],
        [value("go_on", TensorProto.BOOL, []), value("doubled", kind, [1])],
    )
    graph.initializer.extend(
        [
            helper.make_tensor("trips", TensorProto.INT64, [], [10**9]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("nothing", kind, [1], [0]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Loop", ["trips", "true", "nothing"], ["zero"], body=body),
            helper.make_node("Add", ["quick", "zero"], [output]),
        ]
    )
    onnx.save(model, out / path.name)
    return out / path.name


@pytest.fixture(scope="module")
def slow(movies_package, tmp_path_factory):
    """The package's two graphs, slowed."""
    out = tmp_path_factory.mktemp("slow")
    ranker = slowed(movies_package.package / "ranker.onnx", "item", TensorProto.INT64, out)
    trees = slowed(movies_package.package / "reranker.onnx", "score", TensorProto.FLOAT, out)
    return runtime.session(ranker), runtime.session(trees)


@pytest.fixture
def predictor(movies_package):
    return MoviesPredictor.open(movies_package.package)


def with_ranker(predictor, graph):
    return replace(predictor, recommender=replace(predictor.recommender, graph=graph))


def with_trees(predictor, graph):
    forest = replace(predictor.recommender.forest, graph=graph)
    return replace(predictor, recommender=replace(predictor.recommender, forest=forest))


def ask(predictor, user, **rest):
    """(answer, seconds)."""
    begun = time.perf_counter()
    answer = predictor.predict({name: np.array([value]) for name, value in {"user_id": user, **rest}.items()})
    return answer, time.perf_counter() - begun


def assert_nothing_computes():
    """Within two seconds no thread of this process is busy any more."""
    for _ in range(10):
        before = time.process_time()
        time.sleep(0.2)
        if time.process_time() - before < 0.1:
            return
    pytest.fail("a part that was left behind goes on computing")


def test_limits_change_no_answer(predictor, movies_package):
    users = movies_package.users[:10]
    before = [ask(predictor, user)[0] for user in users]
    predictor.guards.limit(ROOMY)
    for user, old in zip(users, before, strict=True):
        new = ask(predictor, user)[0]
        assert new.notes == old.notes
        assert set(new.stages) == {"retrieval", "ranker", "rerank"}
        assert not new.lost
        for name, values in old.outputs.items():
            np.testing.assert_array_equal(new.outputs[name], values)


def test_a_late_ranker_leaves_the_counts_is_paused_and_comes_back(predictor, movies_package, slow, monkeypatch):
    user = movies_package.users[3]
    whole, _ = ask(predictor, user)
    expected, _ = ask(replace(with_ranker(predictor, None), guards=Guards()), user)  # without any ranker
    predictor.guards.limit(replace_budget(ranker=0.05))
    hindered = with_ranker(predictor, slow[0])
    for _ in range(PATIENCE):
        answer, seconds = ask(hindered, user)
        assert (answer.notes["fallback"], answer.notes["lost"]) == ("counts", "ranker late")
        assert dict(answer.lost) == {"ranker": "late"}
        assert 0.05 <= answer.stages["ranker"] <= seconds < 0.05 + SLACK
        np.testing.assert_array_equal(answer.outputs["item_id"], expected.outputs["item_id"])
    assert_nothing_computes()
    for _ in range(20):
        assert ask(hindered, user)[0].notes["lost"] == "ranker paused"
    monkeypatch.setattr(predictor.guards.ranker, "_paused_until", 0.0)
    with ThreadPoolExecutor(8) as pool:  # when the pause is over, one of those who ask looks how it is
        notes = [answer.notes["lost"] for answer, _ in pool.map(lambda _: ask(hindered, user), range(8))]
    assert sorted(notes) == ["ranker late"] + ["ranker paused"] * 7
    monkeypatch.setattr(predictor.guards.ranker, "_paused_until", 0.0)
    predictor.guards.limit(ROOMY)
    again, _ = ask(predictor, user)
    assert again.notes == whole.notes
    np.testing.assert_array_equal(again.outputs["item_id"], whole.outputs["item_id"])


def replace_budget(**seconds):
    return ROOMY.model_copy(update=seconds)


def test_late_trees_leave_the_combination_within_the_total(predictor, movies_package, slow):
    user = movies_package.users[4]
    plain, _ = ask(with_trees(predictor, None), user)
    predictor.guards.limit(replace_budget(total=0.5))  # the re-ranker alone may take longer than what is left
    answer, seconds = ask(with_trees(predictor, slow[1]), user)
    assert (answer.notes["fallback"], answer.notes["lost"]) == ("combination", "rerank late")
    assert seconds < 0.5 + SLACK
    np.testing.assert_array_equal(answer.outputs["item_id"], plain.outputs["item_id"])
    assert_nothing_computes()
    predictor.guards.limit(ROOMY)  # a loaded machine may need more for a whole answer
    assert ask(predictor, user)[0].notes["fallback"] == "none"


def test_with_every_model_gone_there_is_what_is_popular(predictor, movies_package, slow):
    recommender = replace(predictor.recommender, graph=slow[0], counts=replace(predictor.recommender.counts, data=None))
    predictor.guards.limit(replace_budget(ranker=0.05))
    user = movies_package.users[3]
    answer, _ = ask(replace(predictor, recommender=recommender), user)
    assert (answer.notes["fallback"], answer.notes["lost"]) == ("popularity", "retrieval failed")
    assert set(answer.outputs["source"][0]) == {"popular"}
    (position,) = predictor.histories.index(np.array([user]))
    seen = predictor.catalogue.item_ids[predictor.histories.of(position)]
    assert not set(seen) & set(answer.outputs["item_id"][0].tolist())


def test_the_environment_sets_the_budget(monkeypatch):
    monkeypatch.setenv("SLIPWAY_BUDGET_RANKER_MS", "7.5")
    assert Budget.of(Settings()).ranker == 0.0075
    assert Budget.of(Settings()).total == 0.3


@pytest.mark.slow
def test_a_stopped_redis_costs_its_budget_and_no_more(predictor, movies_package, tmp_path, monkeypatch):
    from benchmarks import online_lookup
    from slipway.features.online import OnlineStore

    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    settings.cache_clear()
    user, until = movies_package.users[5], predictor.recent.until
    liked = ask(predictor, user)[0].outputs["item_id"][0, :2].tolist()
    row = {"user": user, "event_timestamp": datetime.now(UTC), "items": liked, "times": [until + 1, until + 2]}
    opened = replace(predictor, data_set="here")
    with online_lookup.redis_server(tmp_path) as port:
        import redis

        process = redis.Redis(port=port).info()["process_id"]
        store = OnlineStore.open(online_lookup.repository(tmp_path, port))
        store.write("user_history", [row], datetime.now(UTC))
        opened.connect(lambda _data_set: store, replace_budget(features=0.2))
        fresh, _ = ask(opened, user)
        assert (fresh.notes["features"], fresh.lost) == ("online", {})
        assert fresh.stages["features"] < 0.2
        os.kill(process, signal.SIGSTOP)
        try:
            for _ in range(PATIENCE):
                answer, seconds = ask(opened, user)
                assert (answer.notes["features"], answer.notes["lost"]) == ("late", "features late")
                assert 0.2 <= answer.stages["features"] <= seconds < 0.2 + SLACK
                assert answer.notes["fallback"] == "none"  # by all models, of an older history
            assert ask(opened, user)[0].notes["lost"] == "features paused"
        finally:
            os.kill(process, signal.SIGCONT)
        monkeypatch.setattr(opened.guards.features, "_paused_until", 0.0)
        back, _ = ask(opened, user)
        assert back.notes["features"] == "online"
        np.testing.assert_array_equal(back.outputs["item_id"], fresh.outputs["item_id"])
        assert not set(liked) & set(back.outputs["item_id"][0].tolist())
        monkeypatch.setattr(budget, "PAUSE", 0.0)
        os.kill(process, signal.SIGKILL)
        for _ in range(PATIENCE):
            answer, seconds = ask(opened, user)
            assert answer.notes["lost"].startswith("features ")
            assert seconds < 0.2 + SLACK
    settings.cache_clear()
