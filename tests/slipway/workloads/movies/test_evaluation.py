import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slipway.errors import ConfigError, PackageError, TrainingError
from slipway.evaluation.checks import Check, Outcome
from slipway.evaluation.measurement import Kind
from slipway.evaluation.results import Evaluation
from slipway.workload import Scaling, Verdict
from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination, CombinedScorer
from slipway.workloads.movies.dataset import EVENTS, DataSet, snapshot_hash
from slipway.workloads.movies.evaluation import EvaluateConfig, decide, evaluate
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import RankerConfig, TrainConfig
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.training import train
from slipway.workloads.movies.simulator import TINY, simulate
from slipway.workloads.movies.workload import Movies

USERS, ITEMS, STEPS = 300, 12, 20
MODELS = ["popularity", "markov", "counts", "ranker", "combined", "retrieval", "reranked", "diverse"]
TEMPORAL = "ndcg10_full_temporal_unfiltered"


def write_data(folder: Path, repeats: bool, timed: bool = True, users: int = USERS) -> Path:
    """The next item depends on the last two together, which no sum of counts can say; where repeats is False, a
    shuffled catalogue per user.
    """
    rng = np.random.default_rng(0)
    rule = rng.integers(1, ITEMS + 1, (ITEMS + 1, ITEMS + 1))
    rows = []
    for user in range(users):
        start = int(rng.integers(0, 1000))
        history = rng.integers(1, ITEMS + 1, 2).tolist() if repeats else rng.permutation(ITEMS).tolist()
        while repeats and len(history) < STEPS:
            follows = int(rule[history[-2], history[-1]])
            history.append(follows if rng.random() < 0.8 else int(rng.integers(1, ITEMS + 1)))
        rows += [(user + 1, 10 * item, start + 50 * step) for step, item in enumerate(history)]
    (folder / "events").mkdir(parents=True)
    frame = pl.DataFrame(rows, schema=["user", "item", "second"], orient="row").select(
        "user",
        "item",
        timestamp=pl.when(timed).then(pl.col("second") * 1000).cast(pl.Datetime("ms", "UTC")),
        rating=pl.lit(None),
        action=pl.lit("edit"),
        source_row=pl.int_range(1, len(rows) + 1),
    )
    frame.cast(EVENTS).write_parquet(folder / "events" / "0.parquet")
    catalogue = pl.DataFrame({"item": range(10, 10 * ITEMS + 1, 10)})
    named = catalogue.with_columns(title=pl.format("page {}", "item"), genres=pl.lit([], pl.List(pl.String)), year=None)
    named.cast(dict(dataset.ITEMS)).write_parquet(folder / "items.parquet")
    described = DataSet(
        source="wikipedia",
        events=len(rows),
        users=users,
        items=ITEMS,
        quarantined={},
        timed=timed,
        repeats=repeats,
        sha256=snapshot_hash(folder),
    )
    (folder / "dataset.json").write_text(described.model_dump_json())
    return folder


def fit(data: Path, model: Path, epochs: int) -> Path:
    ranker = RankerConfig(dim=32, heads=1, max_len=STEPS, dropout=0)
    config = TrainConfig(
        ranker=ranker, epochs=epochs, learning_rate=5e-3, warmup_steps=10, tokens_per_step=1024, validate_every=epochs
    )
    train(data, model, config, Scaling(), lambda *_: None, model.with_name(f"{model.name}.resume").as_uri())
    return model


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a model that learned them."""
    folder = tmp_path_factory.mktemp("repeating")
    data = write_data(folder / "data", repeats=True)
    return data, fit(data, folder / "model", epochs=20)


@pytest.fixture(scope="module")
def unrepeating(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data without times in which there is nothing to learn, and a model of them."""
    folder = tmp_path_factory.mktemp("unrepeating")
    data = write_data(folder / "data", repeats=False, timed=False)
    return data, fit(data, folder / "model", epochs=1)


def test_a_model_that_learned_is_admitted(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = repeating
    told: list[float] = []
    verdict = evaluate(data, model, tmp_path, EvaluateConfig(), lambda _what, share, _found: told.append(share))
    assert verdict.admitted, verdict.reason
    assert told == sorted(told)
    assert told[-1] == 1.0
    found = Evaluation.read(tmp_path)
    assert [row.model for row in found.rows] == ["repeat last", *MODELS]
    assert (found.protocol, found.filtered, found.primary) == ("temporal", False, TEMPORAL)
    assert verdict.metrics == found.flat()
    assert verdict.metrics[f"{found.served}/{TEMPORAL}"] > verdict.metrics[f"counts/{TEMPORAL}"]
    assert found.served == "diverse"
    assert {table.name for table in found.tables} == {"last"}, "where pages come again nothing is sampled"
    assert [stage.model for stage in found.stages][-2:] == ["reranked", "diverse"]
    assert {check.name for check in found.checks} >= {"served_ndcg", "retrieval_recall", "list_overlap"}
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_figures_are_those_of_the_models_themselves(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    """Scored one case at a time, ranked and averaged by plain loops."""
    data, model = repeating
    evaluate(data, model, tmp_path, EvaluateConfig(cases_per_user=2, max_users=60), lambda *_: None)
    found = {row.model: row.intervals[TEMPORAL] for row in Evaluation.read(tmp_path).rows}
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    split = splits.temporal(whole)
    cases = splits.sample_cases(whole, splits.sample_users(whole, split.test, 60), 2)
    counts, ranker = Counts.load(model / "counts.npz"), RankerScorer.load(model)
    for scorer in (counts, ranker, CombinedScorer(ranker, counts, Combination.load(model))):
        by_user: dict[int, list[float]] = {}
        for position in cases:
            (scores,) = scorer.score(whole, np.array([position]))
            rank = int((scores[1:] >= scores[whole.items[position]]).sum()) - 1
            by_user.setdefault(int(whole.users[position]), []).append(1 / np.log2(rank + 2) if rank < 10 else 0)
        assert found[scorer.name].value == pytest.approx(np.mean([np.mean(v) for v in by_user.values()]), abs=1e-6)
    with np.load(tmp_path / "evaluation.npz") as arrays:
        assert arrays["users"].tolist() == [int(whole.user_ids[u]) for u in sorted(by_user)]
        assert arrays[f"combined/{TEMPORAL}"] == pytest.approx([np.mean(by_user[u]) for u in sorted(by_user)], abs=1e-6)
        assert arrays["cases"].tolist() == [len(by_user[u]) for u in sorted(by_user)]


def test_a_model_that_learned_nothing_is_refused(unrepeating: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = unrepeating
    verdict = evaluate(data, model, tmp_path, EvaluateConfig(), lambda *_: None)
    assert not verdict.admitted
    assert verdict.reason.startswith("refused")
    found = Evaluation.read(tmp_path)
    assert found.primary == "ndcg10_full_loo_filtered"
    assert [row.model for row in found.rows] == MODELS
    # One item of twelve is left when eleven were seen: filtered, each model must find it.
    assert verdict.metrics["popularity/ndcg10_full_loo_filtered"] == 1.0


def test_each_blocking_check_that_fails_refuses_and_is_named(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    """One of every kind of bound, and a champion; the gate alone would have admitted the model."""
    thresholds: dict[str, dict[str, Any] | None] = {
        "served_coverage": {"min": 1.01},
        "served_ndcg": {"max_drop_vs_champion": 0.01},
        "calibration_error": {"max": -1},
        "scores_not_finite": {"max": -1},
        "invariance_unknown_id": {"max": -1},
        "slices_history_sure_gain": {"min": 1},
        "slices_activity_sure_gain": {"min": 1, "blocking": False},
        "fairness_gender_gap": {"max": -1},
    }
    champion = {"measured/served_ndcg": 0.99, "measured/served_coverage": 0.0, f"combined/{TEMPORAL}": 0.99}
    verdict = evaluate(*repeating, tmp_path, EvaluateConfig(thresholds=thresholds), lambda *_: None, champion)
    assert not verdict.admitted
    found = Evaluation.read(tmp_path)
    assert (found.verdict.admitted, found.verdict.reason) == (False, verdict.reason)
    assert found.verdict.metrics["gain_lower_bound"] > 0
    assert verdict.reason.startswith("refused by 6 blocking checks: ")
    blocking = set(thresholds) - {"slices_activity_sure_gain", "fairness_gender_gap"}
    assert {name for name in thresholds if f"{name}: " in verdict.reason} == blocking
    assert "below the champion's 0.99" in verdict.reason
    assert {name for name in thresholds if verdict.metrics.get(f"check/{name}") == 0} == {
        *blocking,
        "slices_activity_sure_gain",
    }
    assert "check/fairness_gender_gap" not in verdict.metrics, "nobody's gender is known here"
    page = (tmp_path / "report.html").read_text()
    assert page.index("6 blocking checks failed") < page.index("<h2>Models</h2>")


def test_a_gate_that_refuses_is_named_beside_the_checks() -> None:
    failed = Check(
        name="gap", kind=Kind.FAIRNESS, outcome=Outcome.FAILED, blocking=True, value=1, cases=9, champion=None,
        bounds="≤ 0", why="because", reason="1 is above 0",
    )  # fmt: skip
    refused, admitted = Verdict(False, "refused: noise", {"gain": 0.0}), Verdict(True, "admitted: better", {})
    both = decide(refused, (failed,))
    assert (both.admitted, both.reason) == (False, "refused: noise. Blocking checks failed, too: gap: 1 is above 0")
    assert decide(refused, ()) is refused
    assert decide(admitted, (failed.model_copy(update={"blocking": False}),)) is admitted
    one = decide(admitted, (failed,))
    assert one.reason == "refused by 1 blocking check: gap: 1 is above 0. The gate alone said: admitted: better"


def test_thresholds_that_cannot_hold_stop_a_run_early(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    """Before training where the key is wrong, before any model is asked where the name is."""
    with pytest.raises(ConfigError, match=r"served_ndcg\.mim"):
        Movies().config("demo", {"evaluate": {"thresholds": {"served_ndcg": {"mim": 1}}}})
    bound = {"min": 0, "blocking": True, "why": "because"}
    for name, near in {"served_ndgc": "served_ndcg", "slice_gender_x": "slice_gender_f"}.items():
        config = Movies().config("demo", {"evaluate": {"thresholds": {name: bound}}}).evaluate
        with pytest.raises(ConfigError, match=near):
            evaluate(*repeating, tmp_path / "out", config, lambda *_: pytest.fail("a model was asked"))
    assert not (tmp_path / "out").exists()


def test_too_few_users_are_refused(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    verdict = evaluate(*repeating, tmp_path, EvaluateConfig(max_users=20), lambda *_: None)
    assert not verdict.admitted
    assert "20 users are too few" in verdict.reason


def test_a_model_of_another_protocol_may_have_seen_the_answers(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="may have seen the answers"):
        evaluate(*repeating, tmp_path / "out", EvaluateConfig(protocol="loo"), lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_data_may_have_seen_the_answers(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_data(tmp_path / "other", repeats=True, users=USERS - 1)
    with pytest.raises(TrainingError, match="may have seen the answers"):
        evaluate(other, repeating[1], tmp_path / "out", EvaluateConfig(), lambda *_: None)


def test_a_damaged_model_is_refused(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = repeating
    for name, error in {"training.json": TrainingError, "counts.npz": PackageError, "ranker.npz": PackageError}.items():
        damaged = tmp_path / name
        shutil.copytree(model, damaged)
        content = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(error):
            evaluate(data, damaged, tmp_path / "out", EvaluateConfig(), lambda *_: None)
        (damaged / name).unlink()
        with pytest.raises(error):
            evaluate(data, damaged, tmp_path / "out", EvaluateConfig(), lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_are_refused(repeating: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = repeating
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    with np.load(model / "ranker.npz") as arrays:
        weights = {name: np.full_like(arrays[name], np.nan) for name in arrays.files}
    np.savez(broken / "ranker.npz", **weights)
    verdict = evaluate(data, broken, tmp_path / "out", EvaluateConfig(), lambda *_: None)
    assert not verdict.admitted
    assert "not finite" in verdict.reason
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["model"] for row in document["rows"] if not row["finite"]] == MODELS[3:]


@pytest.mark.slow
def test_a_simulated_world_ranks_its_models(tmp_path: Path) -> None:
    """popularity < Markov <= counts < ranker < oracle: what the demo's table shows, on its tiny preset."""
    simulate(tmp_path / "files", TINY, lambda *_: None)
    data = tmp_path / "data"
    ingest(tmp_path / "files", data, IngestConfig(), lambda *_: None)
    config = TrainConfig(ranker=RankerConfig(dim=64, dropout=0.3), epochs=16, learning_rate=3e-3, tokens_per_step=2048)
    train(data, tmp_path / "model", config, Scaling(), lambda *_: None, (tmp_path / "resume").as_uri())
    verdict = evaluate(data, tmp_path / "model", tmp_path / "out", EvaluateConfig(), lambda *_: None)
    ndcg = [verdict.metrics[f"{m}/ndcg10_full_temporal_filtered"] for m in ("popularity", "markov", "counts", "oracle")]
    assert ndcg == sorted(ndcg)
    ranker = verdict.metrics["ranker/ndcg10_full_temporal_filtered"]
    assert ndcg[-2] < ranker < ndcg[-1]
    assert verdict.admitted, verdict.reason
    assert Evaluation.read(tmp_path / "out").title.startswith("Recommendations on simulated ml-1m")
