"""The predictor of a real package: who gets which answer, and what it refuses."""

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import PackageError, RequestError
from slipway.workloads.movies.itemcounts import FreshItems, ItemCounts
from slipway.workloads.movies.predictor import MoviesPredictor
from slipway.workloads.movies.recommender import LABELS
from slipway.workloads.movies.rerank.items import Popularity

NOBODY = 999_999_999
RERANKER = ("reranker.json", "reranker.onnx", "item_vectors.npy", "item_table.npz", "combine.json")


def tensors(**inputs):
    return {name: np.array(value, dtype=np.int64) for name, value in inputs.items()}


@pytest.fixture(scope="module")
def predictor(movies_package):
    return MoviesPredictor.open(movies_package.package)


def with_parts(predictor, **parts):
    """The same predictor with some of its recommender's parts replaced."""
    return replace(predictor, recommender=replace(predictor.recommender, **parts))


def history(predictor, user):
    """Source ids."""
    (position,) = predictor.histories.index(np.array([user]))
    return predictor.catalogue.item_ids[predictor.histories.of(position)].tolist()


def test_known_user_by_ranker_and_counts(predictor, movies_package):
    user = movies_package.users[5]
    answer = predictor.predict(tensors(user_id=[user]))
    assert {name: (t.shape, t.dtype.kind) for name, t in answer.outputs.items()} == {
        "item_id": ((1, 10), "i"),
        "score": ((1, 10), "f"),
        "source": ((1, 10), "O"),
        "title": ((1, 10), "O"),
    }
    assert answer.notes["fallback"] == "none"
    assert answer.notes["package_version"] == predictor.version
    items, scores = answer.outputs["item_id"][0].tolist(), answer.outputs["score"][0]
    assert not set(items) & set(history(predictor, user))
    assert len(set(items)) == 10
    assert ((scores > 0) & (scores < 1)).all()  # probabilities; their order is also of what stands before
    assert set(answer.outputs["source"][0]) <= set(LABELS[1:])
    assert answer.outputs["title"][0].tolist() == [f"Film № {item}" for item in items]


def test_session_is_appended_and_filtered(predictor, movies_package):
    user = movies_package.users[5]
    before = predictor.predict(tensors(user_id=[user])).outputs["item_id"][0]
    session = before[:2].tolist()
    after = predictor.predict(tensors(user_id=[user], session=[session])).outputs["item_id"][0]
    assert not set(session) & set(after.tolist())
    flat = predictor.predict(tensors(user_id=[user], session=session)).outputs["item_id"][0]
    padded = predictor.predict(tensors(user_id=[user], session=[[*session, -1, -1]])).outputs["item_id"][0]
    assert flat.tolist() == padded.tolist() == after.tolist()
    reversed_order = predictor.predict(tensors(user_id=[user], session=[session[::-1]])).outputs["score"][0]
    assert (
        reversed_order.tolist()
        != predictor.predict(tensors(user_id=[user], session=[session])).outputs["score"][0].tolist()
    )


def test_the_graph_is_fed_what_training_saw(predictor, movies_package):
    """Oldest first, history before session, the newest max_len only; everything seen; the user's row, or <unk>."""
    fed = []

    class Spy:
        def run(self, names, feed):
            fed.append(feed)
            return predictor.recommender.graph.run(names, feed)

    spying = with_parts(predictor, graph=Spy())
    for user, session in [(movies_package.users[7], [10, 12, 14]), (NOBODY, movies_package.items)]:
        spying.predict(tensors(user_id=[user], session=[session]))
        past = history(predictor, user) if user != NOBODY else []
        whole = predictor.catalogue.index(np.array([*past, *session]))
        feed = fed.pop()
        assert feed["items"].tolist() == [whole[-12:].tolist()]
        assert feed["seen"].tolist() == [whole.tolist()]
        assert feed["user"].tolist() == [8 if user != NOBODY else 0]
        unseen = np.setdiff1d(np.arange(1, predictor.catalogue.n_items + 1), whole)
        assert set(feed["candidates"][0].tolist()) - {0} <= set(unseen.tolist())


def test_unknown_user_by_session_or_popularity(predictor):
    session = predictor.predict(tensors(user_id=[NOBODY], session=[[10, 12, 14]]))
    assert session.notes["fallback"] == "session"
    assert {part for source in session.outputs["source"][0] for part in source.split("+")} == {
        "ranker",
        "counts",
        "popular",
    }
    assert not {10, 12, 14} & set(session.outputs["item_id"][0].tolist())
    nothing = predictor.predict(tensors(user_id=[NOBODY]))
    assert nothing.notes["fallback"] == "popularity"
    assert set(nothing.outputs["source"][0]) == {"popular"}
    scores = nothing.outputs["score"][0]
    assert scores.tolist() == sorted(predictor.catalogue.popularity[1:].tolist(), reverse=True)[:10]


def test_items_outside_the_catalogue_are_ignored_and_counted(predictor):
    mixed = predictor.predict(tensors(user_id=[NOBODY], session=[[10, 11, 5_000_000_000, 12]]))
    clean = predictor.predict(tensors(user_id=[NOBODY], session=[[10, 12]]))
    assert mixed.notes["ignored_session_items"] == "2"
    assert mixed.outputs["item_id"].tolist() == clean.outputs["item_id"].tolist()
    none = predictor.predict(tensors(user_id=[NOBODY], session=[[11, 13]]))
    assert none.notes == {**none.notes, "fallback": "popularity", "ignored_session_items": "2"}


def test_a_row_does_not_depend_on_its_batch(predictor, movies_package):
    users = [*movies_package.users[:30], NOBODY]
    sessions = np.full((31, 3), -1)
    sessions[10:, 0] = 20
    batch = predictor.predict(tensors(user_id=users, session=sessions, k=[7]))
    assert batch.notes["fallback"] == "session"
    for row, user in enumerate(users):
        alone = predictor.predict(tensors(user_id=[user], session=sessions[row], k=[7]))
        assert alone.outputs["item_id"][0].tolist() == batch.outputs["item_id"][row].tolist()
        np.testing.assert_allclose(alone.outputs["score"][0], batch.outputs["score"][row], atol=1e-5)


def test_short_answers_end_with_nothing(predictor, movies_package):
    everything = movies_package.items
    few = predictor.predict(tensors(user_id=[NOBODY], session=[everything[:-3]], k=[5]))
    assert few.outputs["item_id"][0, 3:].tolist() == [-1, -1]
    assert few.outputs["source"][0].tolist() == ["ranker+counts+popular"] * 3 + ["none"] * 2
    assert few.outputs["score"][0, 3:].tolist() == [0, 0]
    assert few.outputs["title"][0, 3:].tolist() == ["", ""]
    for user in (NOBODY, movies_package.users[0]):
        beyond = predictor.predict(tensors(user_id=[user], k=[100]))
        assert beyond.outputs["item_id"].shape == (1, 100)
        assert beyond.outputs["item_id"][0, len(everything) :].tolist() == [-1] * (100 - len(everything))


class Broken:
    """A graph that fails, or whose numbers are all the same one."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, names, feed):
        if isinstance(self.answer, Exception):
            raise self.answer
        if names == ["score"]:
            return [np.full((len(feed["rows"]), 1), self.answer, dtype=np.float32)]
        rows, k = len(feed["items"]), int(feed["k"][0])
        item, log_p = np.ones((rows, k), dtype=np.int64), np.full((rows, k), self.answer, dtype=np.float32)
        return [item, log_p, np.full(feed["candidates"].shape, self.answer, dtype=np.float32)]


@pytest.mark.parametrize("answer", [RuntimeError("broken graph"), np.nan, np.inf])
def test_a_failing_ranker_leaves_the_counts(predictor, movies_package, answer):
    failing = with_parts(predictor, graph=Broken(answer))
    user = movies_package.users[3]
    got = failing.predict(tensors(user_id=[user, NOBODY], k=[100]))
    assert got.notes["fallback"] == "counts"
    sources = got.outputs["source"][0].tolist()
    seen = history(predictor, user)
    unseen = len(movies_package.items) - len(seen)
    assert {"counts", "none"} <= set(sources) <= {"counts", "popular", "none"}
    assert sources.count("none") == 100 - unseen
    assert not set(seen) & set(got.outputs["item_id"][0].tolist())
    assert set(got.outputs["source"][1].tolist()) == {"popular", "none"}
    (position,) = predictor.histories.index(np.array([user]))
    counts = predictor.recommender.counts.score_histories([predictor.histories.of(position)])[0]
    counted = np.argsort(-np.where(np.isin(predictor.catalogue.item_ids, seen), -1, counts)[1:], kind="stable") + 1
    assert got.outputs["item_id"][0, 0] == predictor.catalogue.item_ids[counted[0]]


def test_a_failing_real_graph_leaves_the_counts(predictor, movies_package):
    """ONNX Runtime itself refuses: the history is longer than the graph's positions."""
    failing = with_parts(predictor, max_len=10_000)
    longest = max(movies_package.users, key=lambda user: len(history(predictor, user)))
    got = failing.predict(tensors(user_id=[longest], session=[[10] * 200]))
    assert got.notes["fallback"] == "counts"


@pytest.mark.parametrize("answer", ["other trees", np.nan, np.inf])
def test_failing_trees_leave_ranker_and_counts(predictor, movies_package, answer):
    """other trees: a real graph, of other inputs."""
    broken = predictor.recommender.graph if answer == "other trees" else Broken(answer)
    failing = with_parts(predictor, forest=replace(predictor.recommender.forest, graph=broken))
    users = movies_package.users[:20]
    got, whole = failing.predict(tensors(user_id=users)), predictor.predict(tensors(user_id=users))
    assert (got.notes["fallback"], whole.notes["fallback"]) == ("combination", "none")
    assert (got.outputs["item_id"] != whole.outputs["item_id"]).any()
    assert ((got.outputs["score"] > 0) & (got.outputs["score"] < 1)).all()
    plain = with_parts(predictor, forest=replace(predictor.recommender.forest, graph=None))
    np.testing.assert_array_equal(got.outputs["item_id"], plain.predict(tensors(user_id=users)).outputs["item_id"])


def test_a_feature_that_is_not_finite_leaves_ranker_and_counts(predictor, movies_package):
    now = predictor.items.now
    windows = Popularity(*(np.full(len(predictor.catalogue.item_ids), np.inf, dtype=np.float32) for _ in range(2)))
    fresh = FreshItems.of(now.tables.items, windows, now.tables.items.until)
    items = ItemCounts(replace(now.tables, items=fresh), predictor.catalogue.item_ids)
    vars(items.now.tables.items)["lately"] = np.full((len(predictor.catalogue.item_ids), 4), np.inf, np.float32)
    got = replace(predictor, items=items).predict(tensors(user_id=movies_package.users[:5]))
    assert got.notes["fallback"] == "combination"


def test_repeats_stay_where_the_source_repeats(predictor, movies_package):
    repeating = with_parts(predictor, filter_seen=False)
    got = repeating.predict(tensors(user_id=[NOBODY], session=[movies_package.items], k=[5]))
    assert (got.notes["fallback"], "none" in got.outputs["source"][0]) == ("session", False)


def test_concurrent_requests_do_not_mix(predictor, movies_package):
    users = movies_package.users
    barrier = threading.Barrier(4)

    def ask(part):
        barrier.wait()
        return [predictor.predict(tensors(user_id=[u])).outputs["item_id"].tolist() for u in users[part::4]]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, range(4)))
    for part, answers in enumerate(together):
        assert answers == [predictor.predict(tensors(user_id=[u])).outputs["item_id"].tolist() for u in users[part::4]]


ids = st.integers(-3, 400) | st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=200, deadline=None)
@given(
    users=st.lists(ids, max_size=4),
    session=st.none() | st.lists(st.lists(ids, max_size=5), max_size=4),
    k=st.none() | st.lists(st.integers(-1, 120), max_size=2),
)
def test_any_integers_get_an_answer_or_a_request_error(predictor, users, session, k):
    inputs = {"user_id": np.array(users, dtype=np.int64)}
    if session is not None:
        width = max(map(len, session), default=0)
        rows = [row + [-1] * (width - len(row)) for row in session]
        inputs["session"] = np.array(rows, dtype=np.int64).reshape(len(rows), width)
    if k is not None:
        inputs["k"] = np.array(k, dtype=np.int64)
    try:
        answer = predictor.predict(inputs)
    except RequestError:
        return
    items, sources = answer.outputs["item_id"], answer.outputs["source"]
    assert items.shape == (len(users), k[0] if k else 10)
    assert np.isfinite(answer.outputs["score"]).all()
    assert ((items == -1) == (sources == "none")).all()
    for row in items:
        assert len(set(row[row >= 0].tolist())) == (row >= 0).sum()


@pytest.mark.parametrize("name", ["ranker.onnx", "counts.npz", "items.parquet", "users.npy", "model.json", *RERANKER])
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_unusable_files_are_a_package_error(movies_package, tmp_path, name, content):
    folder = shutil.copytree(movies_package.package, tmp_path / "package")
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(PackageError):
        MoviesPredictor.open(folder)


def test_a_package_of_before_the_reranker_is_refused(movies_package, tmp_path):
    folder = shutil.copytree(movies_package.package, tmp_path / "package")
    for name in RERANKER:
        (folder / name).unlink()
    with pytest.raises(PackageError, match="before there was a re-ranker") as refused:
        MoviesPredictor.open(folder)
    assert "train and package again" in refused.value.remedy


def test_files_of_two_packages_do_not_mix(movies_package, tmp_path):
    folder = shutil.copytree(movies_package.package, tmp_path / "package")
    np.save(folder / "popularity.npy", np.ones(5, dtype=np.float32))
    with pytest.raises(PackageError, match=r"popularity\.npy has 4"):
        MoviesPredictor.open(folder)


def test_imports_no_training_library(movies_package):
    code = f"""
import sys
import numpy as np
from pathlib import Path
from slipway.workloads.movies.predictor import MoviesPredictor
MoviesPredictor.open(Path({str(movies_package.package)!r})).predict({{"user_id": np.array([1])}})
heavy = ("torch", "ray", "mlflow", "kfp", "kserve", "lightgbm", "sklearn", "pandas")
print([name for name in heavy if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
