"""What one step of training is, however its tokens are cut; and the moving average beside the weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker import loop, shards
from slipway.workloads.movies.ranker.average import Average
from slipway.workloads.movies.ranker.config import TrainConfig
from slipway.workloads.movies.ranker.loop import Task
from slipway.workloads.movies.ranker.parallel import Place
from slipway.workloads.movies.ranker.resume import State
from slipway.workloads.movies.ranker.validation import Validation

Make = Callable[..., TrainConfig]
Train = Callable[..., tuple[State, list[State]]]


@pytest.fixture
def train(chain: Interactions, tmp_path: Path) -> Train:
    def trained(config: TrainConfig) -> tuple[State, list[State]]:
        data = shards.write(chain, (tmp_path / str(config.shard_events)).as_uri(), config.shard_events)
        told: list[State] = []
        task = Task(data, Validation(chain, np.arange(5, 1500, 9), False), config, "test")
        return loop.run(task, Place(torch.device("cpu")), None, told.append), told

    return trained


def assert_near(a: State, b: State, tolerance: float) -> None:
    for name, tensor in a.model.items():
        torch.testing.assert_close(tensor, b.model[name], atol=tolerance, rtol=tolerance, msg=name)


def test_accumulated_parts_are_the_mean_over_the_steps_tokens(train: Train, small: Make) -> None:
    """One batch of everything, or the same windows in unequal parts: the same step, but for rounding."""
    plain = {"precision": "fp32", "epochs": 1, "ranker": {"dropout": 0.0}, "warmup_steps": 0, "weight_decay": 0.0}
    whole, _ = train(small(tokens_per_step=10**6, **plain))
    parts, _ = train(small(tokens_per_step=100, accumulation=1000, **plain))
    assert whole.step == parts.step == 1
    assert whole.history[0]["train_loss"] == pytest.approx(parts.history[0]["train_loss"], rel=1e-5)
    moments = [s.optimiser["state"]["item.weight"]["exp_avg"] for s in (whole, parts)]  # 0.1 of the gradient
    torch.testing.assert_close(*moments, atol=1e-7, rtol=1e-3)
    assert moments[0].abs().max() > 1e-5


def test_recomputed_activations_change_nothing(train: Train, small: Make) -> None:
    kept, _ = train(small(epochs=1, precision="fp32"))
    again, _ = train(small(epochs=1, precision="fp32", activation_checkpointing=True))
    assert_near(kept, again, 0.0)


def test_bf16_learns_as_fp32_does(train: Train, small: Make) -> None:
    losses = [train(small(precision=p))[0].history[-1]["train_loss"] for p in ("fp32", "bf16")]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_the_better_of_weights_and_average_is_kept(train: Train, small: Make) -> None:
    state, told = train(small())
    best = max(state.history, key=lambda r: r["validation_ndcg10"])
    assert state.best_value == best["validation_ndcg10"]
    assert best["validation_ndcg10"] == max(best["validation_ndcg10_raw"], best["validation_ndcg10_ema"])
    which = "average" if best["validation_ndcg10_ema"] >= best["validation_ndcg10_raw"] else "model"
    torch.testing.assert_close(state.best["norm.weight"], getattr(told[int(best["epoch"]) - 1], which)["norm.weight"])
    record = state.history[-1]
    assert record["validation_ndcg10_ema"] > 0.5  # it does not remember how the run began
    assert {"tokens_per_second", "tokens_per_cpu_second", "peak_memory_mb", "cpu_seconds"} <= record.keys()
    without, _ = train(small(epochs=1, ema=0.0))
    assert not without.average
    assert "validation_ndcg10_ema" not in without.history[0]


def test_what_training_never_saw_is_unknown_to_the_model_that_is_kept(
    chain: Interactions, tmp_path: Path, small: Make
) -> None:
    rare = int(chain.items[0])
    task = Task(
        shards.write(chain.keep(chain.items != rare), tmp_path.as_uri(), 10**6),
        Validation(chain, np.arange(5, 1500, 29), False),
        small(epochs=1),
        "test",
    )
    state = loop.run(task, Place(torch.device("cpu")), None, lambda _: None)
    assert np.flatnonzero(state.best["familiar"] == 0).tolist() == [0, rare]


def test_the_average_follows_its_formula_and_gives_the_weights_back() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    average, expected = Average([weight], 0.5), 1.0
    for step in range(20):
        with torch.no_grad():
            weight.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 19
