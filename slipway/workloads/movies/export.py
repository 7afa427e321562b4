"""Trained models → the files of a package: one ONNX graph and its tables. Knows no package.json, no golden answers.

The graph is the ranker as a source of candidates and as a judge of those of others: softmax over the catalogue,
seen-filter, TopK and a look-up, so that a request never moves a number per item of the catalogue out of it. What it
computes is checked against PyTorch before it is kept.

    items      int64 [B, L]   right-padded with 0, oldest → newest, L <= max_len
    user       int64 [B]      only with a user embedding: 0 is <unk>, else user index + 1
    seen       int64 [B, S]   padded with 0; never among the best
    candidates int64 [B, C]   padded with 0; items that others found, seen or not
    k          int64 [1]      at most V items come back
    →  item int64 [B, k], log_p float32 [B, k]  the most probable unseen items (-inf: none is left)
       candidate_log_p float32 [B, C]           the candidates' own, -inf for padding
"""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
import torch
from torch import Tensor, nn

from slipway.errors import PackageError
from slipway.optimisation.measurement import Session
from slipway.optimisation.session import SessionSettings, open_session
from slipway.package import Frozen
from slipway.workloads.movies import dataset, forest, rerankgraph
from slipway.workloads.movies.baselines import Counts, CountsConfig
from slipway.workloads.movies.combine import Combination
from slipway.workloads.movies.ingest import ORACLE
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import checkpoint
from slipway.workloads.movies.ranker.checkpoint import Trained
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.rerank.features import Tables
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.reranker import Reranker

GRAPH = "ranker.onnx"
OPSET = 20
CASES = 64  # of the largest batch that parity is checked with
TOLERANCE = 1e-4
TIE = 1e-5  # items whose log-probabilities are this close may come in either order

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

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def log_p(self, items: Tensor, user: Tensor | None) -> Tensor:
        """(B, V + 1) float32: each item's log-probability of being next; column 0 is -inf."""
        return torch.log_softmax(self.ranker.newest(items, user), dim=1)

    def forward(
        self, items: Tensor, user: Tensor | None, seen: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """item, log_p of the best one, and candidate_log_p: torch.export cannot leave k open, write_graph does."""
        log_p = self.log_p(items, user)
        # Padding hits column 0, which is -inf anyhow.
        best, item = torch.topk(log_p.scatter(1, seen, float("-inf")), 1, dim=1)
        return item, best, log_p.gather(1, candidates)


def export(data: Path, model: Path, out: Path) -> None:
    """Write ranker.onnx, counts.npz, combine.json, the re-ranker's files, model.json and the tables of items,
    histories and popularity into out.

    Raises PackageError when the folders do not belong together, or when the graph's answers are not PyTorch's.
    """
    ranker, trained = checkpoint.load(model)
    combination = Combination.load(model)
    counts = Counts.load(model / "counts.npz")
    reranker, tables = Reranker.load(model), Tables.load(model)
    whole = Interactions.from_events(dataset.scan_events(data).collect())
    sizes = {trained.n_items, counts.n_items, tables.items.n_items}
    if whole.n_users != trained.n_users or sizes != {whole.n_items}:
        raise PackageError(
            f"{model} was trained on {trained.n_users} users and {trained.n_items} items (its files are of "
            f"{sorted(sizes)}), but {data} has {whole.n_users} and {whole.n_items}",
            "export with the data set that the model was trained on",
        )
    out.mkdir(parents=True, exist_ok=True)
    graph = ServedGraph(ranker).eval()
    draft = out / f".{GRAPH}.part"
    try:
        write_graph(graph, draft)
        check_parity(graph, open_session(draft, SessionSettings()))
        draft.rename(out / GRAPH)
    finally:
        draft.unlink(missing_ok=True)
    shutil.copyfile(model / "counts.npz", out / "counts.npz")
    combination.save(out)
    reranker.save(out)
    # Times and windows up to the snapshot; `total`, what training counted, is a feature that the trees have learned.
    items = ItemTable.build(data / "items.parquet", whole, whole)
    served = replace(tables, items=replace(items, total=tables.items.total).newest())
    served.save(out)
    if reranker.settings.trees:
        rerankgraph.write(reranker, served, out / forest.GRAPH)
    _write_tables(data, whole, out)
    _write_model(trained, counts, combination, whole, data, out)


def write_graph(graph: ServedGraph, path: Path) -> None:
    """Export to ONNX, open in B, L, S, C and k. Raises PackageError when it cannot be done."""
    ranker = graph.ranker
    has_user = ranker.user is not None
    example = {
        "items": torch.ones((2, 3), dtype=torch.int64),
        "user": torch.zeros(2, dtype=torch.int64) if has_user else None,
        "seen": torch.zeros((2, 4), dtype=torch.int64),
        "candidates": torch.zeros((2, 5), dtype=torch.int64),
    }
    B, S, C = (torch.export.Dim(name) for name in "BSC")
    L = torch.export.Dim("L", max=ranker.config.max_len)
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            kwargs=example,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["items", *(["user"] if has_user else []), "seen", "candidates"],
            output_names=["item", "log_p", "candidate_log_p"],
            dynamic_shapes={
                "items": {0: B, 1: L},
                "user": {0: B} if has_user else None,
                "seen": {0: B, 1: S},
                "candidates": {0: B, 1: C},
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
    names = {"items": "BL", "user": "B", "seen": "BS", "candidates": "BC"}
    names |= {"item": "Bk", "log_p": "Bk", "candidate_log_p": "BC"}
    for tensor in [*graph.input, *graph.output]:
        for dim, name in zip(tensor.type.tensor_type.shape.dim, names.get(tensor.name, ""), strict=False):
            dim.dim_param = name
    del graph.value_info[:]  # shapes inferred for k = 1; ONNX Runtime infers its own


def check_parity(
    graph: ServedGraph, opened: Session, tolerance: float = TOLERANCE, tie: float = TIE, seed: int = 0
) -> None:
    """Ask both about random histories, in batches of 1 and more, of every length up to max_len.

    Raises PackageError unless log-probabilities agree within tolerance, and items wherever they are not tied
    within tie; both relative to numbers above 1.
    """
    rng = np.random.default_rng(seed)
    V, longest = graph.ranker.n_items, graph.ranker.config.max_len
    sizes = [(1, 1, 1, 1, 1), (1, longest, 3, 150, 10), (3, max(longest // 2, 1), 40, 2, 100), (CASES, 7, 5, 20, V)]
    for B, L, S, C, k in sizes:
        histories = [rng.integers(1, V + 1, size=rng.integers(1, L + 1)) for _ in range(B)]
        histories[0] = rng.integers(1, V + 1, size=L)
        inputs: Arrays = {
            "items": np.stack([np.pad(h, (0, L - len(h))) for h in histories]).astype(np.int64),
            "seen": np.where(rng.random((B, S)) < 0.7, rng.integers(1, V + 1, size=(B, S)), 0),
            "candidates": np.where(rng.random((B, C)) < 0.9, rng.integers(1, V + 1, size=(B, C)), 0),
        }
        if graph.ranker.user is not None:
            inputs["user"] = rng.integers(0, graph.ranker.n_users + 1, size=B)
        _compare(graph, opened, inputs, min(k, V), tolerance, tie)


def _compare(graph: ServedGraph, opened: Session, inputs: Arrays, k: int, tolerance: float, tie: float) -> None:
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        log_p = graph.log_p(tensors["items"], tensors.get("user"))
        judged = log_p.gather(1, tensors["candidates"]).numpy()
        unseen = log_p.scatter(1, tensors["seen"], float("-inf"))
        best = torch.topk(unseen, k, dim=1).values.numpy()
    item, found, candidates = opened.run(
        ["item", "log_p", "candidate_log_p"], {**inputs, "k": np.array([k], dtype=np.int64)}
    )
    same_shape = found.shape == best.shape and candidates.shape == judged.shape and item.dtype == np.int64
    if (
        not same_shape
        or (np.isfinite(found) != np.isfinite(best)).any()
        or (np.isfinite(candidates) != np.isfinite(judged)).any()
    ):
        raise PackageError("the ONNX graph answers another number of items than PyTorch", "do not serve this export")
    finite = np.isfinite(best)
    worst = max(_difference(found[finite], best[finite]), _difference(candidates, judged))
    if not worst <= tolerance:  # nor NaN
        raise PackageError(
            f"the ONNX graph's log-probabilities differ from PyTorch's by {worst:.2g}; the limit is {tolerance:g}",
            "do not serve this export; try another version of torch or onnxruntime",
        )
    # An item may stand elsewhere than torch puts it only among items that torch scores the same.
    if _difference(np.take_along_axis(unseen.numpy(), item, axis=1)[finite], best[finite]) > tie:
        raise PackageError("the ONNX graph ranks items differently from PyTorch", "do not serve this export")


def _difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest, relative to numbers above 1: a logarithm of size 100 has float32 steps of 8e-6. Equal -inf: none."""
    finite = np.isfinite(expected)
    size = np.maximum(np.abs(expected[finite]), 1)
    return float((np.abs(found[finite] - expected[finite]) / size).max(initial=0))


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
