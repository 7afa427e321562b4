"""What goes on around items comes from the store, and stays as it was when the store does not answer."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from slipway.errors import FeatureStoreError
from slipway.workloads.movies import itemcounts
from slipway.workloads.movies.predictor import MoviesPredictor


@dataclass
class Row:
    values: dict[str, int | None]


@dataclass
class Store:
    """rows: item → events of 7 and 28 days."""

    rows: dict[int, tuple[int | None, int]] = field(default_factory=dict)
    down: bool = False
    asked: list[int] = field(default_factory=list)

    def read(self, view, ids, now=None):
        assert (view, now is None) == ("item_statistics", False)
        if self.down:
            raise FeatureStoreError("the store is down", "start it")
        self.asked.append(len(ids))
        found = [self.rows.get(one) for one in ids]
        return [one and Row(dict(zip(("item_events_7d", "item_events_28d"), one, strict=True))) for one in found]

    def limit(self, seconds):
        return False

    def read_histories(self, users):
        nothing = np.empty(0, dtype=np.int64)
        return [type("Did", (), {"items": nothing, "times": nothing})() for _ in users]


@pytest.fixture
def predictor(movies_package):
    return MoviesPredictor.open(movies_package.package)


def test_fresh_counts_change_what_is_popular_and_what_is_answered(predictor, movies_package, monkeypatch):
    monkeypatch.setattr(itemcounts, "BATCH", 25)
    items, packaged = predictor.items, predictor.items.now
    user = np.array([movies_package.users[5]])
    before = predictor.predict({"user_id": user})
    store = Store({movies_package.items[7]: (900, 1000), movies_package.items[8]: (None, 2)})
    items.refresh(store)
    assert store.asked == [25, 25, 10]
    assert items.now.popular.order[:2].tolist() == [8, 9]
    windows = items.now.tables.items.at(0)
    assert (windows.short.sum(), windows.long[8], windows.long[9]) == (900, 1000, 2)
    assert items.now.tables.items.until == pytest.approx(time.time() * 1000, abs=60_000)
    after = predictor.predict({"user_id": user})
    assert after.outputs["score"].tolist() != before.outputs["score"].tolist()
    store.rows.clear()  # nobody fills it any more
    items.refresh(store)
    np.testing.assert_array_equal(items.now.popular.order, packaged.popular.order)
    again = predictor.predict({"user_id": user})
    assert again.outputs["score"].tolist() == before.outputs["score"].tolist()


def test_a_store_that_fails_leaves_the_numbers_and_is_said_to_be_late(predictor, movies_package, monkeypatch, caplog):
    monkeypatch.setattr(itemcounts, "EVERY", 0.01)
    monkeypatch.setattr(itemcounts, "RETRY", 0.01)
    store = Store({movies_package.items[7]: (900, 1000)})
    opened = replace(predictor, data_set="here")

    def note():
        return opened.predict({"user_id": np.array([1])}).notes["features"]

    def wait_for(wanted):
        deadline = time.monotonic() + 120
        while note() != wanted or opened.items.now.popular.order[0] != 8:
            assert time.monotonic() < deadline, note()
            time.sleep(0.01)

    opened.connect({"here": store}.__getitem__)
    wait_for("online")
    store.down = True
    wait_for("late")
    assert caplog.text.count("item counts stay as they are: the store is down") == 1
    store.down = False
    wait_for("online")


def test_the_package_knows_when_its_days_end(predictor, movies_package):
    """Whole days up to the midnight before the newest event; the newest day itself is not over."""
    items = predictor.items.now.tables.items
    assert items.until == predictor.recent.until
    first, last = 978_300_760_000 // 86_400_000, items.until // 86_400_000
    assert items.days.max() == last
    within = (items.days >= last - 7) & (items.days < last)
    assert items.at(items.until).short.sum() == within.sum() > 0
    assert items.first[1:].min() // 86_400_000 == first
