"""Trained models → the files of a package: one ONNX graph and its tables. Knows no package.json, no golden answers.

The graph is the whole answer: ranker, combination with counts, seen-filter and TopK, so that a request moves k items
out of it and never a score per item of the catalogue. What it computes is checked against PyTorch before it is kept.

    items  int64 [B, L]   right-padded with 0, oldest → newest, L <= max_len
    user   int64 [B]      only with a user embedding: 0 is <unk>, else user index + 1
    counts float32 [B, V + 1]  raw count scores
    seen   int64 [B, S]   padded with 0; never answered
    k      int64 [1]      at most V items come back
    →  item int64 [B, k], score float32 [B, k] (-inf: nothing left to recommend)
"""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import polars as pl
import torch
from torch import Tensor, nn

from slipway.errors import PackageError
from slipway.package import Frozen
from slipway.workloads.movies import dataset
from slipway.workloads.movies.baselines import Counts, CountsConfig
from slipway.workloads.movies.combine import TINY, Combination
from slipway.workloads.movies.ingest import ORACLE
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import checkpoint
from slipway.workloads.movies.ranker.checkpoint import Trained
from slipway.workloads.movies.ranker.model import Ranker

OPSET = 20
PARITY_CASES = 64
SCORE_TOLERANCE = 1e-4
TIE = 1e-5  # items whose scores are this close may come in either order
# Both are relative to scores above 1: a sum of logarithms of size 100 has float32 steps of 8e-6.

Arrays = dict[str, npt.NDArray[Any]]


class ServedModel(Frozen):
    """model.json: what a server must know beside the graph."""

    max_len: int
    n_items: int
    n_users: int
    filter_seen: bool
    has_user_embedding: bool
    until: int | None  # milliseconds since 1970 UTC of the newest event: what comes after is not in the histories
    data_set: (
        str | None
    )  # in the lake, where it came from there or is simulated: whose online features these users have
    counts: CountsConfig
    combine: Combination


class ServedGraph(nn.Module):
    """What the ONNX graph computes, in PyTorch."""

    def __init__(self, ranker: Ranker, combination: Combination) -> None:
        super().__init__()
        self.ranker = ranker
        self.weight = combination.weight
        self.epsilon = combination.epsilon

    def scores(self, items: Tensor, user: Tensor | None, counts: Tensor, seen: Tensor) -> Tensor:
        """(B, V + 1) float32; column 0 and what was seen are -inf."""
        log_p = torch.log_softmax(self.ranker.newest(items, user), dim=1)
        total = counts[:, 1:].sum(dim=1, keepdim=True).clamp(min=TINY)
        combined = log_p + self.weight * torch.log(self.epsilon + counts / total)
        return combined.scatter(1, seen, float("-inf"))  # padding hits column 0, which is -inf anyhow

    def forward(self, items: Tensor, user: Tensor | None, counts: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """item, score of the best one: torch.export cannot leave k open, write_graph does."""
        best, item = torch.topk(self.scores(items, user, counts, seen), 1, dim=1)
        return item, best


def export(data: Path, model: Path, out: Path) -> None:
    """Write ranker.onnx, counts.npz, model.json and the tables of items, histories and popularity into out.

    Raises PackageError when the folders do not belong together, or when the graph's answers are not PyTorch's.
    """
    ranker, trained = checkpoint.load(model)
    combination = Combination.load(model)
    counts = Counts.load(model / "counts.npz")
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    if (whole.n_users, whole.n_items) != (trained.n_users, trained.n_items) or counts.n_items != trained.n_items:
        raise PackageError(
            f"{model} was trained on {trained.n_users} users and {trained.n_items} items (counts on "
            f"{counts.n_items}), but {data} has {whole.n_users} and {whole.n_items}",
            "export with the data set that the model was trained on",
        )
    out.mkdir(parents=True, exist_ok=True)
    graph = ServedGraph(ranker, combination).eval()
    draft = out / ".ranker.onnx.part"
    try:
        write_graph(graph, draft)
        check_parity(graph, draft, whole, counts)
        draft.rename(out / "ranker.onnx")
    finally:
        draft.unlink(missing_ok=True)
    shutil.copyfile(model / "counts.npz", out / "counts.npz")
    _write_tables(data, whole, out)
    _write_model(trained, counts, combination, whole, data, out)


def write_graph(graph: ServedGraph, path: Path) -> None:
    """Export to ONNX with dynamic batch, history, seen and k. Raises PackageError when it cannot be done."""
    ranker = graph.ranker
    has_user = ranker.user is not None
    example = {
        "items": torch.ones((2, 3), dtype=torch.int64),
        "user": torch.zeros(2, dtype=torch.int64) if has_user else None,
        "counts": torch.ones((2, ranker.n_items + 1)),
        "seen": torch.zeros((2, 4), dtype=torch.int64),
    }
    B, L, S = torch.export.Dim("B"), torch.export.Dim("L", max=ranker.config.max_len), torch.export.Dim("S")
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            kwargs=example,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["items", *(["user"] if has_user else []), "counts", "seen"],
            output_names=["item", "score"],
            dynamic_shapes={
                "items": {0: B, 1: L},
                "user": {0: B} if has_user else None,
                "counts": {0: B},
                "seen": {0: B, 1: S},
            },
        )
    if program is None:
        raise PackageError("the ranker could not be exported to ONNX", "see the log of torch.onnx.export")
    proto = program.model_proto
    _take_k_from_input(proto, ranker.n_items)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """It warns about torchvision, which nobody uses here, and about its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _take_k_from_input(proto: onnx.ModelProto, n_items: int) -> None:
    """Let TopK take k, at most n_items, from an input instead of the constant 1."""
    graph = proto.graph
    (top,) = (node for node in graph.node if node.op_type == "TopK")
    graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.INT64, [1]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([n_items], dtype=np.int64), "catalogue_size"))
    bounded = onnx.helper.make_node("Min", ["k", "catalogue_size"], ["bounded_k"], name="bound_k")
    graph.node.insert(list(graph.node).index(top), bounded)
    top.input[1] = "bounded_k"
    names = {"items": ("B", "L"), "user": ("B",), "counts": ("B",), "seen": ("B", "S"), "item": "Bk", "score": "Bk"}
    for tensor in [*graph.input, *graph.output]:
        for dim, name in zip(tensor.type.tensor_type.shape.dim, names.get(tensor.name, ()), strict=False):
            dim.dim_param = name
    del graph.value_info[:]  # shapes inferred for k = 1; ONNX Runtime infers its own


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_parity(graph: ServedGraph, path: Path, whole: Interactions, counts: Counts, seed: int = 0) -> None:
    """Ask both about random histories, in batches of 1 and more, of every length up to max_len.

    Raises PackageError unless scores agree within SCORE_TOLERANCE and items wherever scores are not tied within TIE.
    """
    rng = np.random.default_rng(seed)
    runtime = session(path)
    V, longest = whole.n_items, graph.ranker.config.max_len
    for B, L, S, k in [(1, 1, 1, 1), (1, longest, 3, 10), (3, max(longest // 2, 1), 40, 100), (PARITY_CASES, 7, 5, V)]:
        histories = [rng.integers(1, V + 1, size=rng.integers(1, L + 1)) for _ in range(B)]
        histories[0] = rng.integers(1, V + 1, size=L)
        inputs: Arrays = {
            "items": np.stack([np.pad(h, (0, L - len(h))) for h in histories]).astype(np.int64),
            "counts": counts.score_histories(histories),
            "seen": np.where(rng.random((B, S)) < 0.7, rng.integers(1, V + 1, size=(B, S)), 0),
        }
        if graph.ranker.user is not None:
            inputs["user"] = rng.integers(0, graph.ranker.n_users + 1, size=B)
        _compare(graph, runtime, inputs, min(k, V))


def _compare(graph: ServedGraph, runtime: onnxruntime.InferenceSession, inputs: Arrays, k: int) -> None:
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        scores = graph.scores(tensors["items"], tensors.get("user"), tensors["counts"], tensors["seen"])
        expected = torch.topk(scores, k, dim=1).values.numpy()
    found_items, found = runtime.run(["item", "score"], {**inputs, "k": np.array([k], dtype=np.int64)})
    finite = np.isfinite(expected)
    same_shape = found.shape == expected.shape and found_items.dtype == np.int64
    if not same_shape or (np.isfinite(found) != finite).any():
        raise PackageError("the ONNX graph answers another number of items than PyTorch", "do not serve this export")
    size = np.maximum(np.abs(expected[finite]), 1)
    worst = float((np.abs(found[finite] - expected[finite]) / size).max(initial=0))
    if worst > SCORE_TOLERANCE:
        raise PackageError(
            f"the ONNX graph's scores differ from PyTorch's by {worst:.2g}; the limit is {SCORE_TOLERANCE:g}",
            "do not serve this export; try another version of torch or onnxruntime",
        )
    # An item may stand elsewhere than torch puts it only among items that torch scores the same.
    moved = np.take_along_axis(scores.numpy(), found_items, axis=1)[finite] - expected[finite]
    if float((np.abs(moved) / size).max(initial=0)) > TIE:
        raise PackageError("the ONNX graph ranks items differently from PyTorch", "do not serve this export")


def _write_tables(data: Path, whole: Interactions, out: Path) -> None:
    index = pl.DataFrame({"index": np.arange(1, whole.n_items + 1), "item": whole.item_ids[1:]})
    titles = pl.read_parquet(data / "items.parquet", columns=["item", "title", "genres"]).unique("item", keep="first")
    index.join(titles, on="item", how="left", maintain_order="left").write_parquet(out / "items.parquet")
    np.save(out / "users.npy", whole.user_ids)
    np.save(out / "history_indptr.npy", whole.indptr)
    np.save(out / "history_items.npy", whole.items)
    popularity = np.bincount(whole.items, minlength=whole.n_items + 1).astype(np.float32)
    np.save(out / "popularity.npy", popularity)


def _write_model(
    trained: Trained, counts: Counts, combination: Combination, whole: Interactions, data: Path, out: Path
) -> None:
    served = ServedModel(
        max_len=trained.config.max_len,
        n_items=trained.n_items,
        n_users=trained.n_users,
        filter_seen=trained.filter_seen,
        has_user_embedding=trained.config.user_dim > 0,
        data_set=_data_set(data),
        until=None if whole.times is None else int(whole.times.max()),
        counts=counts.config,
        combine=combination,
    )
    checkpoint.write_atomically(out / "model.json", (served.model_dump_json(indent=2) + "\n").encode())


def _data_set(data: Path) -> str | None:
    tables = dataset.read(data).tables
    if tables:
        return tables[0].uri.split("/")[-2]
    return "simulated" if (data / ORACLE).exists() else None
