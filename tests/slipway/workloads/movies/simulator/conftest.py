"""One tiny world, simulated and ingested once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slipway.workloads.movies import dataset
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.simulator import TINY, SimulatorConfig, simulate


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
