"""A simulated world that people watch, and a shelf of films of this one; counting is the model that works."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.workloads.movies import dataset, splits
from slipway.workloads.movies.baselines import Counts
from slipway.workloads.movies.behaviour import Subject
from slipway.workloads.movies.ingest import IngestConfig, ingest
from slipway.workloads.movies.interactions import IntArray, Interactions
from slipway.workloads.movies.scorer import Scores
from slipway.workloads.movies.simulator import SimulatorConfig, simulate


@dataclass(frozen=True)
class Scoring:
    """A function as a Scorer."""

    function: Callable[[Interactions, IntArray], Scores]
    name: str = "scoring"

    def score(self, whole: Interactions, positions: IntArray) -> Scores:
        return self.function(whole, positions)


@pytest.fixture(scope="session")
def scoring() -> type[Scoring]:
    return Scoring


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder: Path = tmp_path_factory.mktemp("world")
    config = SimulatorConfig(users=700, items=500, shelves=24, days=365, satiation=6.0)
    simulate(folder / "source", config, lambda *_: None)
    ingest(folder / "source", folder / "data", IngestConfig(), lambda *_: None)
    whole = Interactions.from_events(dataset.scan_events(folder / "data").collect())
    split = splits.split(whole, splits.Protocol.TEMPORAL)
    ids = pl.DataFrame({"item": whole.item_ids[1:], "index": np.arange(1, whole.n_items + 1)})
    items = ids.join(pl.read_parquet(folder / "data" / "items.parquet"), on="item", how="left")
    counts = Counts.fit(split.train)
    columns = items.select("index", "title", "genres", "year")
    return Subject(counts, counts, whole, split.train, split.test, columns, filter_seen=True, repeats=False, seed=0)


@pytest.fixture(scope="session")
def shelf() -> Callable[..., Subject]:
    """shelf(titles, histories): people who watched these, in this order; each title is (title, year, genres)."""

    def subject(titles: Sequence[tuple[str, int, list[str]]], histories: Sequence[Sequence[int]]) -> Subject:
        lengths = [len(history) for history in histories]
        whole = Interactions(
            indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=np.concatenate([np.asarray(history) for history in histories]).astype(np.int32),
            times=None,
            user_ids=np.arange(len(histories), dtype=np.int64),
            item_ids=np.concatenate([[-1], np.arange(len(titles)) + 100]).astype(np.int64),
        )
        split = splits.leave_one_out(whole)
        items = pl.DataFrame(
            {
                "index": np.arange(1, len(titles) + 1),
                "title": [title for title, _, _ in titles],
                "genres": [genres for _, _, genres in titles],
                "year": [year for _, year, _ in titles],
            },
            schema={"index": pl.Int64, "title": pl.String, "genres": pl.List(pl.String), "year": pl.Int32},
        )
        counts = Counts.fit(split.train)
        return Subject(counts, counts, whole, split.train, split.test, items, filter_seen=True, repeats=False, seed=0)

    return subject
