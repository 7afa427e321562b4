"""What happened since the package changes the answer; a store that is away does not."""

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from slipway.errors import StorageError
from slipway.settings import settings
from slipway.workloads.movies import budget, recent
from slipway.workloads.movies.budget import Budget
from slipway.workloads.movies.predictor import MoviesPredictor

NOBODY = 999_999_999
ROOMY = Budget(features=10, ranker=10, rerank=10, total=30)  # seconds, as a busy machine may need


@dataclass
class Did:
    items: np.ndarray
    times: np.ndarray


@dataclass
class Store:
    """Everything that a user did, by user; asks counts the reads, down makes them fail after `slow` seconds. ends: it
    promises to keep its limit.
    """

    known: dict[int, Did] = field(default_factory=dict)
    down: bool = False
    failure: Exception = field(default_factory=lambda: StorageError("the store is down", "start it"))
    asks: int = 0
    slow: float = 0.0
    ends: bool = False
    thread: int = 0

    def did(self, user: int, items: list[int], times: list[int]) -> None:
        self.known[user] = Did(np.array(items, dtype=np.int64), np.array(times, dtype=np.int64))

    def limit(self, seconds):
        self.slow = min(self.slow, seconds) if self.ends else self.slow
        return self.ends

    def read_histories(self, users):
        self.asks += 1
        self.thread = threading.get_ident()
        if self.down:
            time.sleep(self.slow)
            raise self.failure
        return [self.known.get(user, Did(np.empty(0, np.int64), np.empty(0, np.int64))) for user in users]

    def read(self, view, ids, now=None):
        """Of items nothing is known."""
        return [None] * len(ids)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def predictor(movies_package, store):
    opened = replace(MoviesPredictor.open(movies_package.package), data_set="here")
    opened.connect({"here": store}.__getitem__, ROOMY)
    return opened


def ask(predictor, user, **rest):
    return predictor.predict(
        {name: np.array([value], dtype=np.int64) for name, value in {"user_id": user, **rest}.items()}
    )


def test_only_what_happened_since_the_package_counts(predictor, store, movies_package):
    user, until = movies_package.users[5], predictor.recent.until
    before = ask(predictor, user)
    top = before.outputs["item_id"][0].tolist()
    store.did(user, top[:3], [until - 1, until, until + 1])
    after = ask(predictor, user)
    assert after.notes == {**before.notes, "features": "online"}
    assert not {top[2]} & set(after.outputs["item_id"][0].tolist())  # seen by now
    every = ask(predictor, user, k=60).outputs["item_id"][0].tolist()
    assert set(top[:2]) <= set(every)  # the package knew what was up to its snapshot
    same = MoviesPredictor.open(movies_package.package)
    by_session = ask(same, user, session=[top[2]])
    assert by_session.notes["features"] == "package"
    np.testing.assert_array_equal(after.outputs["item_id"], by_session.outputs["item_id"])
    np.testing.assert_array_equal(after.outputs["score"], by_session.outputs["score"])


def test_what_the_client_sends_as_well_counts_once(predictor, store, movies_package):
    user, until = movies_package.users[6], predictor.recent.until
    first, second = ask(predictor, user).outputs["item_id"][0][:2].tolist()
    store.did(user, [first, second], [until + 1, until + 2])
    both = ask(predictor, user)
    np.testing.assert_array_equal(ask(predictor, user, session=[first, second]).outputs["score"], both.outputs["score"])


def test_somebody_new_is_known_by_what_they_did_since(predictor, store, movies_package):
    assert ask(predictor, NOBODY).notes["fallback"] == "popularity"
    liked = ask(predictor, movies_package.users[5]).outputs["item_id"][0][:3].tolist()
    store.did(NOBODY, [*liked, NOBODY], [predictor.recent.until + n for n in range(1, 5)])
    answer = ask(predictor, NOBODY)
    assert answer.notes["fallback"] == "session"
    assert not set(liked) & set(answer.outputs["item_id"][0].tolist())


@pytest.mark.parametrize("failure", [StorageError("the store is down", "start it"), TypeError("the store is down")])
def test_a_store_that_fails_is_left_alone_for_a_moment(predictor, store, movies_package, monkeypatch, caplog, failure):
    user, store.failure = movies_package.users[5], failure
    store.did(user, [1], [predictor.recent.until + 1])
    store.down, asks = True, store.asks
    answers = [ask(predictor, user).notes for _ in range(budget.PATIENCE + 3)]
    assert {(notes["features"], notes["fallback"]) for notes in answers} == {("late", "none")}
    assert [notes["lost"] for notes in answers] == ["features failed"] * budget.PATIENCE + ["features paused"] * 3
    assert store.asks == asks + budget.PATIENCE
    assert "the store is down" in caplog.text
    monkeypatch.setattr(predictor.guards.features, "_paused_until", 0.0)
    store.down = False
    after = ask(predictor, user).notes
    assert after["features"] == "online"
    assert "lost" not in after


@pytest.mark.parametrize("ends", [True, False])
def test_a_store_that_keeps_its_limit_is_asked_here_and_any_other_is_left_behind(movies_package, ends):
    store = Store(down=True, slow=3.0, ends=ends)
    opened = replace(MoviesPredictor.open(movies_package.package), data_set="here")
    limits = Budget(features=0.1, ranker=10, rerank=10, total=30)
    opened.connect({"here": store}.__getitem__, limits)
    answer = ask(opened, movies_package.users[5])
    assert dict(answer.lost) == {"features": "late"}
    assert 0.1 <= answer.stages["features"] < 3
    assert (store.thread == threading.get_ident()) is ends


def test_a_store_that_cannot_be_opened_is_tried_again(movies_package, monkeypatch, store):
    monkeypatch.setattr(recent, "PATIENCE", 0.01)
    attempts = []

    def open_store(_data_set):
        attempts.append(1)
        if len(attempts) < 3:
            raise StorageError("nothing was applied", "apply it")
        return store

    opened = replace(MoviesPredictor.open(movies_package.package), data_set="here")
    opened.connect(open_store)
    for _ in range(1000):
        if ask(opened, 1).notes["features"] == "online":
            break
        time.sleep(0.01)
    assert len(attempts) >= 3  # those of the item counts among them


def test_without_online_features_feast_is_not_even_imported(movies_package, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    settings.cache_clear()
    caplog.set_level("INFO")
    opened = replace(MoviesPredictor.open(movies_package.package), data_set="nobodys")
    opened.connect()
    assert ask(opened, 1).notes["features"] == "package"
    assert "no online features of nobodys" in caplog.text
    settings.cache_clear()
