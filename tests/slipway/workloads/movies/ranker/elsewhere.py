"""A device that is not the CPU, on the CPU: PyTorch's "away", and the product's whole training on it, as JSON.

    python elsewhere.py <folder>        # prints how the run went beside the same one on the CPU

A tensor of it holds its numbers in memory, but no operation takes it together with a tensor of the CPU (but for scalars
and copies), as on a GPU. Each time the CPU asks it for a value, for which a GPU would first do all that it was told, is
counted with its place. A script and not a fixture: a process keeps its devices.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from slipway.workloads.movies.experiments.probe import histories
from slipway.workloads.movies.ranker import loop, shards
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig, TrainConfig
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.validation import Validation

CPU = torch.device("cpu")
NAME = "away"


class Backend:
    """What PyTorch asks of torch.<device>; randomness is the CPU's, so that both runs draw the same."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None: ...

    def get_rng_state(self, *_: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, *_: Any) -> None:
        torch.set_rng_state(state)

    @contextmanager
    def device(self, *_: Any) -> Iterator[None]:
        yield

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []


backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
AWAY = torch.device(NAME, 0)


class Remote(torch.Tensor):
    """held: the numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Remote":
        with torch.inference_mode(False):  # a view of a wrapper cannot be made within it
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=AWAY
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return WATCH.call(function, args, kwargs or {})


class Watch(TorchDispatchMode):
    """waits: (operation, the line of ours that asked) → how often."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.call(function, args, kwargs or {})

    def call(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        aten = torch.ops.aten
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        remote = [x for x in tensors if isinstance(x, Remote)]
        near = [tuple(x.shape) for x in tensors if not isinstance(x, Remote) and x.dim()]
        copies = function in (aten._to_copy.default, aten.copy_.default)
        if remote and near and not copies:
            raise RuntimeError(f"{function} is asked of {NAME} with tensors of the CPU: {near}")
        device = kwargs.get("device")
        to = torch.device(device) if device is not None else AWAY if remote else CPU
        if function is aten.copy_.default:
            to = args[0].device
        mask = any(x.dtype == torch.bool for x in _indices(function, args))
        if remote and (to == CPU or mask or function in (aten._local_scalar_dense.default, aten.nonzero.default)):
            self.waits[f"{function.overloadpacket.__name__} at {_ours()}"] += 1
        known = {id(x.held): x for x in remote}

        def near_by(x: Any) -> Any:
            if isinstance(x, torch.device) and x.type == NAME:
                return CPU
            return x.held if isinstance(x, Remote) else x

        def sent(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            return known[id(x)] if id(x) in known else Remote(x)

        found = function(*tree_map(near_by, args), **tree_map(near_by, kwargs))
        return tree_map(sent, found) if to.type == NAME else found


WATCH = Watch()


def _indices(function: Any, args: Any) -> list[torch.Tensor]:
    if function.overloadpacket.__name__ not in {"index", "index_put", "index_put_"}:
        return []
    return [x for x in args[1] if x is not None]


def _ours() -> str:
    """The function of ours that asked; none of them is below when gradients are computed."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "workloads" in path.parts and path.stem != Path(__file__).stem:
            return f"{path.stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "backward"


def run(task: loop.Task, place: Place, start: State | None = None) -> tuple[State, list[State]]:
    told: list[State] = []
    return loop.run(task, place, start, told.append), told


def compare(folder: Path, **knobs: Any) -> dict[str, Any]:
    """The same two epochs on both, and the second half again from a checkpoint within the first epoch."""
    made = histories(24, 12, 30, 0)
    shape = {"dim": 16, "layers": 1, "heads": 2, "max_len": 10, "user_dim": 4, "keep_item": 0.9} | knobs.pop(
        "ranker", {}
    )
    plain: dict[str, Any] = {"epochs": 2, "tokens_per_step": 64, "accumulation": 2, "precision": "fp32"}
    config = TrainConfig(ranker=RankerConfig(**shape), checkpoint_every=2, **(plain | knobs))
    data = shards.write(made, (folder / "data").as_uri(), 10**6)
    task = loop.Task(data, Validation(made, made.indptr[1:9] - 1, False), config, "test")
    near, _ = run(task, Place(CPU))
    WATCH.waits.clear()
    with WATCH:
        far, told = run(task, Place(AWAY))
        waits = dict(WATCH.waits)
        within = next(state for state in told if state.batches)
        again, _ = run(task, Place(AWAY), within)
    return {
        "steps": far.step,
        "parts": sum(len(step.parts) for epoch in range(2) for step in _steps(task, epoch)),
        "losses": [[record["train_loss"] for record in state.history] for state in (near, far)],
        "ndcg": [[record["validation_ndcg10"] for record in state.history] for state in (near, far)],
        "differs": _difference(near, far),
        "resumed_differs": _difference(far, again),
        "waits": waits,
    }


def _steps(task: loop.Task, epoch: int) -> Iterator[Any]:
    draw = loop.Draw(task.config.ranker.max_len, task.config.tokens_per_step, task.config.seed, epoch)
    return loop.steps(task.shards, draw, task.config.accumulation)


def _difference(a: State, b: State) -> float:
    return max(float(np.abs(a.model[name].numpy() - b.model[name].numpy()).max()) for name in a.model)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    print(
        json.dumps(
            {
                "full": compare(folder),
                "gbce": compare(folder, loss=LossConfig(kind="gbce", negatives=8)),
                "sampled, recomputed": compare(
                    folder,
                    loss=LossConfig(kind="sampled", negatives=8, proposal="popularity"),
                    activation_checkpointing=True,
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
