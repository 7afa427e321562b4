"""One model on many workers: whole copies (DDP) or sharded parameters (FSDP2). Knows torch.distributed; knows no Ray.

Weights and optimiser state leave here whole and on the CPU, whatever the strategy, so that a checkpoint of any number
of workers is one that any other number can go on from. Both strategies run on GPUs (NCCL) and on CPUs (gloo).
"""

import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

WHOLE = whole.StateDictOptions(full_state_dict=True)


@dataclass(frozen=True)
class Place:
    """Where a worker stands. With one worker no process group is needed, and the strategy says nothing."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def prepare(self, module: nn.Module, blocks: Iterable[nn.Module]) -> nn.Module:
        """The module on the device, its gradients averaged over the workers; blocks are what FSDP gathers at once."""
        module = module.to(self.device)
        if self.world_size == 1:
            return module
        if self.strategy == "fsdp":
            mesh = init_device_mesh(self.device.type, (self.world_size,))
            for block in blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(module, mesh=mesh)
            return module
        # DDP orders its buckets anew after the first step, unless it looks for unused parameters. Another order is
        # another rounding with three workers or more, and a resumed run would no longer be the unbroken one.
        warnings.filterwarnings("ignore", message=".*find_unused_parameters.*")
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            module, device_ids=ids, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def gather(self, values: list[float]) -> list[list[float]]:
        """A row per worker, in order of rank, the same everywhere."""
        if self.world_size == 1:
            return [values]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        rows = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(rows, mine)
        return [row.tolist() for row in rows]


def accumulating(module: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Around forward and backward of one part of a step: only the last part's backward speaks to the others."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    elif isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What of each tensor lies on this worker."""
    parts = (t.to_local() if isinstance(t, DTensor) else t for t in (t.detach() for t in tensors))
    return list(parts)


def number(scalar: Tensor) -> float:
    """Also of one that each worker holds a part of: then all must ask."""
    return float(scalar.full_tensor() if isinstance(scalar, DTensor) else scalar)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The whole state dict on the CPU, a copy, on every worker."""
    found = whole.get_model_state_dict(model, options=WHOLE)
    return {name: t.detach().to("cpu", copy=True) for name, t in found.items() if isinstance(t, Tensor)}


def load_weights(model: nn.Module, found: Mapping[str, Tensor]) -> None:
    whole.set_model_state_dict(model, dict(found), options=WHOLE)


def optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Whole, by parameter name; with many workers on rank 0, where it is written, and nowhere else."""
    options = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)
    return whole.get_optimizer_state_dict(model, optimiser, options=options)


def load_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, found: dict[str, Any]) -> None:
    whole.set_optimizer_state_dict(model, optimiser, found, options=WHOLE)
