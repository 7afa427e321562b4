"""A tiny world with its data set, and a counting model of it: enough people for a visible difference, in seconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.workloads.movies import dataset
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.behaviour.subject import Subject
from slipway.workloads.movies.business.market import Market, Setting, Span
from slipway.workloads.movies.ingest import ingest
from slipway.workloads.movies.intake import IngestConfig
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.simulator import TINY, simulate


def silent(*_):
    pass


@dataclass(frozen=True)
class Town:
    data: Path
    whole: Interactions
    subject: Subject

    def market(self, visits=600, days=3, **setting) -> Market:
        return Market.open(self.data, self.whole, Setting(**setting), Span(days=days, visits=visits))


@pytest.fixture(scope="session")
def town(tmp_path_factory) -> Town:
    root = tmp_path_factory.mktemp("town")
    simulate(root / "source", TINY, silent)
    ingest(root / "source", root / "data", IngestConfig(), silent)
    whole = Interactions.from_events(dataset.scan_events(root / "data").collect())
    counts = Counts.fit(whole)
    items = pl.DataFrame({"index": np.arange(1, whole.n_items + 1)})
    nothing = np.empty(0, dtype=np.int64)
    subject = Subject(counts, counts, whole, whole, nothing, items, filter_seen=True, repeats=False, seed=0)
    return Town(root / "data", whole, subject)
