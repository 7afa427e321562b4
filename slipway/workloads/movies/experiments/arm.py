"""Trains one arm for a share of CPU-seconds or for so many steps, and looks at it on the way, outside the clock.

Knows ranker, loss and batches; knows no checkpoint, no worker and no experiment. The product trains by epochs
(ranker/loop.py); a comparison at equal cost needs a schedule that ends when the budget does.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from slipway.errors import TrainingError
from slipway.workload import Progress
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import loss
from slipway.workloads.movies.ranker.batches import Batch, batches
from slipway.workloads.movies.ranker.config import LossConfig, RankerConfig
from slipway.workloads.movies.ranker.device import computes_bf16
from slipway.workloads.movies.ranker.loop import TrainingStep
from slipway.workloads.movies.ranker.model import Ranker

Look = Callable[[Ranker], dict[str, float]]
Point = dict[str, float]
"""cpu_seconds, step, epochs (may be a part), train_loss since the last point, and what the look found."""


@dataclass(frozen=True)
class Arm:
    """What is trained. cpu_seconds or steps ends it; with both, whichever is reached first.

    constant: the rate stays after warm-up, for arms that race to a level; else it falls to 0 along a cosine.
    """

    ranker: RankerConfig = field(default_factory=RankerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    learning_rate: float = 2e-3
    tokens_per_step: int = 4096
    warmup_steps: int = 30
    weight_decay: float = 0.01
    cpu_seconds: float = math.inf
    steps: float = math.inf
    constant: bool = False
    seed: int = 0

    def within(self, train: Interactions) -> "Arm":
        """This arm for training data that fill no step of tokens_per_step: at least 16 steps an epoch."""
        pairs = int(np.maximum(train.lengths - 1, 0).sum())
        return replace(self, tokens_per_step=max(min(self.tokens_per_step, pairs // 16), 1))


@dataclass(frozen=True, eq=False)
class Trained:
    model: Ranker
    curve: list[Point]

    @property
    def seconds_per_step(self) -> float:
        return self.curve[-1]["cpu_seconds"] / self.curve[-1]["step"]


def train(arm: Arm, data: Interactions, look: Look, marks: Sequence[float], say: Progress, name: str) -> Trained:
    """marks: shares of the arm's end, ascending, at which look is called; the last is 1.

    say is told name, the share done and each point. Raises TrainingError when the loss is no longer a number.
    """
    device = torch.device("cpu")
    bf16 = computes_bf16(device)
    with torch.random.fork_rng():
        torch.manual_seed(arm.seed)
        model = Ranker(arm.ranker, data.n_items, data.n_users).train()
        popularity = torch.from_numpy(np.bincount(data.items, minlength=data.n_items + 1))
        learner = TrainingStep(model, loss.build(arm.loss, popularity), bf16)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=arm.learning_rate, betas=(0.9, 0.98), weight_decay=arm.weight_decay, fused=True
        )
        untrained = torch.from_numpy(np.flatnonzero(data.lengths < 2))
        strangers = torch.from_numpy(np.flatnonzero(popularity.numpy() == 0))
        curve: list[Point] = []
        seen = total = 0.0  # batches and loss since the last point
        spent, step, epoch, upcoming = 0.0, 0, 0, 0
        begun = time.process_time()
        while upcoming < len(marks):
            todo = batches(data, arm.ranker.max_len, arm.tokens_per_step, arm.seed, epoch)
            if not todo:
                raise TrainingError("no user has two interactions", "bring longer histories")
            for index, batch in enumerate(todo):
                done = max(step / arm.steps, spent / arm.cpu_seconds)
                rate = arm.learning_rate * min(1.0, (step + 1) / max(arm.warmup_steps, 1))
                if not arm.constant:
                    rate *= 0.5 * (1 + math.cos(math.pi * min(done, 1)))
                total += _step(learner, optimiser, batch, rate, f"{name}, step {step + 1}")
                step, seen = step + 1, seen + 1
                spent += time.process_time() - begun
                done = max(step / arm.steps, spent / arm.cpu_seconds)
                if done >= marks[upcoming]:
                    point: Point = {"cpu_seconds": spent, "step": step, "epochs": epoch + (index + 1) / len(todo)}
                    model.make_unknown(untrained, strangers)
                    curve.append(point | {"train_loss": total / seen} | look(model.eval()))
                    model.train()
                    say(name, min(done, 1.0), curve[-1])
                    seen = total = 0.0
                    while upcoming < len(marks) and done >= marks[upcoming]:
                        upcoming += 1
                begun = time.process_time()
                if upcoming == len(marks):
                    break
            epoch += 1
    return Trained(model.eval(), curve)


def _step(learner: TrainingStep, optimiser: torch.optim.Optimizer, batch: Batch, rate: float, where: str) -> float:
    value: Tensor = learner(batch.items, batch.users, batch.targets)
    torch.autograd.backward(value)
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    found = float(value.detach())
    if not math.isfinite(found):
        raise TrainingError(f"the loss is {found} in {where}", "lower the learning rate of this arm")
    return found
