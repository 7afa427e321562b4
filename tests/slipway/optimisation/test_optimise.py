"""A graph of products over tied weights, its candidates, and a gate that rejects what answers worse."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
import onnxruntime
import pytest

from slipway.errors import PackageError
from slipway.evaluation.metrics import ndcg, rank
from slipway.optimisation import graphs
from slipway.optimisation.choice import Verdict
from slipway.optimisation.config import Limits, OptimiseConfig
from slipway.optimisation.optimise import optimise
from slipway.optimisation.quality import Answers
from slipway.optimisation.results import FILE, PLOT, TABLE, Results
from slipway.optimisation.session import Precision, Provider, Runtime, open_session

ITEMS, DIM, CASES = 60, 32, 150
CONFIG = OptimiseConfig(
    levels=(),
    precisions=(Precision.INT8,),
    threads=(1,),
    providers=(Provider.CPU, Provider.TENSORRT),
    rounds=3,
    requests=3,
    # "Faster" is tested with the policy: here any machine, however busy, ships what is good enough.
    limits=Limits(min_speedup=0, max_drop=0.05, min_overlap=0.5),
)
INT8 = "int8, cpu, level all, 1 thread"
PLAIN = "fp32, cpu, level all, 1 thread"
SCALE = 300


@dataclass
class TiedModel:
    """scores = E[item] @ W @ E^T over one item, as a ranker with a tied output; a Subject.

    outlier: one channel of what flows into the last product is SCALE times larger than the others, and its weights
    are as much smaller: nothing changes in fp32, and all other channels fall below one step of int8.
    """

    outlier: bool = False
    metric: str = "ndcg10"
    users: int = CASES
    cases: int = CASES
    shapes: dict = field(default_factory=dict)

    @cached_property
    def weights(self):
        rng = np.random.default_rng(0)
        embedding = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
        mix = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].astype(np.float32)
        if self.outlier:
            mix[:, 0] *= SCALE
            embedding[:, 0] /= SCALE
            mix[0] *= SCALE  # its input is smaller now
        return embedding, mix

    def write(self, path):
        embedding, mix = self.weights
        node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
        nodes = [
            node("Gather", ["embedding", "items"], ["x"], name="look up"),
            node("MatMul", ["x", "mix"], ["query"], name="mix"),
            node("Gemm", ["query", "embedding"], ["score"], name="output", transB=1),
        ]
        constants = [
            onnx.numpy_helper.from_array(embedding, "embedding"),
            onnx.numpy_helper.from_array(mix, "mix"),
        ]
        graph = onnx.helper.make_graph(
            nodes,
            "tied",
            [info("items", onnx.TensorProto.INT64, ["B"])],
            [info("score", onnx.TensorProto.FLOAT, ["B", ITEMS])],
            constants,
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
        model.ir_version = 10
        onnx.save(model, path)
        return path

    def expected(self, items):
        embedding, mix = (part.astype(np.float64) for part in self.weights)
        return embedding[items] @ mix @ embedding.T

    @cached_property
    def asked(self):
        return np.random.default_rng(1).integers(0, ITEMS, CASES)

    @property
    def feeds(self):
        return {"one item": [{"items": self.asked[:1]}]}

    @property
    def batch(self):
        return {"items": self.asked[:16]}

    def check(self, session, precision):
        if precision is Precision.FP32:
            found = session.run(None, self.batch)[0]
            if not np.allclose(found, self.expected(self.batch["items"]), rtol=1e-3, atol=1e-3):
                raise PackageError("it computes something else")

    def answers(self, session):
        found = np.concatenate([session.run(None, {"items": self.asked[i : i + 1]})[0] for i in range(CASES)])
        scores = np.pad(found, ((0, 0), (1, 0)))
        truth = self.expected(self.asked).argmax(axis=1) + 1
        ranking = rank(scores, truth, 10)
        return Answers(ndcg(ranking.ranks, 10), ranking.top, ranking.finite)


def found(results):
    return {row.name: row for row in results.rows}


def run(subject, path, **options):
    steps = []
    results = optimise(subject.write(path), subject, CONFIG, lambda *step: steps.append(step), **options)
    assert steps[-1][1] == 1.0
    assert [share for _, share, _ in steps] == sorted(share for _, share, _ in steps)
    return results


def test_a_good_int8_graph_is_shipped_with_its_table_and_plot(tmp_path):
    subject = TiedModel()
    path = tmp_path / "graph.onnx"
    results = run(subject, path)
    rows = found(results)
    assert rows[INT8].verdict is Verdict.SHIPPED, rows[INT8].reason
    assert rows[PLAIN].verdict is Verdict.ORIGINAL
    assert rows[PLAIN].quality.value == 1.0
    assert 0.9 < rows[INT8].quality.value <= 1.0
    assert rows[INT8].quality.overlap > 0.9
    assert rows["tensorrt"].verdict is Verdict.ABSENT
    assert "install" in rows["tensorrt"].reason
    assert rows[INT8].timing.latency["one item"].p50 > 0
    assert rows[INT8].memory_bytes >= 0
    # What is shipped is the int8 graph, whose embedding is still one.
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"DynamicQuantizeLinear", "Gather"}
    session = open_session(path, Runtime.read(tmp_path).graphs["graph.onnx"])
    off = np.abs(session.run(None, subject.batch)[0] - subject.expected(subject.batch["items"]))
    assert 0 < off.max() < 1
    results.publish(tmp_path / "out")
    assert Results.model_validate_json((tmp_path / "out" / FILE).read_bytes()) == results
    assert f"| {INT8} | shipped |" in (tmp_path / "out" / TABLE).read_text()
    assert "</svg>" in (tmp_path / "out" / PLOT).read_text()
    assert results.metrics()["optimise_speedup"] > 0


def test_a_graph_that_int8_ruins_is_rejected_and_the_plain_one_stays(tmp_path):
    subject = TiedModel(outlier=True)
    path = tmp_path / "graph.onnx"
    before = subject.write(path).read_bytes()
    results = run(subject, path)
    row = found(results)[INT8]
    assert row.verdict is Verdict.WORSE
    assert "is allowed" in row.reason
    assert row.quality.value < 0.7
    assert results.shipped.name == PLAIN
    assert path.read_bytes() == before
    assert Runtime.read(tmp_path).graphs["graph.onnx"].precision is Precision.FP32


def test_the_tolerance_lets_it_through_when_somebody_says_so(tmp_path):
    subject = TiedModel(outlier=True)
    config = CONFIG.model_copy(
        update={"limits": CONFIG.limits.model_copy(update={"max_drop": 0.99, "min_overlap": 0.0})}
    )
    results = optimise(subject.write(tmp_path / "graph.onnx"), subject, config, lambda *_: None)
    assert results.shipped.name == INT8
    assert results.shipped.quality.value < 0.7


def corrupted(source, out):
    """Loads, has the right shapes, answers at once, and means nothing."""
    model = onnx.load(source)
    for weight in model.graph.initializer:
        noise = np.random.default_rng(2).normal(size=tuple(weight.dims)).astype(np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(noise, weight.name))
    onnx.save(model, out)


def not_a_graph(source, out):
    out.write_bytes(b"")


def other_shape(source, out):
    graphs.int8(source, out)
    model = onnx.load(out)
    model.graph.output[0].name = "nothing"
    onnx.save(model, out)


@pytest.mark.parametrize(
    ("builder", "verdict", "says"),
    [
        (corrupted, Verdict.WORSE, "is allowed"),
        (not_a_graph, Verdict.FAILED, "no int8"),
        (other_shape, Verdict.FAILED, ""),
    ],
)
def test_a_corrupted_candidate_costs_itself_alone(tmp_path, builder, verdict, says):
    results = run(TiedModel(), tmp_path / "graph.onnx", builders={Precision.INT8: builder})
    row = found(results)[INT8]
    assert row.verdict is verdict
    assert says in row.reason
    assert results.shipped.name == PLAIN


def test_an_original_that_is_not_what_was_trained_is_an_error(tmp_path):
    subject = TiedModel()
    path = subject.write(tmp_path / "graph.onnx")
    corrupted(path, path)
    before = path.read_bytes()
    with pytest.raises(PackageError, match="something else"):
        optimise(path, subject, CONFIG, lambda *_: None)
    assert path.read_bytes() == before
    assert not (tmp_path / "runtime.json").exists()


def test_fp16_graphs_keep_their_inputs_and_outputs(tmp_path):
    subject = TiedModel()
    path = graphs.build(Precision.FP16, subject.write(tmp_path / "graph.onnx"), tmp_path / "fp16.onnx")
    assert path.stat().st_size < (tmp_path / "graph.onnx").stat().st_size
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, subject.batch)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, subject.expected(subject.batch["items"]), atol=0.05)
