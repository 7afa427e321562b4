import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from slipway.errors import PackageError
from slipway.workloads.movies import export
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.combine import Combination, combine
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker

N_ITEMS, N_USERS, MAX_LEN = 37, 11, 9


@pytest.fixture(scope="module")
def history() -> Interactions:
    rng = np.random.default_rng(0)
    items = rng.integers(1, N_ITEMS + 1, size=20 * N_USERS).astype(np.int32)
    return Interactions(np.arange(0, len(items) + 1, 20), items, None, np.arange(N_USERS), np.arange(-1, N_ITEMS))


@pytest.fixture(scope="module", params=[0, 8], ids=["no user embedding", "user embedding"])
def graph(request: pytest.FixtureRequest) -> export.ServedGraph:
    torch.manual_seed(0)
    model = Ranker(RankerConfig(dim=16, heads=2, max_len=MAX_LEN, user_dim=request.param), N_ITEMS, N_USERS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return export.ServedGraph(model, Combination(weight=0.7, epsilon=1e-3)).eval()


@pytest.fixture(scope="module")
def written(graph: export.ServedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "ranker.onnx"
    export.write_graph(graph, path)
    return path


def test_answers_are_pytorchs(graph: export.ServedGraph, written: Path, history: Interactions) -> None:
    export.check_parity(graph, written, history, Counts.fit(history))


@pytest.mark.parametrize(("B", "L", "S", "k"), [(1, 1, 1, 1), (64, MAX_LEN, 20, 10), (2, 4, 1, N_ITEMS), (3, 2, 5, 99)])
def test_is_combine_then_filter_then_top_k(
    graph: export.ServedGraph, written: Path, history: Interactions, B: int, L: int, S: int, k: int
) -> None:
    rng = np.random.default_rng(B)
    items = rng.integers(1, N_ITEMS + 1, size=(B, L))
    seen = rng.integers(0, N_ITEMS + 1, size=(B, S))
    counts = Counts.fit(history).score_histories(list(items))
    counts[:, 0] = 5  # ignored
    users = rng.integers(0, N_USERS + 1, size=B)
    inputs = {"items": items, "counts": counts, "seen": seen, "k": np.array([k])}
    if graph.ranker.user is not None:
        inputs["user"] = users
    item, score = export.session(written).run(["item", "score"], inputs)
    with torch.no_grad():
        logits = graph.ranker.newest(torch.from_numpy(items), torch.from_numpy(users)).numpy()
    expected = combine(logits, counts, 0.7, 1e-3)
    np.put_along_axis(expected, seen, -np.inf, axis=1)
    assert item.shape == score.shape == (B, min(k, N_ITEMS))
    assert (item.dtype, score.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(score, -np.sort(-expected, axis=1)[:, :k][:, :N_ITEMS], atol=1e-4)
    finite = np.isfinite(score)
    np.testing.assert_allclose(np.take_along_axis(expected, item, axis=1)[finite], score[finite], atol=1e-4)
    assert not (item[finite] == 0).any()
    assert not any(set(i[f]) & set(s) for i, f, s in zip(item, finite, seen, strict=True))


def test_padding_on_the_right_changes_nothing(graph: export.ServedGraph, written: Path) -> None:
    runtime = export.session(written)
    inputs = {
        "items": np.array([[5, 6, 7]]),
        "counts": np.ones((1, N_ITEMS + 1), dtype=np.float32),
        "seen": np.array([[5]]),
        "k": np.array([N_ITEMS]),
    }
    if graph.ranker.user is not None:
        inputs["user"] = np.array([3])
    item, score = runtime.run(None, inputs)
    padded = inputs | {"items": np.array([[5, 6, 7, 0, 0, 0]]), "seen": np.array([[5, 0, 0]])}
    padded_item, padded_score = runtime.run(None, padded)
    np.testing.assert_array_equal(item[:, :-1], padded_item[:, :-1])
    np.testing.assert_allclose(score, padded_score, atol=1e-5)


def test_names_types_and_no_double_precision(graph: export.ServedGraph, written: Path) -> None:
    model = onnx.load(written)
    names = ["items", *(["user"] if graph.ranker.user is not None else []), "counts", "seen", "k"]
    assert [tensor.name for tensor in model.graph.input] == names
    assert [tensor.name for tensor in model.graph.output] == ["item", "score"]
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    types |= {initializer.data_type for initializer in model.graph.initializer}
    assert onnx.TensorProto.DOUBLE not in types


def test_a_graph_that_computes_something_else_is_refused(
    graph: export.ServedGraph, written: Path, history: Interactions
) -> None:
    other = export.ServedGraph(graph.ranker, Combination(weight=0.71, epsilon=1e-3)).eval()
    with pytest.raises(PackageError, match="differ from PyTorch's"):
        export.check_parity(other, written, history, Counts.fit(history))


def test_the_package_files_hold_whole_histories(movies_package: object) -> None:
    package, data = movies_package.package, movies_package.data  # type: ignore[attr-defined]
    whole = Interactions.from_events(pl.read_parquet(data / "events" / "*.parquet"))
    np.testing.assert_array_equal(np.load(package / "users.npy"), whole.user_ids)
    np.testing.assert_array_equal(np.load(package / "history_indptr.npy", mmap_mode="r"), whole.indptr)
    np.testing.assert_array_equal(np.load(package / "history_items.npy", mmap_mode="r"), whole.items)
    popularity = np.load(package / "popularity.npy")
    assert popularity.dtype == np.float32
    assert popularity.sum() == len(whole.items)
    items = pl.read_parquet(package / "items.parquet")
    assert items.columns == ["index", "item", "title", "genres"]
    assert items["item"].to_list() == whole.item_ids[1:].tolist()
    served = json.loads((package / "model.json").read_text())
    assert served["has_user_embedding"] is True
    assert served["n_items"] == whole.n_items
    assert served["until"] == whole.times.max()
    assert not list(package.glob(".*"))


def test_a_model_of_other_data_is_refused(movies_package: object, tmp_path: Path) -> None:
    data = shutil.copytree(movies_package.data, tmp_path / "data")  # type: ignore[attr-defined]
    (events,) = (data / "events").glob("*.parquet")
    pl.read_parquet(events).filter(pl.col("user") > 50).write_parquet(events)
    with pytest.raises(PackageError, match="was trained on"):
        export.export(data, movies_package.model, tmp_path / "out")  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_large_scores_are_not_taken_for_other_ones(tmp_path: Path) -> None:
    """At weight 10 scores are sums around -100, where float32 itself is coarser than an absolute tolerance."""
    rng, V = np.random.default_rng(1), 3_000
    items = rng.integers(1, V + 1, size=6_000).astype(np.int32)
    history = Interactions(np.arange(0, len(items) + 1, 20), items, None, np.arange(300), np.arange(-1, V))
    torch.manual_seed(0)
    model = Ranker(RankerConfig(dim=16, heads=2, max_len=MAX_LEN), V, 300)
    graph = export.ServedGraph(model, Combination(weight=10, epsilon=1e-5)).eval()
    export.write_graph(graph, tmp_path / "ranker.onnx")
    export.check_parity(graph, tmp_path / "ranker.onnx", history, Counts.fit(history))
