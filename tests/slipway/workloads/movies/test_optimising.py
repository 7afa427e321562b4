"""The served ranker through the whole step: what is shipped computes what was trained, and a package carries it."""

import json
import logging
import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from components.optimise import step
from slipway import workload
from slipway.errors import PackageError
from slipway.optimisation.choice import Verdict
from slipway.optimisation.results import FILE, PLOT, TABLE, Results
from slipway.optimisation.session import Precision, Provider, Runtime, SessionSettings
from slipway.package import Package, Snapshot, check_golden, read_golden, write_golden
from slipway.settings import settings
from slipway.tracking import Tracker
from slipway.workloads.movies import runtime
from slipway.workloads.movies.graphscorer import GraphScorer
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.optimising import TOLERANCES, ServedRanker
from slipway.workloads.movies.predictor import MoviesPredictor
from slipway.workloads.movies.ranker.scorer import RankerScorer

pytestmark = pytest.mark.slow  # torch's exporter alone takes ten seconds

OVERRIDES = {
    "precisions": ["int8"],
    "levels": [],
    "users": 100,
    "cases_per_user": 1,
    "rounds": 3,
    "requests": 2,
    # Tiny graphs are not faster in int8; the policy has tests of its own.
    "limits": {"min_speedup": 0, "max_drop": 0.5, "min_overlap": 0.5},
}


@pytest.fixture(scope="module")
def optimised(movies_package, tmp_path_factory):
    """The step's outputs, made as the pipeline makes them."""
    root = tmp_path_factory.mktemp("optimised")
    model = shutil.copytree(movies_package.model, root / "model")
    (model / "training.json").write_text(json.dumps({"protocol": "loo"}))
    patch = pytest.MonkeyPatch()
    patch.setenv("SLIPWAY_HOME", str(root / "home"))
    settings.cache_clear()
    try:
        tracker = Tracker(settings().tracking, "movies")
        run = tracker.start("test", {})
        (root / "servable").mkdir()
        (root / "servable" / "stale").write_text("of a step that was killed")
        overrides = json.dumps({"optimise": OVERRIDES})
        figures = step.run(
            "movies", "demo", overrides, run.id, movies_package.data, model, root / "servable", root / "table.md"
        )
        logged = tracker.client.get_run(run.id).data
        artifacts = {a.path for a in tracker.client.list_artifacts(run.id, "optimisation")}
    finally:
        patch.undo()
        settings.cache_clear()
    return SimpleNamespace(
        folder=root / "servable",
        table=root / "table.md",
        model=model,
        data=movies_package.data,
        figures=figures,
        logged=logged,
        artifacts=artifacts,
    )


def test_the_step_ships_logs_and_tells(optimised):
    results = Results.model_validate_json((optimised.folder / FILE).read_bytes())
    rows = {row.settings.precision: row for row in results.rows if row.settings}
    assert rows[Precision.INT8].verdict is Verdict.SHIPPED, rows[Precision.INT8].reason
    assert {row.name for row in results.rows if row.verdict is Verdict.ABSENT} >= {"tensorrt"} or len(rows) > 2
    assert optimised.artifacts == {f"optimisation/{name}" for name in (FILE, TABLE, PLOT)}
    assert optimised.logged.metrics["optimise_speedup"] == optimised.figures["optimise_speedup"]
    assert optimised.logged.tags["served_graph"] == results.shipped.name
    assert results.shipped.name in optimised.table.read_text()
    assert not (optimised.folder / "stale").exists()
    assert not list(optimised.folder.glob(".*"))


def test_the_plain_graph_scores_as_pytorch_does(optimised, movies_package):
    """What candidates are compared with is what training would have answered."""
    opened = ServedRanker.open(optimised.data, optimised.model, workload.load("movies").config("demo", {}).optimise)
    model, whole = opened.graph.ranker, opened.asked.whole
    cases = opened.asked.crowd.cases[:40]
    scorer = GraphScorer(
        runtime.session(movies_package.package / "ranker.onnx"), model.config.max_len, model.n_users, True
    )
    logits = RankerScorer(model).score(whole, cases)[:, 1:]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(scorer.score(whole, cases)[:, 1:], expected, atol=1e-4)


def test_what_is_shipped_is_close_to_what_was_trained_and_not_equal(optimised):
    config = workload.load("movies").config("demo", {}).optimise
    opened = ServedRanker.open(optimised.data, optimised.model, config)
    session = runtime.session(optimised.folder / "ranker.onnx")
    opened.check(session, Precision.INT8)
    with pytest.raises(PackageError, match="differ from PyTorch's"):
        opened.check(session, Precision.FP32)
    assert max(TOLERANCES.values()) < 1  # a wrong graph differs by more


def test_a_package_of_it_is_sealed_with_the_answers_that_it_gives(optimised, tmp_path, caplog):
    folder = shutil.copytree(optimised.folder, tmp_path / "package")
    movies = workload.load("movies")
    contract = movies.contract(optimised.data, folder)
    write_golden(folder, contract.golden)
    Package.seal(
        folder,
        workload="movies",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        git_commit="0" * 40,
        pipeline_run="tests",
        data=Snapshot(uri="file:///data", sha256=contract.data_sha256, events=contract.events),
        signature=contract.signature,
        metrics={},
    )
    package = Package.open(folder)
    predictor = movies.predictor(package)
    assert check_golden(package, lambda inputs: predictor.predict(inputs).outputs) == 4
    assert {pair.tolerance for pair in read_golden(package)} == {0.1}  # another CPU may round otherwise
    again = [predictor.predict(pair.inputs).outputs["item_id"].tolist() for pair in contract.golden]
    assert again == [pair.outputs["item_id"].tolist() for pair in contract.golden]  # this one does not

    # The same package where TensorRT chose its graph, on a machine without it: slower, and it answers.
    settings = SessionSettings(provider=Provider.TENSORRT, precision=Precision.FP16)
    moved = shutil.copytree(optimised.folder, tmp_path / "moved")
    Runtime(graphs={"ranker.onnx": settings}).write(moved)
    with caplog.at_level(logging.WARNING):
        answer = MoviesPredictor.open(moved).predict(contract.golden[0].inputs)
    assert answer.notes["fallback"] == "none"
    assert "ranker.onnx runs on the CPU" in caplog.text


def test_answers_do_not_depend_on_who_else_is_asked(optimised):
    """Which they would in int8, if cases shared a batch."""
    import polars as pl

    whole = Interactions.from_events(pl.read_parquet(optimised.data / "events" / "*.parquet"))
    scorer = GraphScorer(runtime.session(optimised.folder / "ranker.onnx"), 12, whole.n_users, True)
    cases = whole.indptr[1:11] - 1
    np.testing.assert_array_equal(scorer.score(whole, cases)[3:4], scorer.score(whole, cases[3:4]))
