"""runtime.json is data, and a provider that is not there costs speed, not answers."""

import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from slipway.errors import PackageError
from slipway.optimisation.session import Level, Precision, Provider, Runtime, SessionSettings, Shapes, open_session
from slipway.optimisation.session import provider_options as options
from slipway.workloads.movies import runtime


@pytest.fixture
def graph(tmp_path):
    """y = 2 x."""
    info = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["y"])]
    x, y = info("x", onnx.TensorProto.FLOAT, [None]), info("y", onnx.TensorProto.FLOAT, [None])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "double", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    onnx.save(model, tmp_path / "double.onnx")
    return tmp_path / "double.onnx"


def answer(session):
    return session.run(None, {"x": np.array([1, 2], dtype=np.float32)})[0].tolist()


def test_a_graph_without_settings_is_run_on_one_thread_of_the_cpu(graph):
    session = runtime.session(graph)
    assert answer(session) == [2, 4]
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 1


def test_settings_of_a_graph_are_followed_and_others_are_not_touched(graph):
    settings = SessionSettings(threads=2, level=Level.BASIC)
    Runtime(graphs={"double.onnx": settings, "other.onnx": SessionSettings(threads=3)}).write(graph.parent)
    assert Runtime.read(graph.parent).graphs["double.onnx"] == settings
    opened = runtime.session(graph).get_session_options()
    assert opened.intra_op_num_threads == 2
    assert opened.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not list(graph.parent.glob(".*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Invalid JSON"),
        ('{"graphs": {"double.onnx": {"thread": 2}}}', "graphs.double.onnx.thread: Extra inputs"),
        ('{"graphs": {"double.onnx": {"threads": 0}}}', "threads: Input should be greater"),
        ('{"graphs": {"double.onnx": {"provider": "libevil.so"}}}', "provider: Input should be 'cpu'"),
        ('{"graphs": {"double.onnx": {"trt_engine_cache_path": "/"}}}', "trt_engine_cache_path: Extra"),
        ('{"format": 2}', "format: Input should be 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(graph, text, says):
    (graph.parent / "runtime.json").write_text(text)
    with pytest.raises(PackageError, match=r"runtime.json cannot be used") as refused:
        runtime.session(graph)
    assert says in refused.value.message


@pytest.mark.parametrize("provider", [Provider.TENSORRT, Provider.CUDA, Provider.OPENVINO])
def test_a_provider_that_is_absent_is_replaced_by_the_cpu_and_the_log_says_what_to_install(
    graph, provider, caplog, monkeypatch
):
    available = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)  # wherever this test runs
    with caplog.at_level(logging.WARNING):
        session = open_session(graph, SessionSettings(provider=provider), graph.parent / "engines")
    assert answer(session) == [2, 4]
    assert f"double.onnx runs on the CPU: {provider} is not available here; install" in caplog.text


def test_a_provider_without_its_libraries_is_replaced_by_the_cpu_too(graph, caplog, monkeypatch):
    """ONNX Runtime promises it, and then cannot load it."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    with caplog.at_level(logging.WARNING):
        assert answer(open_session(graph, SessionSettings(provider=Provider.CUDA))) == [2, 4]
    assert "runs on the CPU: cuda" in caplog.text


def test_what_tensorrt_has_not_stays_on_the_gpu(graph, monkeypatch):
    """A contract fake of ONNX Runtime with a GPU: what it is asked for, and what it says it opened."""
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path, options, providers):
            asked.append([name if isinstance(name, str) else name[0] for name in providers])
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return asked[-1]

    has = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: has)
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    for provider in (Provider.TENSORRT, Provider.CUDA):
        assert answer(open_session(graph, SessionSettings(provider=provider))) == [2, 4]
    assert asked == [has, has[1:]]


def test_tensorrt_keeps_its_engines_and_knows_the_shapes_that_come(tmp_path):
    shapes = {
        "items": Shapes(min=(1, 1), opt=(1, 40), max=(64, 200)),
        "k": Shapes(min=(1,), opt=(1,), max=(1,)),
    }
    settings = SessionSettings(provider=Provider.TENSORRT, precision=Precision.FP16, shapes=shapes)
    assert options(settings, tmp_path / "engines") == {
        "trt_fp16_enable": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(tmp_path / "engines"),
        "trt_profile_min_shapes": "items:1x1,k:1",
        "trt_profile_opt_shapes": "items:1x40,k:1",
        "trt_profile_max_shapes": "items:64x200,k:1",
    }
    assert (tmp_path / "engines").is_dir()
    assert options(SessionSettings(provider=Provider.TENSORRT, precision=Precision.BF16), None) == {
        "trt_bf16_enable": "True"
    }


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(PackageError, match=r"broken.onnx cannot be loaded"):
        runtime.session(tmp_path / "broken.onnx")
