"""One tiny world, simulated and ingested once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slipway.workloads.movies import dataset
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.simulator import TINY, SimulatorConfig, simulate
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.logged import Logged, log
from slipway.workloads.movies.simulator.policy import Popularity
from slipway.workloads.movies.simulator.traffic import TrafficConfig


@dataclass(frozen=True)
class Simulated:
    config: SimulatorConfig
    source: Path
    data: Path
    whole: Interactions

    def table(self, name: str) -> np.ndarray:
        """(rows, 4) int64 of ratings.dat or clicks.dat."""
        return np.array([line.split("::") for line in (self.source / name).read_text().splitlines()], dtype=np.int64)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    root = tmp_path_factory.mktemp("tiny_world")
    config = TINY.model_copy(update={"clicks": True})
    simulate(root / "source", config, lambda *_: None)
    ingest(root / "source", root / "data", IngestConfig(), lambda *_: None)
    whole = Interactions.from_events(dataset.scan_events(root / "data").collect())
    return Simulated(config, root / "source", root / "data", whole)


@dataclass(frozen=True)
class Produced:
    """Some days of production of the tiny world."""

    crowd: Crowd
    days: list[Logged]

    def clicks(self, day: int, *, found: bool = False) -> np.ndarray:
        """Films clicked in lists, or found by search or browsing."""
        acts = self.days[day].acts
        return acts.item[(acts.rating == 0) & ((acts.position == 0) == found)]


@pytest.fixture(scope="session")
def produce():
    """produce("clicks:-0.5@1d", epsilon=1.0, seed=2, …) → Produced: people of the tiny world for two busy days."""

    def run(*drifts: str, epsilon: float = 0.2, **knobs) -> Produced:
        chosen = {"users": 500, "begin": 0.0, "span": 2 * 86_400.0, "rate": 0.05, "releases": 0} | knobs
        traffic = TrafficConfig(**chosen, drifts=tuple(Drift.parse(text) for text in drifts))
        crowd = Crowd.gather(TINY, traffic)
        return Produced(crowd, list(log(crowd, Popularity(crowd, epsilon))))

    return run


@pytest.fixture(scope="session")
def produced(produce) -> Produced:
    return produce()
