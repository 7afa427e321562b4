"""A small world with times and repeats, whose next item the counts half know, and a re-ranker trained on it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipway.workloads.movies import combine
from slipway.workloads.movies.baselines import Counts, Popularity
from slipway.workloads.movies.interactions import Interactions
from slipway.workloads.movies.ranker.validation import Validation
from slipway.workloads.movies.rerank import training
from slipway.workloads.movies.rerank.config import RerankConfig, RetrievalConfig
from slipway.workloads.movies.rerank.items import ItemTable
from slipway.workloads.movies.rerank.training import Fitted
from slipway.workloads.movies.splits import Protocol, Split, split

DAY_MS = 86_400_000
N_USERS, N_ITEMS = 300, 60


@dataclass(frozen=True, eq=False)
class World:
    whole: Interactions
    parts: Split
    items_path: Path
    counts: Counts
    ranker: Popularity
    combination: combine.Combination
    vectors: np.ndarray
    fitted: Fitted


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What follows depends on the item, and on its genre being that of the item before: counts know half of it."""
    rng = np.random.default_rng(0)
    genre = rng.integers(0, 3, N_ITEMS)
    rows = []
    for user in range(N_USERS):
        item, taste = int(rng.integers(N_ITEMS)), int(rng.integers(3))
        time = int(rng.integers(0, 60 * DAY_MS))
        for _ in range(int(rng.integers(8, 20))):
            rows.append((user, item + 500, time, len(rows) + 1))
            time += int(rng.integers(1, DAY_MS))
            near = (item + rng.integers(1, 7, 12)) % N_ITEMS
            liked = near[genre[near] == taste]
            item = int(liked[0] if len(liked) else near[0])
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp", "source_row"], orient="row")
    whole = Interactions.from_events(frame.with_columns(pl.col("timestamp").cast(pl.Datetime("ms", "UTC"))))
    path = tmp_path_factory.mktemp("rerank") / "items.parquet"
    kinds = [["Comedy"], ["Drama"], ["War", "Drama"]]
    known = whole.item_ids[1:]
    pl.DataFrame(
        {
            "item": known,
            "title": [str(i) for i in known],
            "genres": [kinds[genre[i - 500]] for i in known],
            "year": [None if i % 7 == 0 else 1950 + i % 50 for i in known.tolist()],
        },
        schema_overrides={"year": pl.Int32},
    ).write_parquet(path)
    parts = split(whole, Protocol.LEAVE_ONE_OUT)
    counts, ranker = Counts.fit(parts.train), Popularity.fit(parts.train)
    validation = Validation(whole, parts.validation, filter_seen=False)
    combination = combine.fit(ranker, counts, validation)
    vectors = np.random.default_rng(1).normal(size=(whole.n_items + 1, 8)).astype(np.float32)
    items = ItemTable.build(path, whole, parts.train)
    config = RerankConfig(
        retrieval=RetrievalConfig(ranker=20, counts=20, popular=10),
        trees=60,
        min_leaf=20,
        diversity_budget=0.05,
        diversity_depth=20,
    )
    fitted = training.fit(
        ranker, counts, combination, vectors, items, parts.train, validation, config, 0, lambda *_: None
    )
    return World(whole, parts, path, counts, ranker, combination, vectors, fitted)


@pytest.fixture(scope="session")
def untimed(world: World) -> Interactions:
    return replace(world.whole, times=None)
