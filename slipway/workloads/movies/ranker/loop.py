"""The training loop of one worker, in plain PyTorch. Knows no Ray, no files and no clock but for its own records.

AdamW (Loshchilov & Hutter 2019) with warm-up, then a cosine to 0; gradients clipped; bf16 autocast where the machine
computes in it; a moving average of the weights beside them, and the better of both on validation is what is kept.
Every so many steps and after each epoch a State is reported, from which any later process can go on to the same end:
in fp32 on as many workers, bit by bit.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from slipway.errors import TrainingError
from slipway.workloads.movies.ranker import device as machine
from slipway.workloads.movies.ranker import loss as losses
from slipway.workloads.movies.ranker import parallel
from slipway.workloads.movies.ranker.average import Average
from slipway.workloads.movies.ranker.batches import Draw, Step, steps
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.model import PLAIN_ATTENTION, Ranker
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.scorer import RankerScorer
from slipway.workloads.movies.ranker.shards import Shards
from slipway.workloads.movies.ranker.validation import Validation


@dataclass(frozen=True, eq=False)
class Task:
    """What every worker is given. fingerprint: of configuration and data, so that no foreign checkpoint is resumed."""

    shards: Shards
    validation: Validation
    config: TrainConfig
    fingerprint: str


class TrainingStep(nn.Module):
    """Ranker and loss as one module: what is wrapped for many workers, so that the tied weight's gradients meet in it,
    and so that the loss finds it whole where parameters are sharded.
    """

    def __init__(self, ranker: Ranker, loss: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.ranker = ranker
        self.loss = loss
        self.bf16 = bf16

    def forward(self, items: Tensor, users: Tensor, targets: Tensor) -> Tensor:
        """(B, L), (B,), (B, L) → mean loss over the real positions."""
        with machine.autocast(items.device, self.bf16):
            hidden = self.ranker(items, users)
        # As places and not as a mask, which a GPU would be asked to count at each use, the gradient's among them.
        real = targets.flatten().nonzero()[:, 0]  # (N,)
        hidden = hidden.flatten(0, 1)[real].to(torch.bfloat16 if self.bf16 else torch.float32)  # (N, dim)
        loss: Tensor = self.loss(hidden, self.ranker.item.weight, self.ranker.share_targets(targets.flatten()[real]))
        return loss


def build(task: Task) -> Ranker:
    """The untrained model of a task, the same in every process."""
    with torch.random.fork_rng(devices=[]):  # it is built on the CPU; asking GPUs for their state would start them
        torch.manual_seed(task.config.seed)
        return Ranker(task.config.ranker, task.shards.n_items, task.shards.n_users)


def computed(task: Task, use_gpu: bool) -> dict[str, str]:
    """By what, for the record: the machine's part, the precision and the paths of attention and loss."""
    device = torch.device("cuda" if use_gpu else "cpu")
    bf16, loss = machine.in_bf16(task.config.precision, device), task.config.loss
    plain = device.type == "cpu" and bf16 and task.config.ranker.max_len <= PLAIN_ATTENTION  # as model.attend chooses
    return {
        "device": machine.name(device),
        "precision": "bf16" if bf16 else "fp32",
        "attention": "plain" if plain else "scaled_dot_product_attention",
        "loss": f"{loss.kind}, chunked" if loss.kind == "full" and loss.chunked else loss.kind,
    }


def run(task: Task, place: Place, start: State | None, report: Callable[[State], None]) -> State:
    """Train from start (or from nothing) to the end; report is called with each new State, on every worker.

    Raises TrainingError, on all workers at once, that names epoch and step when loss or gradient is no longer a number;
    what was reported before stays.
    """
    learner = Learner(task, place)
    state = start or _nothing(task)
    if start is not None:
        learner.load(start)
    with torch.random.fork_rng(devices=[place.device] if place.device.type == "cuda" else []):
        while not state.finished:
            state = _epoch(task, place, learner, state, report)
            report(state)
    return state


class Learner:
    """Model, optimiser and average of one worker."""

    def __init__(self, task: Task, place: Place) -> None:
        config = task.config
        self.task, self.place = task, place
        self.bf16 = machine.in_bf16(config.precision, place.device)
        self.model = build(task)
        self.replica = build(task).to(place.device).eval()  # validated: the training model may be sharded
        if config.activation_checkpointing:
            for block in self.model.blocks:
                block.forward = partial(recompute, block.forward, use_reentrant=False)
        popularity = torch.from_numpy(task.shards.popularity)
        loss = losses.build(config.loss, popularity)
        self.module = place.prepare(TrainingStep(self.model, loss, self.bf16), self.model.blocks)
        self.parameters = list(self.model.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
        )
        self.average = Average(self.parameters, config.ema)
        self.share = task.validation.share(place.rank, place.world_size)

    def load(self, state: State) -> None:
        if state.average:
            parallel.load_weights(self.model, state.average)
            self.average.restart()
        parallel.load_weights(self.model, state.model)
        parallel.load_optimiser(self.model, self.optimiser, state.optimiser)

    def learn(self, step: Step, number: int, rate: float) -> tuple[float, float]:
        """One optimiser step. Returns the sum of the loss over this worker's tokens, and the gradient's norm."""
        words = np.random.SeedSequence([self.task.config.seed, number, self.place.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> np.uint64(1)))
        sums = []
        for part, cpu_batch in enumerate(step.parts):
            batch = cpu_batch.to(self.place.device)
            with parallel.accumulating(self.module, last=part + 1 == len(step.parts)):
                loss = self.module(batch.items, batch.users, batch.targets)
                # The step's loss is the mean over its real tokens, however they fall into parts and workers; the
                # workers' gradients are averaged, hence the factor.
                (loss * (batch.tokens * self.place.world_size / step.tokens)).backward()
            sums.append(loss.detach() * batch.tokens)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.task.config.clip_norm, foreach=True)
        total = float(torch.stack(sums).sum())
        size = parallel.number(norm)
        if math.isfinite(total) and math.isfinite(size):
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self.average.update(number)
        self.optimiser.zero_grad(set_to_none=True)
        return total, size

    def weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Of the model and of its average, whole, on every worker."""
        raw = parallel.weights(self.model)
        if not self.average.decay:
            return raw, {}
        with self.average.applied():
            return raw, parallel.weights(self.model)

    def validate(self, weights: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """NDCG@10 over all workers' shares, and what answered: what training never saw is unknown to it."""
        self.replica.load_state_dict(weights)
        shards, device = self.task.shards, self.place.device
        strangers = np.flatnonzero(shards.popularity == 0)
        self.replica.make_unknown(torch.from_numpy(shards.untrained).to(device), torch.from_numpy(strangers).to(device))
        values = self.share.ndcg(RankerScorer(self.replica, bf16=self.bf16))
        rows = self.place.gather([float(values.sum()), float(len(values))])
        answering = {name: t.detach().to("cpu", copy=True) for name, t in self.replica.state_dict().items()}
        return sum(row[0] for row in rows) / sum(row[1] for row in rows), answering


def _nothing(task: Task) -> State:
    return State(task.fingerprint, 0, 0, 0, {}, {}, {}, {}, -1.0, 0, finished=False, cpu_seconds=0.0)


def _epoch(task: Task, place: Place, learner: Learner, state: State, report: Callable[[State], None]) -> State:
    """The rest of the epoch that state is in; returns the State after it, and reports those within it."""
    config, epoch = task.config, state.epoch
    sums = _Sums.restore(state, place)
    draw = Draw(config.ranker.max_len, config.tokens_per_step, config.seed, epoch)
    batches, number = state.batches, state.step
    learner.model.train()
    for step in steps(task.shards, draw, config.accumulation, place.rank, place.world_size, batches):
        done = (epoch + step.done) / config.epochs
        warm = min(1.0, (number + 1) / max(config.warmup_steps, 1))
        rate = config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))
        loss, norm = learner.learn(step, number, rate)
        number += 1
        batches += step.batches
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise TrainingError(
                f"the {what} is {loss if what == 'loss' else norm} in epoch {epoch + 1}, step {number}",
                "lower learning_rate or raise warmup_steps; the last checkpoint before it is kept",
            )
        sums.add(loss, sum(part.tokens for part in step.parts))
        if config.checkpoint_every is not None and number % config.checkpoint_every == 0:
            report(_within(learner, state, batches, number, place.gather(sums.values())))
            sums.resume()
    if not batches:
        raise TrainingError(
            f"the training data are too few for {place.world_size} worker(s)",
            "bring more users with two interactions or more, lower tokens_per_step, or train with fewer workers",
        )
    return _after(task, learner, state, number, sums)


@dataclass
class _Sums:
    """Of one worker, over an epoch: what its record is made of. A pause for a checkpoint costs, and is counted."""

    loss: float = 0.0
    tokens: float = 0.0
    cpu: float = 0.0
    wall: float = 0.0

    def __post_init__(self) -> None:
        self.resume()

    @classmethod
    def restore(cls, state: State, place: Place) -> "_Sums":
        rows = state.sums if state.batches else []
        if len(rows) == place.world_size:
            return cls(*rows[place.rank])
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows and place.rank == 0 else cls()

    def resume(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def add(self, loss: float, tokens: float) -> None:
        self.loss += loss
        self.tokens += tokens

    def values(self) -> list[float]:
        """Takes the time since the last call, or since resume."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.cpu += cpu - self._cpu
        self.wall += wall - self._wall
        self._cpu, self._wall = cpu, wall
        return [self.loss, self.tokens, self.cpu, self.wall]


def _within(learner: Learner, before: State, batches: int, step: int, sums: list[list[float]]) -> State:
    raw, average = learner.weights()
    return replace(
        before,
        batches=batches,
        step=step,
        model=raw,
        average=average,
        optimiser=parallel.optimiser_state(learner.model, learner.optimiser),
        sums=sums,
    )


def _after(task: Task, learner: Learner, before: State, step: int, sums: _Sums) -> State:
    config, place = task.config, learner.place
    epoch = before.epoch + 1
    sums.values()
    trained = sums.wall
    raw, average = learner.weights()
    record: dict[str, float] = {"epoch": float(epoch), "step": float(step)}
    best, best_value, best_epoch = before.best, before.best_value, before.best_epoch
    if epoch == config.epochs or epoch % config.validate_every == 0:
        for name, weights in (("raw", raw), ("ema", average)):
            if weights:
                value, answering = learner.validate(weights)
                record[f"validation_ndcg10_{name}"] = value
                record["validation_ndcg10"] = max(value, record.get("validation_ndcg10", 0.0))
                if value > best_value:
                    best, best_value, best_epoch = answering, value, epoch
    rows = place.gather([*sums.values(), trained, machine.peak_memory_mb(place.device)])
    loss, tokens, cpu = (sum(row[column] for row in rows) for column in range(3))
    cpu_seconds = before.cpu_seconds + cpu
    rate = tokens / max(1e-9, *(row[4] for row in rows))
    record |= {
        "train_loss": loss / tokens,
        "tokens_per_second": rate,
        "tokens_per_cpu_second": tokens / max(cpu, 1e-9),
        "cpu_seconds": cpu_seconds,
        "peak_memory_mb": max(row[5] for row in rows),
    }
    peak = machine.peak_flops(place.device, learner.bf16)
    if peak is not None:
        flops = machine.flops_per_token(config.ranker, config.loss, task.shards.n_items)
        record["share_of_peak"] = rate * flops / (peak * place.world_size)
    stale = config.patience is not None and best_epoch and epoch - best_epoch >= config.patience * config.validate_every
    return State(
        fingerprint=task.fingerprint,
        epoch=epoch,
        batches=0,
        step=step,
        model=raw,
        average=average,
        optimiser=parallel.optimiser_state(learner.model, learner.optimiser),
        best=best,
        best_value=best_value,
        best_epoch=best_epoch,
        finished=epoch >= config.epochs or bool(stale),
        cpu_seconds=cpu_seconds,
        history=[*before.history, record],
    )
