"""Each experiment of losses, lengths, embeddings and parity on a tiny simulated data set, and the arms they share."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from slipway.errors import TrainingError
from slipway.experiments import page
from slipway.experiments.context import Context, Figures
from slipway.experiments.findings import Findings
from slipway.workloads.movies.experiments import embeddings, lengths, losses, parity
from slipway.workloads.movies.experiments.arm import Arm, train
from slipway.workloads.movies.experiments.ground import Ground
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.ranker.config import RankerConfig
from slipway.workloads.movies.simulator import SimulatorConfig, simulate

SHAPE = RankerConfig(dim=16, max_len=10, layers=1, dropout=0.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder / "source", SimulatorConfig(users=120, items=80, shelves=12, days=200), lambda *_: None)
    ingest(folder / "source", folder / "data", IngestConfig(), lambda *_: None)
    return folder / "data"


class Notebook:
    """What was measured, and how often somebody asked."""

    def __init__(self) -> None:
        self.known: dict[str, Figures] = {}
        self.measured: list[str] = []
        self.said: list[float] = []

    def remember(self, key: str, compute: Callable[[], Mapping[str, Any]]) -> Figures:
        if key not in self.known:
            self.known[key] = dict(compute())
            self.measured.append(key)
        return self.known[key]

    def context(self, data: Path, budget: float) -> Context:
        def say(what: str, share: float, figures: Mapping[str, float]) -> None:
            self.said.append(share)

        return Context(data, data, budget, 0, say, self.remember)


@pytest.fixture(scope="module")
def ground(world: Path) -> Ground:
    return Ground.read(Notebook().context(world, 1))


def column(findings: Findings, name: str) -> list[Any]:
    place = list(findings.columns).index(name)
    return [row[place] for row in findings.rows]


@pytest.mark.parametrize(
    ("experiment", "arms", "figure"),
    [(losses, 4, "cost"), (lengths, 3, "cost"), (embeddings, 8, "cost"), (parity, 4, "epochs")],
    ids=["losses", "lengths", "embeddings", "parity"],
)
def test_an_experiment_measures_every_arm_once(world: Path, experiment: Any, arms: int, figure: str) -> None:
    notebook = Notebook()
    context = notebook.context(world, budget=0.05 * arms)
    found = experiment.run(context)
    assert len(notebook.measured) == arms  # of which the smaller catalogue and histories leave some out
    assert notebook.said == sorted(notebook.said)
    assert notebook.said[-1] == 1
    assert len(found.rows) == arms + (2 if experiment is parity else 0)
    for figures in notebook.known.values():
        points = figures["curve"]
        assert points[-1]["cpu_seconds"] >= 0.05  # its share of the budget
        assert all(0 <= p["ndcg10"] <= 1 and p["train_loss"] > 0 for p in points)
    if experiment is embeddings:
        assert column(found, "keep_user")[0] is None
        assert all(figures["strangers"]["cases"] > 0 for figures in notebook.known.values())
    if experiment is parity:
        assert {0.5905, 0.6174} <= set(column(found, "NDCG@10, sampled"))
        assert (parity.SSE_PT.keep_user, parity.SSE_PT.keep_item) == (0.08, 0.9)  # the probabilities of KEEPING
    assert page.svg(found.figures[figure]).startswith("<?xml")
    again = experiment.run(context)
    assert len(notebook.measured) == arms
    assert again.rows == found.rows


def test_losses_leaves_out_more_negatives_than_items() -> None:
    assert "sampled, uniform, many" in losses.losses(3_416)
    assert all(config.kind == "full" or config.negatives < 65 for config in losses.losses(65).values())


def test_the_same_negatives_are_asked_of_every_model(ground: Ground) -> None:
    arm = Arm(ranker=SHAPE, steps=2).within(ground.parts.train)
    model = train(arm, ground.parts.train, lambda _: {}, (1,), lambda *_: None, "arm").model
    once, again = (parity.sampled(ground, model, ground.parts.test) for _ in range(2))
    assert once == again
    assert 0 < once["ndcg10"] < once["hr10"] < 1


def test_steps_end_an_arm_and_a_seed_decides_it(ground: Ground) -> None:
    arm = Arm(ranker=SHAPE, steps=40, learning_rate=1e-2, tokens_per_step=256)
    looks: list[str] = []

    def look(model: Any) -> dict[str, float]:
        looks.append("eval" if not model.training else "train")
        return ground.glance()(model)

    trained = train(arm, ground.parts.train, look, (0.5, 1), lambda *_: None, "arm")
    assert [p["step"] for p in trained.curve] == [20, 40]
    assert looks == ["eval", "eval"]
    assert trained.curve[1]["train_loss"] < trained.curve[0]["train_loss"]
    assert trained.seconds_per_step == pytest.approx(trained.curve[-1]["cpu_seconds"] / 40)
    again = train(arm, ground.parts.train, lambda _: {}, (1,), lambda *_: None, "arm")
    for a, b in zip(trained.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)  # looking on the way changes nothing


def test_a_loss_that_is_no_number_names_arm_and_step(ground: Ground) -> None:
    arm = Arm(ranker=SHAPE, steps=50, learning_rate=math.inf)
    with pytest.raises(TrainingError, match="the loss is nan in wild, step"):
        train(arm, ground.parts.train, lambda _: {}, (1,), lambda *_: None, "wild")
