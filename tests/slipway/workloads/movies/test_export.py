import copy
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from slipway.errors import PackageError
from slipway.workloads.movies import export, runtime
from slipway.workloads.movies.combine import log_softmax
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.ranker.model import Ranker

N_ITEMS, N_USERS, MAX_LEN = 37, 11, 9


@pytest.fixture(scope="module", params=[0, 8], ids=["no user embedding", "user embedding"])
def graph(request: pytest.FixtureRequest) -> export.ServedGraph:
    torch.manual_seed(0)
    model = Ranker(RankerConfig(dim=16, heads=2, max_len=MAX_LEN, user_dim=request.param), N_ITEMS, N_USERS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return export.ServedGraph(model).eval()


@pytest.fixture(scope="module")
def written(graph: export.ServedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "ranker.onnx"
    export.write_graph(graph, path)
    return path


def test_answers_are_pytorchs(graph: export.ServedGraph, written: Path) -> None:
    export.check_parity(graph, runtime.session(written))


@pytest.mark.parametrize(
    ("B", "L", "S", "C", "k"), [(1, 1, 1, 1, 1), (64, MAX_LEN, 20, 30, 10), (2, 4, 1, 150, N_ITEMS), (3, 2, 5, 2, 99)]
)
def test_is_filter_then_top_k_and_candidates_beside(
    graph: export.ServedGraph, written: Path, B: int, L: int, S: int, C: int, k: int
) -> None:
    rng = np.random.default_rng(B)
    items = rng.integers(1, N_ITEMS + 1, size=(B, L))
    seen = rng.integers(0, N_ITEMS + 1, size=(B, S))
    candidates = rng.integers(0, N_ITEMS + 1, size=(B, C))
    users = rng.integers(0, N_USERS + 1, size=B)
    inputs = {"items": items, "seen": seen, "candidates": candidates, "k": np.array([k])}
    if graph.ranker.user is not None:
        inputs["user"] = users
    item, log_p, judged = runtime.session(written).run(["item", "log_p", "candidate_log_p"], inputs)
    with torch.no_grad():
        logits = graph.ranker.newest(torch.from_numpy(items), torch.from_numpy(users)).numpy()
    expected = log_softmax(logits)
    assert np.isneginf(judged[candidates == 0]).all()
    np.testing.assert_allclose(judged, np.take_along_axis(expected, candidates, axis=1), atol=1e-4)
    np.put_along_axis(expected, seen, -np.inf, axis=1)
    assert item.shape == log_p.shape == (B, min(k, N_ITEMS))
    assert (item.dtype, log_p.dtype, judged.dtype) == (np.int64, np.float32, np.float32)
    np.testing.assert_allclose(log_p, -np.sort(-expected, axis=1)[:, :k][:, :N_ITEMS], atol=1e-4)
    finite = np.isfinite(log_p)
    np.testing.assert_allclose(np.take_along_axis(expected, item, axis=1)[finite], log_p[finite], atol=1e-4)
    assert not (item[finite] == 0).any()
    assert not any(set(i[f]) & set(s) for i, f, s in zip(item, finite, seen, strict=True))


def test_padding_on_the_right_changes_nothing(graph: export.ServedGraph, written: Path) -> None:
    opened = runtime.session(written)
    inputs = {
        "items": np.array([[5, 6, 7]]),
        "seen": np.array([[5]]),
        "candidates": np.array([[9, 8]]),
        "k": np.array([N_ITEMS]),
    }
    if graph.ranker.user is not None:
        inputs["user"] = np.array([3])
    item, log_p, judged = opened.run(None, inputs)
    wider = {name: np.pad(inputs[name], ((0, 0), (0, 3))) for name in ("items", "seen", "candidates")}
    padded_item, padded_log_p, padded_judged = opened.run(None, inputs | wider)
    np.testing.assert_array_equal(item[:, :-1], padded_item[:, :-1])
    np.testing.assert_allclose(log_p, padded_log_p, atol=1e-5)
    np.testing.assert_allclose(judged, padded_judged[:, :2], atol=1e-5)


def test_names_types_and_no_double_precision(graph: export.ServedGraph, written: Path) -> None:
    model = onnx.load(written)
    names = ["items", *(["user"] if graph.ranker.user is not None else []), "seen", "candidates", "k"]
    assert [tensor.name for tensor in model.graph.input] == names
    assert [tensor.name for tensor in model.graph.output] == ["item", "log_p", "candidate_log_p"]
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    types |= {initializer.data_type for initializer in model.graph.initializer}
    assert onnx.TensorProto.DOUBLE not in types


@pytest.mark.parametrize("changed", ["norm.weight", "item.weight"])
def test_a_graph_that_computes_something_else_is_refused(
    graph: export.ServedGraph, written: Path, changed: str
) -> None:
    other = copy.deepcopy(graph)
    with torch.no_grad():
        other.ranker.get_parameter(changed).mul_(1.01)
    with pytest.raises(PackageError, match="differ from PyTorch's"):
        export.check_parity(other, runtime.session(written))


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
