"""LightGBM's trees as an ONNX graph, node for node. Knows both formats; knows no feature and no training.

A server then needs no LightGBM: that is 0.1 to 1.4 CPU-seconds and 13 to 140 MB less at its start (scikit-learn and
pandas, if installed, come with the import), and half the time of a prediction; on a busy machine a tenth, because
LightGBM takes a lock that gives its time slice away.

    rows float32 [R, F]  →  score float32 [R, 1]: the sum over the trees
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from slipway.errors import PackageError

ROWS = 4096  # that parity is checked with
ZERO = np.float32(1e-35)  # LightGBM's kZeroThreshold
TOLERANCE = 1e-4  # float32 sums of some hundred leaves
IR_VERSION, OPSET, OPSET_ML = 9, 20, 3
BRANCH = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
MISSING = "missing_value_tracks_true"


def model(text: str) -> onnx.ModelProto:
    """text: trees in LightGBM's format, with numeric splits → a graph of one node.

    Raises PackageError for trees that cannot be said in ONNX, or when the graph's answers are not LightGBM's.
    """
    import lightgbm  # costs a second

    booster = lightgbm.Booster(model_str=text)
    features = booster.num_feature()
    nodes: dict[str, list[Any]] = {name: [] for name in (*BRANCH, MISSING)}
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in booster.dump_model()["tree_info"]:
        _add(tree["tree_structure"], tree["tree_index"], nodes, leaves)
    ensemble = onnx.helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
    )
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [ensemble],
        "trees",
        [onnx.helper.make_tensor_value_info("rows", kind, ["R", features])],
        [onnx.helper.make_tensor_value_info("score", kind, ["R", 1])],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(proto, full_check=True)
    _check(booster, proto.SerializeToString(), nodes)
    return proto


def _add(root: Mapping[str, Any], tree: int, nodes: dict[str, list[Any]], leaves: dict[str, list[Any]]) -> None:
    """Depth first, a node's number is its place; without recursion: a tree may be as deep as it has leaves."""
    start = len(nodes["nodeids"])
    waiting: list[tuple[Mapping[str, Any], int, str]] = [(root, -1, "")]  # node, place of its parent, which child
    while waiting:
        node, parent, child = waiting.pop()
        place = len(nodes["nodeids"])
        number = place - start
        if child:
            nodes[child][parent] = number
        row = dict.fromkeys(nodes, 0) | {"treeids": tree, "nodeids": number, "modes": "LEAF", "values": 0.0}
        if "leaf_value" in node:
            for name, value in zip(leaves, (tree, number, 0, float(node["leaf_value"])), strict=True):
                leaves[name].append(value)
        else:
            row |= _branch(node)
            waiting += [(node["right_child"], place, "falsenodeids"), (node["left_child"], place, "truenodeids")]
        for name, values in nodes.items():
            values.append(row[name])


def _branch(node: Mapping[str, Any]) -> dict[str, Any]:
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise PackageError(
            f"the re-ranker splits by {node['decision_type']!r}, missing {node['missing_type']!r}: only numbers can be "
            "served, of which NaN is missing",
            "train it without categorical features and without zero_as_missing",
        )
    # LightGBM compares in double: the largest float32 that is not above its threshold splits float32 the same way.
    threshold = np.float32(node["threshold"])
    if float(threshold) > node["threshold"]:
        threshold = np.nextafter(threshold, np.float32(-np.inf))
    # A feature that was never missing in training is taken for 0 where it is (LightGBM, Tree::NumericalDecision).
    missing_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
    return {
        "featureids": node["split_feature"],
        "modes": "BRANCH_LEQ",
        "values": float(threshold),
        MISSING: int(missing_left),
    }


def _check(booster: Any, content: bytes, nodes: Mapping[str, list[Any]]) -> None:
    """Rows of thresholds themselves, of their neighbours, and of nothing: where a wrong comparison shows."""
    rng = np.random.default_rng(0)
    rows: npt.NDArray[np.float32] = rng.normal(size=(ROWS, booster.num_feature())).astype(np.float32)
    modes = np.array(nodes["modes"])
    feature, value = (np.array(nodes[name])[modes == "BRANCH_LEQ"] for name in ("featureids", "values"))
    for column in np.unique(feature):
        drawn = rng.choice(value[feature == column].astype(np.float32), ROWS)
        rows[:, column] = np.nextafter(drawn, np.float32(np.inf), where=rng.random(ROWS) < 0.3, out=drawn.copy())
    # LightGBM takes what is this small for 0 before it compares, and has thresholds of just this size beside 0.
    rows[np.abs(rows) <= ZERO] = 0
    rows[rng.random(rows.shape) < 0.1] = np.nan
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(["score"], {"rows": rows})[0][:, 0]
    expected = booster.predict(rows, raw_score=True, num_threads=1)
    worst = float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max(initial=0))
    if not worst <= TOLERANCE:
        raise PackageError(
            f"the trees' ONNX graph differs from LightGBM by {worst:.2g}; the limit is {TOLERANCE:g}",
            "do not serve this export; try another version of lightgbm or onnxruntime",
        )
