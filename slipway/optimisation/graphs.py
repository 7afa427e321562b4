"""One fp32 graph → the same in another precision. Knows ONNX; knows no session and no model."""

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx

from slipway.errors import PackageError
from slipway.optimisation.session import Precision

PRODUCTS = ("MatMul", "Gemm")

Build = Callable[[Path, Path], None]
"""(source, out) → out is written; may raise anything."""


def int8(source: Path, out: Path) -> None:
    """Weights of products per channel, once; what flows through them is quantised while it does ("dynamic").

    Weights keep 7 bits: with 8, a CPU without VNNI overflows where one with it does not, and the same package would
    answer differently (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    _untie(model)
    with tempfile.TemporaryDirectory(prefix="slipway-int8-") as folder, _quiet():
        apart = Path(folder) / "apart.onnx"
        onnx.save(model, apart)
        quantize_dynamic(
            apart,
            out,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


def fp16(source: Path, out: Path) -> None:
    """Weights and everything between inputs and outputs; those stay as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that are cut to fp16's range: the checks will see
        model = OnnxModel(convert_float_to_float16(onnx.load(source), keep_io_types=True))
    model.topological_sort()  # casts were appended
    onnx.save(model.model, out)


BUILDERS: Mapping[Precision, Build] = {Precision.INT8: int8, Precision.FP16: fp16}


def build(precision: Precision, source: Path, out: Path, builders: Mapping[Precision, Build] = BUILDERS) -> Path:
    """Returns where the graph lies: the source itself for fp32. Raises PackageError when it cannot be made."""
    if precision is Precision.FP32:
        return source
    try:
        builders[precision](source, out)
        onnx.checker.check_model(out)
    except Exception as error:  # three libraries, each with its own
        raise PackageError(f"no {precision} graph can be made: {type(error).__name__}: {error}") from error
    return out


def _untie(model: onnx.ModelProto) -> None:
    """Give each product weights of its own: the quantiser transposes them in place, and who else reads them (the
    embedding that an output is tied to) would read nonsense.
    """
    graph = model.graph
    readers = Counter(name for node in graph.node for name in node.input)
    weights = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        if node.op_type in PRODUCTS and node.input[1] in weights and readers[node.input[1]] > 1:
            own = onnx.TensorProto()
            own.CopyFrom(weights[node.input[1]])
            own.name = f"{node.input[1]}_{node.name}"
            graph.initializer.append(own)
            node.input[1] = own.name


class _quiet:  # noqa: N801 - used like the functions of contextlib
    """The quantiser advises a pre-processing that gains nothing here, on the root logger."""

    def __enter__(self) -> None:
        self.level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self.level)
