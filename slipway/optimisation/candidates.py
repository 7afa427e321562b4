"""Which ways of running a graph are tried here, and which ones this machine has not. Opens nothing."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.optimisation.config import OptimiseConfig
from slipway.optimisation.session import REMEDIES, Precision, Provider, SessionSettings, Shapes, available


@dataclass(frozen=True)
class Candidate:
    """graph: the precision that the file itself is in; settings.precision is what it is computed in."""

    graph: Precision
    settings: SessionSettings

    @property
    def name(self) -> str:
        how = self.settings
        threads = "1 thread" if how.threads == 1 else f"{how.threads} threads"
        return f"{how.precision}, {how.provider}, level {how.level}, {threads}"


@dataclass(frozen=True)
class Absent:
    """What could be tried elsewhere."""

    name: str
    remedy: str


ORIGINAL = Candidate(Precision.FP32, SessionSettings())


def offer(
    config: OptimiseConfig,
    shapes: Mapping[str, Shapes],
    has: Callable[[Provider], bool] = available,
    bf16: Callable[[], bool] | None = None,
) -> tuple[list[Candidate], list[Absent]]:
    """The original first. shapes: of each input, for TensorRT. has: whether a provider is there; bf16: whether this
    CPU multiplies in it.
    """
    found = [ORIGINAL]
    absent: list[Absent] = []

    def add(graph: Precision, **settings: object) -> None:
        candidate = Candidate(graph, SessionSettings.model_validate(settings))
        if candidate not in found:
            found.append(candidate)

    for provider in config.providers:
        if not has(provider):
            absent.append(Absent(provider.value, REMEDIES[provider]))
        elif provider is Provider.CPU:
            for level in config.levels:
                add(Precision.FP32, level=level)
            for threads in config.threads:
                add(Precision.FP32, threads=threads)
                if Precision.INT8 in config.precisions:
                    add(Precision.INT8, precision=Precision.INT8, threads=threads)
            if Precision.FP16 in config.precisions:
                add(Precision.FP16, precision=Precision.FP16)
            if Precision.BF16 in config.precisions:
                if (bf16 or cpu_has_bf16)():
                    add(Precision.FP32, precision=Precision.BF16)
                else:
                    absent.append(Absent("bf16, cpu", "run on an ARM CPU with bf16, such as Graviton 3"))
        elif provider is Provider.OPENVINO:
            for threads in config.threads:
                add(Precision.FP32, provider=provider, threads=threads)
        elif provider is Provider.CUDA:
            add(Precision.FP32, provider=provider)
            if Precision.FP16 in config.precisions:
                add(Precision.FP16, provider=provider, precision=Precision.FP16)
        else:  # TensorRT computes an fp32 graph in what it is told
            for precision in (Precision.FP32, *config.precisions):
                if precision is not Precision.INT8:  # it would need a calibrated graph, which dynamic int8 is not
                    add(Precision.FP32, provider=provider, precision=precision, shapes=dict(shapes))
    return found, absent


def cpu_has_bf16() -> bool:
    """ONNX Runtime's CPU kernels have a bf16 product on ARM alone."""
    if platform.machine() not in {"aarch64", "arm64"}:
        return False
    try:
        return "bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
