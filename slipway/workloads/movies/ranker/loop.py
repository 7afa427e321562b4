"""The training loop of one worker, in plain PyTorch. Knows no Ray, no files and no clock but the CPU's.

AdamW (Loshchilov & Hutter 2019) with warm-up, then a cosine to 0; gradients clipped to norm 1; bf16 autocast where the
machine computes in it. After each epoch a State is reported, from which any later process can go on to the same end.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from slipway.errors import TrainingError
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.batches import Batch, batches
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.loss import chunked_cross_entropy
from slipway.workloads.movies.ranker.model import Ranker
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.validation import Validation


@dataclass(frozen=True, eq=False)
class Task:
    """What every worker is given. fingerprint: of configuration and data, so that no foreign checkpoint is resumed."""

    train: Interactions
    validation: Validation
    config: TrainConfig
    fingerprint: str


@dataclass(frozen=True)
class Place:
    """Where this worker stands; prepare wraps the module for many workers (DDP) and moves it to the device."""

    device: torch.device
    prepare: Callable[[nn.Module], nn.Module]
    rank: int = 0
    world_size: int = 1


class TrainingStep(nn.Module):
    """Ranker and loss as one module: what DDP wraps, so that the tied weight's gradients meet inside it."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, items: Tensor, users: Tensor, targets: Tensor) -> Tensor:
        """(B, L), (B,), (B, L) → mean cross-entropy over the real positions."""
        bf16 = computes_bf16(items.device)
        with autocast(items.device, bf16):
            hidden = self.ranker(items, users)
        real = targets > 0
        hidden = hidden[real].to(torch.bfloat16 if bf16 else torch.float32)  # (N, dim)
        return chunked_cross_entropy(hidden, self.ranker.item.weight, targets[real])


def computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is arithmetic here and not emulation (which is slower than fp32)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if enabled else nullcontext()


def build(task: Task) -> Ranker:
    """The untrained model of a task, the same in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(task.config.seed)
        return Ranker(task.config.ranker, task.train.n_items, task.train.n_users)


def run(task: Task, place: Place, start: State | None, report: Callable[[State], None]) -> State:
    """Train from start (or from nothing) to the end; report is called after each epoch, on every worker.

    Raises TrainingError naming epoch and step when the loss is no longer a number; what was reported before stays.
    """
    config = task.config
    model = build(task)
    step_module = place.prepare(TrainingStep(model))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    untrained = torch.from_numpy(np.flatnonzero(task.train.lengths < 2)).to(place.device)
    scorer = RankerScorer(model, bf16=computes_bf16(place.device))
    share = task.validation.share(place.rank, place.world_size)
    state = start
    if state is not None:
        model.load_state_dict(state.model)
        optimiser.load_state_dict(state.optimiser)
    with torch.random.fork_rng():
        while state is None or not state.finished:
            begun = time.process_time()
            epoch = state.epoch if state else 0
            step = state.step if state else 0
            words = np.random.SeedSequence([config.seed, epoch, place.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(words[0] >> np.uint64(1)))
            model.train()
            loss, tokens, step = _epoch(task, place, step_module, model, optimiser, epoch, step)
            model.make_unknown(untrained)
            sums = [loss, tokens, 0.0, 0.0]
            last = epoch + 1 == config.epochs
            if last or (epoch + 1) % config.validate_every == 0:
                values = share.ndcg(scorer)
                sums[2:] = [float(values.sum()), float(len(values))]
            sums.append(time.process_time() - begun)
            state = _after(state, task, model, optimiser, step, _total(sums, place))
            report(state)
    return state


def _epoch(
    task: Task,
    place: Place,
    step_module: nn.Module,
    model: Ranker,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    step: int,
) -> tuple[float, float, int]:
    """Returns the sum of the loss over this worker's tokens, their number, and the global step."""
    config = task.config
    todo = batches(
        task.train,
        config.ranker.max_len,
        config.tokens_per_step,
        config.seed,
        epoch,
        place.rank,
        place.world_size,
    )
    if not todo:
        raise TrainingError(
            f"the training data are too few for {place.world_size} worker(s)",
            "bring users with two interactions or more, or train with fewer workers",
        )
    total = tokens = 0.0
    for index, cpu_batch in enumerate(todo):
        batch: Batch = cpu_batch.to(place.device)
        done = (epoch + index / len(todo)) / config.epochs
        warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))
        loss = step_module(batch.items, batch.users, batch.targets)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {epoch + 1}, step {index + 1} of {len(todo)}",
                "lower learning_rate or raise warmup_steps; the checkpoint after the last whole epoch is kept",
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        real = float((cpu_batch.targets > 0).sum())
        total += value * real
        tokens += real
    return total, tokens, step


def _total(sums: list[float], place: Place) -> list[float]:
    """Over all workers; each then decides the same."""
    if place.world_size == 1:
        return sums
    tensor = torch.tensor(sums, dtype=torch.float64, device=place.device)
    torch.distributed.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def _after(
    before: State | None,
    task: Task,
    model: Ranker,
    optimiser: torch.optim.Optimizer,
    step: int,
    totals: list[float],
) -> State:
    loss, tokens, ndcg, cases, seconds = totals
    config = task.config
    epoch = (before.epoch if before else 0) + 1
    weights = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
    record = {"epoch": float(epoch), "train_loss": loss / tokens, "tokens_per_cpu_second": tokens / max(seconds, 1e-9)}
    best, best_value, best_epoch = (before.best, before.best_value, before.best_epoch) if before else ({}, -1.0, 0)
    if cases:
        record["validation_ndcg10"] = ndcg / cases
        if record["validation_ndcg10"] > best_value:
            best, best_value, best_epoch = weights, record["validation_ndcg10"], epoch
    cpu_seconds = (before.cpu_seconds if before else 0.0) + seconds
    record["cpu_seconds"] = cpu_seconds
    stale = config.patience is not None and best_epoch and epoch - best_epoch >= config.patience * config.validate_every
    return State(
        fingerprint=task.fingerprint,
        epoch=epoch,
        step=step,
        model=weights,
        optimiser=optimiser.state_dict(),
        best=best,
        best_value=best_value,
        best_epoch=best_epoch,
        finished=epoch >= config.epochs or bool(stale),
        cpu_seconds=cpu_seconds,
        history=[*(before.history if before else []), record],
    )
