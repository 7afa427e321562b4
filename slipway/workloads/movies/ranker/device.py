"""What the machine under a worker computes in, and how fast it could. Knows hardware; knows no model class."""

import platform
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig

# Dense bf16 and fp32 (no TF32) FLOP/s by the vendor's data sheets; a GPU that is not here has no share of peak.
PEAK = {
    "H200": (989e12, 67e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "T4": (0.0, 8.1e12),
}


def computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is arithmetic here and not emulation (which is slower than fp32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def in_bf16(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> bool:
    return precision == "bf16" or (precision == "auto" and computes_bf16(device))


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if enabled else nullcontext()


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def peak_flops(device: torch.device, bf16: bool) -> float | None:
    """FLOP/s at most, or None where nobody said."""
    if device.type != "cuda":
        return None
    known = [peaks for part, peaks in PEAK.items() if part in torch.cuda.get_device_name(device)]
    return (known[0][0] if bf16 else known[0][1]) or None if known else None


def flops_per_token(ranker: RankerConfig, loss: LossConfig, n_items: int) -> float:
    """Of forward and backward (three times forward) of one real token, as Chinchilla's appendix F counts.

    Recomputed activations are no useful work and do not count. Attention over half the window: it is causal.
    """
    width = ranker.width
    block = 2 * 12 * width**2 + 2 * 2 * width * ranker.max_len / 2
    scored = n_items if loss.kind == "full" else loss.negatives + 1
    return 3 * (ranker.layers * block + 2 * ranker.dim * scored)


def peak_memory_mb(device: torch.device) -> float:
    """The most that this process (resident), or on a GPU its tensors, ever held, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
