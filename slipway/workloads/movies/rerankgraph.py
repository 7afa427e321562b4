"""The re-ranker as one ONNX graph: the features of rerank/features.py, then the trees. Knows both; knows no request.

NumPy pays a microsecond for each of a hundred small operations, ONNX Runtime a fraction of one. What is learned from is
features.matrix; this is the same numbers, checked against it when the graph is written.

    candidates int64 [C], sources uint8 [C]   the list, without padding, and bits of Source
    log_p float [C]                           the ranker's opinion
    said float [R, C], totals float [S]       raw scores of the counts and of the further counts (near, far, linear),
                                              and the sums that make shares of the first S; not below TINY
    newest int64 [M]                          items of the history, newest first, 1 to RECENT of them
    depths float [3, M]                       1 where one is among the newest 1, 5 and RECENT of them
    past float [6, 1]                         year_1, year_5, year_20, year_spread_5, popularity_1, popularity_5 of them
    repeats float [2, C]                      steps_since_seen, times_seen
    moving float [C, 4]                       as ItemTable.moving has them; NaN where nothing is known
    length float [1]                          log(1 + items of the history)
      →  score float [C]                      the linear combination plus what the trees add
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from slipway.errors import PackageError
from slipway.workloads.movies import treegraph
from slipway.workloads.movies.rerank.features import (
    FEATURES,
    FLOOR,
    PROPOSERS,
    RANKED,
    RECENT,
    Lists,
    Matrix,
    Tables,
    case_inputs,
    matrix,
)
from slipway.workloads.movies.rerank.reranker import Reranker
from slipway.workloads.movies.rerank.retrieval import Source
from slipway.workloads.movies.scorer import Scores

CASES, CANDIDATES = 32, 60  # that parity is checked with
TOLERANCE = 1e-4
ROWS = "rows"  # (C, F) inside the graph, as features.matrix has them
FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


class _Builder:
    """Nodes and constants of a graph; every name is used once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def rows(self, tensor: str, begin: int, end: int) -> str:
        """tensor[begin:end]."""
        return str(self.op("Slice", tensor, self.ints(begin), self.ints(end), self.ints(0)))

    def sum(self, tensor: str, axis: int = 0) -> str:
        return str(self.op("ReduceSum", tensor, self.ints(axis), keepdims=1))

    def max(self, tensor: str, axis: int = 0) -> str:
        return str(self.op("ReduceMax", tensor, self.ints(axis), keepdims=1))


def write(reranker: Reranker, tables: Tables, path: Path) -> None:
    """Raises PackageError for trees that ONNX has no words for, or when the answers are not the re-ranker's."""
    proto = _graph(treegraph.model(reranker.text), tables)
    shape = helper.make_tensor_value_info(ROWS, FLOAT, ["C", len(FEATURES)])
    proto.graph.output.append(shape)
    _check(reranker, tables, proto.SerializeToString())
    proto.graph.output.remove(shape)
    path.write_bytes(proto.SerializeToString())


def _graph(trees: onnx.ModelProto, tables: Tables) -> onnx.ModelProto:
    b = _Builder()
    width = b.op("Shape", "candidates")
    blocks: list[str] = []
    known: list[str] = []  # features, in the order of the blocks' rows

    def block(tensor: str, *names: str) -> None:
        """tensor: (len(names), C)."""
        blocks.append(tensor)
        known.extend(names)

    def nothing(*names: str) -> str:
        shape = b.op("Concat", b.ints(len(names)), width, axis=0)
        return str(b.op("Expand", b.constant([[np.nan]]), shape))

    combined = _opinions(b, tables, block, nothing, width)
    _similarities(b, tables, block, nothing)
    _contents(b, tables, block)
    block(b.op("Transpose", "moving", perm=[1, 0]), "events_7d", "events_28d", "trend", "age_days")
    block("repeats", "steps_since_seen", "times_seen")
    one = b.op("Concat", b.ints(1), width, axis=0)
    block(b.op("Expand", "length", one), "history")
    block(b.op("Expand", b.max("log_p"), one), "sharpness")
    bits = b.op("Cast", "sources", to=INT64)
    sources = [f"from_{str(source.name).lower()}" for source in Source]
    block(b.op("Gather", b.constant(PROPOSERS), bits, axis=1), *sources)

    assert sorted(known) == sorted(FEATURES)
    order = [known.index(name) for name in FEATURES]
    columns = b.op("Gather", b.op("Concat", *blocks, axis=0), b.ints(*order), axis=0)
    b.nodes.append(helper.make_node("Transpose", [columns], [ROWS], perm=[1, 0]))
    tree = onnx.NodeProto()
    tree.CopyFrom(trees.graph.node[0])
    tree.input[0], tree.output[0] = ROWS, "added"
    b.nodes.append(tree)
    flat = b.op("Reshape", "added", b.ints(-1))
    b.nodes.append(helper.make_node("Add", [b.op("Reshape", combined, b.ints(-1)), flat], ["score"]))
    inputs = {
        "candidates": (INT64, ["C"]),
        "sources": (UINT8, ["C"]),
        "log_p": (FLOAT, ["C"]),
        "said": (FLOAT, [1 + len(tables.relations), "C"]),
        "totals": (FLOAT, ["S"]),
        "newest": (INT64, ["M"]),
        "depths": (FLOAT, [3, "M"]),
        "past": (FLOAT, [6, 1]),
        "repeats": (FLOAT, [2, "C"]),
        "moving": (FLOAT, ["C", 4]),
        "length": (FLOAT, [1]),
    }
    graph = helper.make_graph(
        b.nodes,
        "reranker",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("score", FLOAT, ["C"])],
        b.constants,
    )
    proto = helper.make_model(graph, opset_imports=trees.opset_import, ir_version=trees.ir_version)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _opinions(b: _Builder, tables: Tables, block: Any, nothing: Any, width: str) -> str:
    """Of ranker, counts, combination and the further counts; returns the combination, (1, C)."""
    shares = [name for name in tables.relations if name != "linear"]
    epsilons = [[np.float32(tables.combination.epsilon)], *([FLOOR] for _ in shares)]
    share = b.op(
        "Log",
        b.op(
            "Add",
            b.constant(epsilons),
            b.op(
                "Div",
                b.rows("said", 0, len(epsilons)),
                b.op("Reshape", "totals", b.ints(-1, 1)),
            ),
        ),
    )
    log_p = b.op("Reshape", "log_p", b.ints(1, -1))
    weight = np.float32(tables.combination.weight)
    weighted = b.op("Mul", b.rows(share, 0, 1), b.constant(weight))
    combined = b.op("Div", b.op("Add", log_p, weighted), b.constant(1 + weight))
    parts = [log_p, combined, share]
    names = ["log_p", "combined", "counts", *shares]
    linear = "linear" in tables.relations
    if linear:
        at = 1 + list(tables.relations).index("linear")
        parts.append(b.rows("said", at, at + 1))
        names.append("linear")
    values = b.op("Concat", *parts, axis=0)
    block(values, *names)
    best = b.max(values, axis=1)
    block(b.op("Sub", values, best), *(f"{name}_gap" for name in names))
    ranked = [name for name in names if name in RANKED]
    asked = b.op("Gather", values, b.ints(*(names.index(name) for name in ranked)), axis=0)
    # Of equals the one with the lower index comes first, as in a stable sort.
    _, order = b.op("TopK", asked, width, outputs=2, axis=1, largest=1, sorted=1)
    one = b.op("Squeeze", width)
    numbers = b.op("Cast", b.op("Range", b.constant(0, np.int64), one, b.constant(1, np.int64)), to=FLOAT)
    every = b.op("Expand", numbers, b.op("Shape", order))
    block(b.op("ScatterElements", every, order, every, axis=1), *(f"{name}_rank" for name in ranked))
    for name in ("near", "far", "linear"):
        if name not in names:
            missing = [f"{name}{end}" for end in ("", "_gap", "_rank") if f"{name}{end}" in FEATURES]
            block(nothing(*missing), *missing)
    return str(combined)


def _similarities(b: _Builder, tables: Tables, block: Any, nothing: Any) -> None:
    vectors = b.constant(tables.vectors)
    mine, theirs = (b.op("Gather", vectors, name, axis=0) for name in ("newest", "candidates"))
    cosines = b.op("Gemm", mine, theirs, transB=1)  # (M, C)
    names = ("similar_1", "similar_2", "similar_3")
    block(b.rows(b.op("Concat", cosines, nothing(*names), axis=0), 0, 3), *names)
    sums, counts = (b.rows(tensor, 1, 3) for tensor in (b.op("MatMul", "depths", cosines), b.sum("depths", axis=1)))
    block(b.op("Div", sums, counts), "similar_5", f"similar_{RECENT}")
    block(b.max(cosines), "similar_best")


def _contents(b: _Builder, tables: Tables, block: Any) -> None:
    known = b.op("Gather", b.constant(np.ascontiguousarray(tables.items.facts.T)), "candidates", axis=1)
    popularity, year, number, of_each = b.op("Split", known, outputs=4, axis=0, num_outputs=4)
    block(b.op("Concat", popularity, year, number, axis=0), "popularity", "year", "genre_count")
    years, spread, popular = b.op("Split", "past", b.ints(3, 1, 2), outputs=3, axis=0)
    block(b.op("Sub", year, years), "year_gap_1", "year_gap_5", f"year_gap_{RECENT}")
    block(b.op("Expand", spread, b.op("Shape", year)), "year_spread_5")
    block(b.op("Sub", popularity, popular), "popularity_gap_1", "popularity_gap_5")
    kinds = tables.items.kinds if tables.items.kinds.shape[1] else np.zeros((tables.items.n_items + 1, 1), np.float32)
    table = b.constant(kinds)
    mine, theirs = (b.op("Gather", table, name, axis=0) for name in ("newest", "candidates"))
    shared = b.op("Gemm", mine, theirs, transB=1)  # (M, C) genres in common: whole numbers
    # In the order of features.py, to the last bit: the trees' thresholds lie between values of few digits.
    share = b.op("Div", of_each, b.sum("depths", axis=1))
    block(b.op("Mul", b.op("MatMul", "depths", shared), share), "genres_1", "genres_5", f"genres_{RECENT}")


def _check(reranker: Reranker, tables: Tables, content: bytes) -> None:
    """Lists of nobody: short and long histories, repeats, few and many candidates. Each feature must be what was
    learned from, and the score what LightGBM makes of the graph's own features: rounding may send a feature over a
    threshold between two values a bit apart, which is no fault of either.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rng, items = np.random.default_rng(0), tables.items.n_items
    for case in range(CASES):
        lists = _drawn(rng, items, 1 + case % (RECENT + 5), min(items, 1 + case * CANDIDATES // CASES))
        score, rows = session.run(["score", ROWS], case_inputs(lists, tables, 0))
        expected = matrix(lists, tables)
        wrong = [FEATURES[column] for column in np.flatnonzero(_far(rows, expected.values).any(axis=0))]
        own = Matrix(rows, expected.sizes, rows[:, FEATURES.index("combined")])
        if wrong or _far(score, reranker.score(own)).any():
            raise PackageError(
                f"the re-ranker's ONNX graph differs from the re-ranker in {', '.join(wrong) or 'its score'}",
                "do not serve this export; try another version of onnxruntime",
            )


def _far(found: Scores, expected: Scores) -> npt.NDArray[np.bool_]:
    """Where two arrays differ; two unknowns do not."""
    apart = ~(np.abs(found - expected) <= TOLERANCE * np.maximum(np.abs(expected), 1))
    both: npt.NDArray[np.bool_] = apart & ~(np.isnan(found) & np.isnan(expected))
    return both


def _drawn(rng: np.random.Generator, items: int, length: int, n_candidates: int) -> Lists:
    log_p: Scores = np.log(rng.dirichlet(np.ones(n_candidates))).astype(np.float32)
    return Lists(
        histories=[rng.integers(1, items + 1, length)],
        candidates=rng.permutation(items)[None, :n_candidates] + 1,
        sources=rng.integers(1, 2 * max(Source), (1, n_candidates)).astype(np.uint8),
        log_p=np.maximum(log_p, np.float32(-30))[None],
        counts=rng.random((1, items + 1), dtype=np.float32) * (rng.random((1, items + 1)) < 0.3),
    )
