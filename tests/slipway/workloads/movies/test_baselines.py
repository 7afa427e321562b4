import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import PackageError
from slipway.evaluation import metrics
from slipway.workloads.movies import baselines, splits
from slipway.workloads.movies.baselines import Counts, CountsConfig, Popularity, RepeatLast, markov
from slipway.workloads.movies.interactions import Interactions

V = 9
HISTORIES = st.lists(st.lists(st.integers(1, V), min_size=1, max_size=12), min_size=1, max_size=6)
CONFIGS = st.builds(
    CountsConfig,
    window=st.integers(1, 5),
    last=st.integers(1, 5),
    decay=st.sampled_from([0.5, 0.8, 1.0]),
    power=st.sampled_from([0.5, 1.0]),
    discount=st.sampled_from([0.0, 0.1]),
)


def interactions(histories: list[list[int]]) -> Interactions:
    lengths = [len(history) for history in histories]
    return Interactions(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for history in histories for item in history], dtype=np.int32),
        times=None,
        user_ids=np.arange(len(histories)),
        item_ids=np.arange(-1, V),
    )


def naive_scores(histories: list[list[int]], config: CountsConfig, history: list[int]) -> list[float]:
    counts: dict[tuple[int, int], float] = defaultdict(float)
    popularity: dict[int, int] = defaultdict(int)
    for items in histories:
        for i, a in enumerate(items):
            popularity[a] += 1
            for distance in range(1, config.window + 1):
                if i + distance < len(items):
                    counts[a, items[i + distance]] += 1 / distance
    steps = [(a, b) for items in histories for a, b in pairwise(items)]
    repeated = sum(a == b for a, b in steps) / max(len(steps), 1)
    for item in range(1, V + 1) if repeated else ():
        counts[item, item] += repeated
    scores = [0.0] * (V + 1)
    for age, a in enumerate(reversed(history[-config.last :])):
        row = {b: c**config.power for (first, b), c in counts.items() if first == a}
        for b, value in row.items():
            scores[b] += config.decay**age * value / sum(row.values()) / max(popularity[b], 1) ** config.discount
    return scores


@given(HISTORIES, CONFIGS, st.lists(st.integers(1, V), max_size=8))
def test_counts_agree_with_a_naive_loop(histories: list[list[int]], config: CountsConfig, history: list[int]) -> None:
    found = Counts.fit(interactions(histories), config).score_histories([history])
    assert found.dtype == np.float32
    assert found[0].tolist() == pytest.approx(naive_scores(histories, config, history), rel=1e-5, abs=1e-7)


@given(HISTORIES, CONFIGS)
def test_a_served_user_gets_the_very_bits_of_the_evaluation(histories: list[list[int]], config: CountsConfig) -> None:
    train = interactions(histories)
    counts = Counts.fit(train, config)
    batch = counts.score(train, train.indptr[1:] - 1)
    alone = np.concatenate([counts.score_histories([h[:-1]]) for h in histories])
    padded = counts.score_histories([np.pad(h[:-1], (0, 30)) for h in histories])
    assert np.array_equal(batch, alone)
    assert np.array_equal(batch, padded)
    with pytest.raises(IndexError, match=str(V)):
        counts.score_histories([[V + 1]])


@given(HISTORIES)
def test_chunks_count_no_pair_twice_and_lose_none(histories: list[list[int]]) -> None:
    whole = Counts.fit(interactions(histories))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "EVENTS_PER_CHUNK", 3)
        chunked = Counts.fit(interactions(histories))
    assert whole.indptr.tolist() == chunked.indptr.tolist()
    assert whole.indices.tolist() == chunked.indices.tolist()
    assert whole.data == pytest.approx(chunked.data, rel=1e-5)


def test_markov_is_the_share_of_direct_successors() -> None:
    found = markov(interactions([[1, 2, 1, 3, 1, 2]]))
    assert found.name == "markov"
    assert found.score_histories([[3, 1]])[0, :4].tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3])


def test_an_unseen_item_is_followed_by_itself_where_people_repeat() -> None:
    repeating = Counts.fit(interactions([[1, 1, 2, 2]]))
    assert repeating.score_histories([[7]])[0].tolist() == [0] * 7 + [1, 0, 0]
    assert not Counts.fit(interactions([[1, 2, 3]])).score_histories([[7]]).any()


def test_a_bounded_row_keeps_its_largest_counts() -> None:
    train = interactions([[1, 2]] * 5 + [[1, 3]] * 3 + [[1, 4]])
    found = Counts.fit(train, CountsConfig(neighbours=2, power=1.0, discount=0.0))
    assert found.score_histories([[1]])[0, :5].tolist() == pytest.approx([0, 0, 5 / 8, 3 / 8, 0])


def test_popularity_counts_the_training_events() -> None:
    train = interactions([[1, 1, 2], [2, 1]])
    found = Popularity.fit(train)
    assert found.counts[:4].tolist() == [0, 3, 2, 0]
    assert found.score(train, np.array([1, 4]))[1].tolist() == found.counts.tolist()


def test_repeat_last_ranks_a_history_by_recency() -> None:
    whole = interactions([[3, 1, 3, 2, 9]])
    (scores,) = RepeatLast().score(whole, np.array([4]))
    assert np.argsort(-scores, kind="stable")[:3].tolist() == [2, 3, 1]
    assert scores[0] == 0
    assert (scores[4:] == 0).all()


def test_saved_counts_come_back(tmp_path: Path) -> None:
    fitted = Counts.fit(interactions([[1, 2, 3], [2, 3, 4]]), CountsConfig(window=3, decay=0.6))
    fitted.save(tmp_path / "counts.npz")
    loaded = Counts.load(tmp_path / "counts.npz")
    assert loaded.config == fitted.config
    assert np.array_equal(loaded.score_histories([[1, 2]]), fitted.score_histories([[1, 2]]))
    assert os.listdir(tmp_path) == ["counts.npz"]  # noqa: PTH208
    with np.load(tmp_path / "counts.npz", allow_pickle=False) as arrays:
        assert {"indptr": "int64", "indices": "int32", "data": "float32"}.items() <= {
            name: str(arrays[name].dtype) for name in arrays.files
        }.items()


def test_damaged_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    with pytest.raises(PackageError, match="cannot be read"):
        Counts.load(path)
    fitted = Counts.fit(interactions([[1, 2, 3], [2, 3, 4]]))
    fitted.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PackageError, match="cannot be read"):
        Counts.load(path)
    path.write_bytes(b"")
    with pytest.raises(PackageError, match="cannot be read"):
        Counts.load(path)
    Counts(fitted.indptr, fitted.indices + np.int32(V), fitted.data, fitted.config).save(path)
    with pytest.raises(PackageError, match="do not fit"):
        Counts.load(path)
    np.savez(path, indptr=np.array([object()]))
    with pytest.raises(PackageError, match="cannot be read"):
        Counts.load(path)


@pytest.mark.data
def test_counts_reach_their_figure_on_ml_1m() -> None:
    """NDCG@10 of at least 0.165: leave-one-out, full ranking, seen filtered (docs/evidence)."""
    folder = Path(os.environ.get("SLIPWAY_TEST_DATA", Path(__file__).parents[5] / "shared" / "data"))
    path = folder / "ml-1m" / "ml-1m-sas.txt"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = np.loadtxt(path, dtype=np.int64)
    frame = pl.DataFrame({"user": rows[:, 0], "item": rows[:, 1], "source_row": np.arange(len(rows))})
    whole = Interactions.from_events(frame.with_columns(timestamp=pl.lit(None, pl.Datetime("ms", "UTC"))))
    split = splits.leave_one_out(whole)
    reached = {}
    for model in (Popularity.fit(split.train), markov(split.train), Counts.fit(split.train)):
        ndcg = []
        for user, position in enumerate(split.test):
            seen = whole.items[whole.indptr[user] : position].astype(np.int64)
            target = whole.items[[position]].astype(np.int64)
            scores = model.score(whole, np.array([position]))
            found = metrics.rank(scores, target, 10, (np.zeros(len(seen), dtype=np.int64), seen))
            ndcg.append(metrics.ndcg(found.ranks, 10)[0])
        reached[model.name] = np.mean(ndcg)
    assert reached["popularity"] < reached["markov"] < reached["counts"]
    assert reached["counts"] >= 0.165
