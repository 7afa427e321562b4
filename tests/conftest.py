"""Fixtures that cost seconds and serve many tests: built once per session, from real parts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings

# An example may take long on a busy machine (200 ms are an error), and is the same each time: no build fails by chance.
settings.register_profile(
    "here", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")


@dataclass(frozen=True)
class Built:
    """A sealed package of a small trained-for-nothing recommender, and what it was made from."""

    package: Path
    data: Path
    model: Path
    users: list[int]
    items: list[int]


@pytest.fixture(scope="session")
def movies_package(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """120 users, 60 items with gaps in both id spaces, a user embedding, random ranker weights, fitted counts and a few
    trees that learned each user's last two items by heart.
    """
    torch = pytest.importorskip("torch")
    from slipway.package import Golden, Package, Snapshot, write_golden
    from slipway.workloads.movies import dataset, export
    from slipway.workloads.movies.baselines import Counts
    from slipway.workloads.movies.combine import FILE, Combination
    from slipway.workloads.movies.interactions import Interactions
    from slipway.workloads.movies.predictor import MoviesPredictor
    from slipway.workloads.movies.ranker import checkpoint
    from slipway.workloads.movies.ranker.config import RankerConfig
    from slipway.workloads.movies.ranker.model import Ranker
    from slipway.workloads.movies.ranker.scorer import RankerScorer
    from slipway.workloads.movies.rerank import relations
    from slipway.workloads.movies.rerank.cascade import Cascade
    from slipway.workloads.movies.rerank.config import RetrievalConfig
    from slipway.workloads.movies.rerank.features import FEATURES, Tables, matrix
    from slipway.workloads.movies.rerank.items import ItemTable
    from slipway.workloads.movies.rerank.reranker import Reranker, Settings

    root = tmp_path_factory.mktemp("movies_package")
    data, model, package = root / "data", root / "model", root / "package"
    rng = np.random.default_rng(0)
    rows = [
        {"user": user, "item": item, "at": at}
        for user in range(1, 360, 3)
        for at, item in enumerate(rng.choice(np.arange(10, 130, 2), size=rng.integers(3, 40), replace=False).tolist())
    ]
    table = pl.DataFrame(rows)
    events = pl.DataFrame(
        {
            "user": table["user"],
            "item": table["item"],
            "timestamp": (978_300_760_000 + table["at"] * 18_000_000).cast(pl.Datetime("ms", "UTC")),  # eight days
            "rating": pl.repeat(4.0, len(table), dtype=pl.Float32, eager=True),
            "action": pl.repeat("rating", len(table), dtype=pl.String, eager=True),
            "source_row": pl.int_range(1, len(table) + 1, dtype=pl.Int64, eager=True),
        },
        schema=dataset.EVENTS,
    )
    (data / "events").mkdir(parents=True)
    events.write_parquet(data / "events" / "0.parquet")
    catalogue = sorted(set(table["item"].to_list()))
    pl.DataFrame(
        {
            "item": catalogue,
            "title": [f"Film № {item}" for item in catalogue],
            "genres": [["Drama"]] * len(catalogue),
            "year": [1990] * len(catalogue),
        },
        schema=dataset.ITEMS,
    ).write_parquet(data / "items.parquet")

    whole = Interactions.from_events(events)
    about = dataset.DataSet(
        source="ml-1m",
        events=len(events),
        users=whole.n_users,
        items=whole.n_items,
        quarantined={},
        timed=True,
        repeats=False,
        sha256="0" * 64,
        tables=(
            dataset.TableVersion(table="events", uri="file:///lake/processed/fixture/events", version=0, snapshot=""),
        ),
    )
    (data / "dataset.json").write_text(about.model_dump_json())
    model.mkdir()
    torch.manual_seed(0)
    config = RankerConfig(dim=16, layers=2, heads=2, max_len=12, user_dim=4, keep_user=0.9)
    ranker = Ranker(config, whole.n_items, whole.n_users)
    with torch.no_grad():
        ranker.item.weight.mul_(20)  # spread the scores: untrained ones are nearly tied
    checkpoint.save(model, ranker, filter_seen=True)
    counts = Counts.fit(whole)
    counts.save(model / "counts.npz")
    combination = Combination(weight=0.5, epsilon=1e-3)
    (model / FILE).write_text(combination.model_dump_json())

    vectors = ranker.item.weight.detach().numpy()
    items = ItemTable.build(data / "items.parquet", whole, whole)
    tables = Tables.build(items, combination, vectors, relations.fit(whole))
    settings = Settings(
        features=FEATURES,
        retrieval=RetrievalConfig(ranker=20, counts=20, popular=10),
        trees=True,
        diversity_weight=0.2,
        diversity_depth=20,
        knots_x=(-6.0, -2.0, 0.0),
        knots_y=(0.001, 0.1, 0.9),
    )
    cascade = Cascade(RankerScorer(ranker), counts, Reranker(settings), tables, filter_seen=True)
    cases = np.sort(np.concatenate([whole.indptr[1:] - 1, whole.indptr[1:] - 2]))
    lists = cascade.lists(whole, cases, cascade.ranker.score(whole, cases), counts.score(whole, cases))
    rows = matrix(lists, tables)
    answers = (lists.candidates == whole.items[cases][:, None])[lists.candidates > 0]
    lightgbm = pytest.importorskip("lightgbm")
    booster = lightgbm.train(
        {"objective": "lambdarank", "num_leaves": 8, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1},
        lightgbm.Dataset(rows.values, answers.astype(int), group=rows.sizes, feature_name=list(FEATURES)),
        num_boost_round=20,
    )
    Reranker(settings, booster.model_to_string()).save(model)
    tables.save(model)

    export.export(data, model, package)
    predictor = MoviesPredictor.open(package)
    questions = [
        {"user_id": np.array([1], dtype=np.int64)},
        {
            "user_id": np.array([4, 999_999], dtype=np.int64),
            "session": np.array([[10, 12, -1], [14, 16, 18]], dtype=np.int64),
            "k": np.array([5], dtype=np.int64),
        },
    ]
    write_golden(package, [Golden(question, predictor.predict(question).outputs) for question in questions])
    Package.seal(
        package,
        workload="movies",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        git_commit="0" * 40,
        pipeline_run="tests",
        data=Snapshot(uri=data.as_uri(), sha256=about.sha256, events=len(events)),
        signature=predictor.signature,
        metrics={},
    )
    return Built(package, data, model, whole.user_ids.tolist(), catalogue)
