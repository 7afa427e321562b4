"""How a graph is run: provider, level, threads, as runtime.json says it. Knows ONNX Runtime; knows no model.

runtime.json lies beside the graphs of a package and is data: only the settings below can be written there, so that no
package can name a library to load or a place to write to. A provider that the serving machine has not, or that cannot
open the graph, costs its speed and not the answer: the graph runs on the CPU, and the log says why.
"""

import logging
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import onnxruntime
from pydantic import Field, ValidationError

from slipway.errors import PackageError
from slipway.package import Frozen

FILE = "runtime.json"

log = logging.getLogger(__name__)


class Provider(StrEnum):
    CPU = "cpu"
    OPENVINO = "openvino"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.OPENVINO: "OpenVINOExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}
REMEDIES = {
    Provider.CPU: "install onnxruntime",
    Provider.OPENVINO: "install onnxruntime-openvino in place of onnxruntime",
    Provider.CUDA: "install onnxruntime-gpu in place of onnxruntime, on a machine with an NVIDIA GPU",
    Provider.TENSORRT: "install onnxruntime-gpu in place of onnxruntime, and TensorRT 10, where there is an NVIDIA GPU",
}


class Precision(StrEnum):
    """What is computed in. int8 and fp16 graphs say it themselves; in bf16 (and fp16 on TensorRT) the provider turns
    an fp32 graph into it.
    """

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"


class Level(StrEnum):
    """Which of ONNX Runtime's graph optimisations are applied when a session is opened."""

    NONE = "none"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


LEVELS = {
    Level.NONE: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    Level.BASIC: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    Level.EXTENDED: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    Level.ALL: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

Shape = tuple[int, ...]


class Shapes(Frozen):
    """Of one input: what TensorRT builds an engine for. Outside min..max it must build another one."""

    min: Shape
    opt: Shape
    max: Shape


class SessionSettings(Frozen):
    """shapes: by input, for TensorRT alone."""

    provider: Provider = Provider.CPU
    precision: Precision = Precision.FP32
    level: Level = Level.ALL
    threads: int = Field(1, ge=1, le=64, description="within one request")
    shapes: dict[str, Shapes] = Field({})


class Runtime(Frozen):
    """runtime.json: graphs that are not named are run as SessionSettings() says."""

    format: Literal[1] = 1
    graphs: dict[str, SessionSettings] = Field({})

    @classmethod
    def read(cls, folder: Path) -> "Runtime":
        """The defaults where there is no such file. Raises PackageError naming each key that cannot be used."""
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise PackageError(f"{FILE} cannot be read: {error}", "fetch the package again") from error
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or FILE}: {e['msg']}" for e in error.errors())
            raise PackageError(f"{FILE} cannot be used: {wrong}", "train and package again") from error

    def write(self, folder: Path) -> None:
        draft = folder / f".{FILE}.part"
        draft.write_text(self.model_dump_json(indent=2) + "\n")
        draft.rename(folder / FILE)


def available(provider: Provider) -> bool:
    """Whether this onnxruntime was built with it; a device may still be missing."""
    return NAMES[provider] in onnxruntime.get_available_providers()


def open_session(path: Path, settings: SessionSettings, engines: Path | None = None) -> onnxruntime.InferenceSession:
    """engines: a folder in which TensorRT keeps what it built, minutes of work each; None: it keeps nothing.

    Raises PackageError when the CPU cannot open the graph either.
    """
    if settings.provider is not Provider.CPU:
        name = settings.provider.value
        if not available(settings.provider):
            log.warning(
                "%s runs on the CPU: %s is not available here; %s", path.name, name, REMEDIES[settings.provider]
            )
        else:
            try:
                session = _open(path, settings, _in_order(settings, engines))
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                log.warning("%s runs on the CPU: %s cannot open it: %s", path.name, name, error)
            else:
                if NAMES[settings.provider] in session.get_providers():
                    return session
                log.warning("%s runs on the CPU: %s found no device that it can use", path.name, name)
    try:
        return _open(path, settings, [])
    except Exception as error:
        raise PackageError(f"{path.name} cannot be loaded: {error}", "train and package again") from error


def _in_order(settings: SessionSettings, engines: Path | None) -> list[Any]:
    """With TensorRT, CUDA behind it, as ONNX Runtime recommends: nodes that TensorRT has not stay on the GPU."""
    wanted = (NAMES[settings.provider], provider_options(settings, engines))
    if settings.provider is Provider.TENSORRT and available(Provider.CUDA):
        return [wanted, NAMES[Provider.CUDA]]
    return [wanted]


def provider_options(settings: SessionSettings, engines: Path | None) -> dict[str, str]:
    """In ONNX Runtime's words; https://onnxruntime.ai/docs/execution-providers has the list of each provider."""
    if settings.provider is Provider.OPENVINO:
        return {"device_type": "CPU", "num_of_threads": str(settings.threads)}
    if settings.provider is not Provider.TENSORRT:
        return {}
    options = {}
    if settings.precision is Precision.FP16:
        options["trt_fp16_enable"] = "True"
    if settings.precision is Precision.BF16:
        options["trt_bf16_enable"] = "True"
    if engines is not None:
        engines.mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(engines)}
    for bound in ("min", "opt", "max") if settings.shapes else ():
        sizes = {name: "x".join(map(str, getattr(shapes, bound))) for name, shapes in settings.shapes.items()}
        options[f"trt_profile_{bound}_shapes"] = ",".join(f"{name}:{size}" for name, size in sizes.items())
    return options


def _open(path: Path, settings: SessionSettings, providers: list[Any]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = LEVELS[settings.level]
    options.log_severity_level = 4  # what a failing run says is logged once, by us
    if settings.threads > 1:  # a thread that spins between requests takes a core from others, and helps nobody
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if settings.precision is Precision.BF16 and settings.provider is Provider.CPU:
        options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
    # The CPU stands behind every provider: it runs the nodes that the other one has not.
    return onnxruntime.InferenceSession(path, options, providers=[*providers, NAMES[Provider.CPU]])
