"""One behaviour on SQLite and on Redis: what is read, what may be overwritten, what happens when it is away."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from slipway.errors import FeatureStoreError, UnknownViewError
from slipway.features import places
from slipway.features.online import OnlineStore
from slipway.workloads.movies.features.state import UserState


@pytest.fixture(params=["sqlite", "redis"])
def store(request, home):
    repo = request.getfixturevalue("redis_repository") if request.param == "redis" else None
    return OnlineStore.open(repo)


def rows_of(user, times, state=None):
    state = state or UserState()
    state.apply(list(range(len(times))), times, [4.0] * len(times), [["War"]] * len(times))
    return {view: {"user": user, **row} for view, row in state.rows().items()}


def test_rows_come_back_as_written_and_the_state_goes_on_from_them(store, now):
    last = int(now.timestamp() * 1000) - 250
    written = rows_of(501, [last - 86_400_000, last - 5, last])
    for view, row in written.items():
        store.write(view, [row], created=now)
    row, nobody = store.read_users([501, 999_999])
    assert row.items.tolist() == [0, 1, 2]
    assert row.items.dtype == row.times.dtype == np.int64
    assert row.times.tolist() == written["user_history"]["times"]
    assert row.statistics["events_7d"] == 3
    assert row.statistics["mean_rating_28d"] == 4.0
    assert row.fresh_at == datetime.fromtimestamp(last / 1000, UTC)
    assert UserState.from_row(row.history, row.statistics).rows() == UserState.from_row(written["user_history"]).rows()
    assert (nobody.user, nobody.items.tolist(), nobody.history, nobody.statistics) == (999_999, [], None, None)
    assert nobody.fresh_at is None
    assert store.read_users([]) == []


def test_an_older_row_never_replaces_a_newer_one_not_even_by_a_millisecond(store, now):
    def write(at, events, *more):
        rows = [{"user": 502, "event_timestamp": at, "events_7d": events}, *more]
        store.write("user_statistics", rows, created=now)
        return store.read("user_statistics", [502])[0].values["events_7d"]

    moment = now - timedelta(seconds=5)
    assert write(moment + timedelta(milliseconds=700), 1) == 1
    assert write(moment + timedelta(milliseconds=699), 2) == 1
    assert write(moment - timedelta(days=1), 3) == 1
    # A late event changes the state, and not the time of the newest event.
    assert write(moment + timedelta(milliseconds=700), 4) == 4
    newer = {"user": 502, "event_timestamp": moment + timedelta(milliseconds=900), "events_7d": 5}
    assert write(moment + timedelta(milliseconds=800), 6, newer) == 5


def test_what_is_older_than_the_ttl_is_not_there(store, now):
    old = rows_of(503, [int((now - timedelta(days=27, hours=20)).timestamp() * 1000)])
    for view, row in old.items():
        store.write(view, [row], created=now)
    assert store.read_users([503])[0].statistics["events_28d"] == 1
    later = store.read_users([503], now=now + timedelta(hours=5))[0]
    assert later.statistics is None
    assert later.items.tolist() == [0]  # the history has no end


def test_what_cannot_be_asked_or_written_says_why(store, now):
    with pytest.raises(
        UnknownViewError, match=r"no feature view 'nope'; there are: item_profile, item_statistics, user"
    ):
        store.read("nope", [1])
    with pytest.raises(UnknownViewError):
        store.write("nope", [], created=now)
    good = {"user": 504, "event_timestamp": now, "events_7d": 1}
    for wrong, message in (
        ({"events_7d": "many"}, "does not fit"),
        ({"event_timestamp": now.replace(tzinfo=None)}, "no time zone"),
        ({"extra": 1}, "no field extra"),
    ):
        with pytest.raises(FeatureStoreError, match=message):
            store.write("user_statistics", [good, {**good, **wrong}], created=now)
    assert store.read("user_statistics", [504]) == [None]  # nothing of a batch with a bad row


def test_many_threads_read_while_one_writes(store, now):
    last = int(now.timestamp() * 1000)
    failed = []

    def read():
        try:
            for _ in range(40):
                for row in store.read_users([505, 506]):
                    assert row.items.tolist() == list(range(len(row.items)))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(1, 30):
        store.write("user_history", [rows_of(505, list(range(last, last + n)))["user_history"]], created=now)
    for thread in threads:
        thread.join()
    assert not failed
    assert len(store.read_users([505])[0].items) == 29


def test_a_store_that_is_away_is_one_clear_error_at_once_and_comes_back(home, redis_repository, redis_server, now):
    port, start, kill = redis_server
    store = OnlineStore.open(redis_repository)
    store.write("user_history", [rows_of(507, [1_000])["user_history"]], created=now)
    kill()
    for act in (lambda: store.read_users([507]), lambda: store.write("user_history", [], now) or store.read_users([1])):
        took = []
        for _ in range(3):  # a busy machine may be slow at one of them
            begun = time.monotonic()
            with pytest.raises(FeatureStoreError, match="could not be read"):
                act()
            took.append(time.monotonic() - begun)
        assert min(took) < 1.5
    start(port)
    assert store.read_users([507])[0].items.tolist() == []  # it kept nothing, and answers
    store.write("user_history", [rows_of(507, [1_000])["user_history"]], created=now)
    assert store.read_users([507])[0].items.tolist() == [0]


def test_a_broken_file_and_a_missing_repository_are_clear_errors(home, tmp_path):
    with pytest.raises(FeatureStoreError, match=r"there is no .*feature_store.yaml"):
        OnlineStore.open(tmp_path)
    (places.folder("broken") / "online.db").write_bytes(b"this is no database" * 500)
    with pytest.raises(FeatureStoreError, match="not a database"):
        OnlineStore.open(data_set="broken")


def test_data_sets_do_not_mix(home, now):
    one, other = OnlineStore.open(), OnlineStore.open(data_set="other")
    one.write("user_history", [rows_of(508, [1_000])["user_history"]], created=now)
    assert other.read_users([508])[0].history is None
    assert one.read_users([508])[0].items.tolist() == [0]


@pytest.mark.slow
def test_feast_comes_without_torch_and_leaves_the_metrics_of_the_process_alone():
    code = (
        "import os, sys; from slipway.features import lean; lean.feast();"
        "assert 'torch' not in sys.modules and 'PROMETHEUS_MULTIPROC_DIR' not in os.environ;"
        "import prometheus_client.values as v; assert v.ValueClass.__name__ == 'MutexValue', v.ValueClass;"
        "import importlib.util; assert importlib.util.find_spec('torch')"  # whoever needs it gets it
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
