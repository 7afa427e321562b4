"""A batch is committed once, whatever step fails and how often it comes again: in the lake and in the online store."""

import time

import orjson
import polars as pl
import pytest

from slipway.errors import StorageError
from slipway.lake.lake import Lake
from slipway.workloads.movies import messages
from slipway.workloads.movies.features.state import UserState
from streaming.committer import Committer
from streaming.config import StreamConfig
from streaming.delivery import Delivery

NOW = int(time.time() * 1000) - 1000
GENRES = {10: ["Drama"], 11: ["War", "Drama"], 12: []}


def event(user, item, ago, **more):
    rated = more.pop("rating", None)
    return {
        "event_id": f"{user}-{item}-{ago}",
        "user": user,
        "item": item,
        "timestamp": NOW - ago,
        "action": "click" if rated is None else "rating",
        "rating": rated,
    } | more


def delivery(kind, batch, redelivered=False, first=0):
    texts = [message if isinstance(message, bytes) else orjson.dumps(message) for message in batch]
    places = list(range(first, first + len(texts)))
    return Delivery(kind, f"stream:tests.{kind}", texts, places, NOW, redelivered)


ITEMS = delivery("items", [{"item": item, "title": "Film", "genres": kinds} for item, kinds in GENRES.items()])


@pytest.fixture
def lake(tmp_path):
    return Lake((tmp_path / "objects").as_uri())


@pytest.fixture
def committer(lake, online):
    made = Committer(lake, "tests", online, StreamConfig())
    made.commit([ITEMS])
    return made


def table(lake, area, name):
    found = lake.table(area, "tests", name)
    return found.scan().collect() if found.exists() else pl.DataFrame()


def expected(events):
    state = UserState()
    for one in sorted(events, key=lambda one: one["timestamp"]):
        state.apply([one["item"]], [one["timestamp"]], [one["rating"]], [GENRES[one["item"]]])
    rows = state.rows()
    return rows["user_history"], rows["user_statistics"]


def assert_online(online, user, events):
    history, statistics = expected(events)
    row = online.read_users([user])[0]
    assert row.items.tolist() == history["items"]
    assert row.times.tolist() == history["times"]
    assert {name: row.statistics[name] for name in statistics if name != "event_timestamp"} == {
        name: value for name, value in statistics.items() if name != "event_timestamp"
    }


def crash(monkeypatch, place):
    """Once, before or after the place's own work: `table` (area/name), `online` (view) or none."""
    when, what, name = place
    owner, method = (
        ("slipway.lake.table.Table", "append") if what == "table" else ("slipway.features.online.OnlineStore", "write")
    )
    module, kind = owner.rsplit(".", 1)
    import importlib

    one = getattr(importlib.import_module(module), kind)
    original, done = getattr(one, method), []

    def dying(self, *arguments, **named):
        here = self.uri.endswith(f"/{name}") if what == "table" else arguments[0] == name
        if not here or done:
            return original(self, *arguments, **named)
        done.append(True)
        if when == "after":
            original(self, *arguments, **named)
        raise StorageError("the plug was pulled")

    monkeypatch.setattr(one, method, dying)


CRASHES = [
    (when, what, name)
    for what, names in (
        ("table", ("quarantine", "feedback", "exposures", "events")),
        ("online", ("user_history", "user_statistics")),
    )
    for name in names
    for when in ("before", "after")
]


@pytest.mark.parametrize("restarted", [False, True], ids=["tried-again", "killed"])
@pytest.mark.parametrize("place", CRASHES, ids="-".join)
def test_a_crash_between_any_two_steps_loses_nothing_and_counts_nothing_twice(
    place, restarted, lake, online, committer, monkeypatch, request
):
    user = 1000 + 10 * (2 * CRASHES.index(place) + restarted)  # the online store is shared, its users are not
    before = [event(user, 10, 5000, rating=4.0), event(user, 11, 90_000_000)]
    committer.commit([delivery("events", before)])
    events = [event(user, 12, 100), event(user, 11, 7000, rating=2.5), event(user + 1, 10, 50)]
    feedback = [event(user, 10, 20, request_id="r")]
    exposure = {"request_id": "r", "user": user, "timestamp": NOW - 30, "items": [10, 11]}
    batch = [
        delivery("events", [*events, events[0], b"{", event(user, 13, 5)], first=100),
        delivery("feedback", feedback, first=100),
        delivery("exposures", [exposure, exposure | {"items": []}], first=100),
    ]
    crash(monkeypatch, place)
    with pytest.raises(StorageError, match="plug"):
        committer.commit(batch, patient=False)
    if restarted:
        committer = Committer(lake, "tests", online, StreamConfig())
        batch = [Delivery(d.kind, d.source, d.texts, d.places, d.oldest, redelivered=True) for d in batch]
        outcome = committer.commit(batch, patient=False)
    else:
        outcome = committer.commit(batch, again=True, patient=False)
    committer.commit(
        [Delivery(d.kind, d.source, d.texts, d.places, d.oldest, redelivered=True) for d in batch], patient=False
    )

    told = [*before, *events, *feedback]
    assert sorted(table(lake, "processed", "events")["event_id"]) == sorted(one["event_id"] for one in told)
    assert table(lake, "logs", "feedback")["event_id"].to_list() == [feedback[0]["event_id"]]
    assert table(lake, "logs", "exposures")["request_id"].to_list() == ["r"]
    assert sorted(table(lake, "raw", "quarantine")["reason"]) == ["duplicate", "json", "lists", "unknown_item"]
    assert {orjson.loads(letter)["reason"] for letter in outcome.dead_letters} == {
        "duplicate",
        "json",
        "lists",
        "unknown_item",
    }
    assert_online(online, user, [one for one in told if one["user"] == user])
    assert_online(online, user + 1, [events[2]])
    # What comes next finds the state as it should be.
    later = event(user, 12, 1)
    committer.commit([delivery("events", [later], first=200)])
    assert_online(online, user, [one for one in [*told, later] if one["user"] == user])


def test_what_is_told_anew_is_a_duplicate_and_what_is_delivered_again_is_not(lake, committer):
    one = event(1, 10, 10)
    committer.commit([delivery("events", [one])])
    assert committer.commit([delivery("events", [one], redelivered=True)]).counts.known == 1
    assert table(lake, "raw", "quarantine").is_empty()
    assert committer.commit([delivery("events", [one], first=9)]).counts.rejected == {"duplicate": 1}
    # Kafka cannot say whether it delivered before: what the lake knows was here.
    assert committer.commit([delivery("events", [one], redelivered=None)]).counts.known == 1
    assert table(lake, "processed", "events").height == 1


def test_a_late_event_takes_its_place_in_time_and_is_called_late(lake, online, committer):
    events = [event(2, 10, 1000), event(2, 11, 4 * 3_600_000), event(2, 12, 2000)]
    counts = [committer.commit([delivery("events", [one])]).counts for one in events]
    assert [one.late for one in counts] == [0, 1, 0]
    assert table(lake, "processed", "events").height == 3
    assert online.read_users([2])[0].items.tolist() == [11, 12, 10]


def test_an_event_waits_a_moment_for_its_item_and_no_longer(lake, committer, monkeypatch):
    monkeypatch.setattr("streaming.catalogue.PATIENCE", 0.0)
    batch = [delivery("events", [event(3, 20, 10)])]
    assert committer.commit(batch) is None
    new = delivery("items", [{"item": 20, "title": "New", "genres": ["War"], "released": NOW}])
    assert committer.commit([*batch, new], patient=False).counts.accepted == 2
    assert committer.commit([delivery("events", [event(3, 21, 10)], first=7)], patient=False).counts.rejected == {
        "unknown_item": 1
    }
    items = table(lake, "processed", "items")
    assert items.sort("item")["item"].to_list() == [10, 11, 12, 20]


def test_two_consumers_that_overlap_write_each_event_once(lake, online, committer):
    other = Committer(lake, "tests", online, StreamConfig())
    first, second = event(4, 10, 10), event(4, 11, 5)
    committer.commit([delivery("events", [first])])
    other.commit([delivery("events", [second], first=1)])
    batch = [delivery("events", [second], first=1)]  # the first consumer was only slow, and has it in its hands
    with pytest.raises(StorageError, match="another consumer"):
        committer.commit(batch)
    committer.commit(batch, again=True)
    assert sorted(table(lake, "processed", "events")["event_id"]) == sorted([first["event_id"], second["event_id"]])
    assert_online(online, 4, [first, second])


def test_a_user_who_is_in_the_lake_and_not_online_is_taken_from_the_lake(lake, online, committer):
    old = messages.lake_rows(
        messages.clean([orjson.dumps(event(5, 10, 86_400_000, rating=3.0))], "events", messages.rules(NOW)).good,
        "events",
    )
    committer.events.append(old, partition_by=["date"])  # as a file would bring it
    committer.commit([delivery("events", [event(5, 11, 10)])])
    assert_online(online, 5, [event(5, 10, 86_400_000, rating=3.0), event(5, 11, 10)])


def test_a_compaction_by_anybody_changes_nothing(lake, online, committer):
    events = [event(6, item, 10 + ago) for ago, item in enumerate((10, 11, 12))]
    for place, one in enumerate(events[:2]):
        committer.commit([delivery("events", [one], first=place)])
    committer.compact()
    assert lake.table("processed", "tests", "events").files().height == 1
    committer.commit([delivery("events", [*events[1:]], redelivered=True)])
    assert table(lake, "processed", "events").height == 3
    assert_online(online, 6, events)


def test_shadows_have_a_table_of_their_own_and_teach_nothing(committer, lake, online):
    from slipway.lake.status import status
    from slipway.workloads.movies import production

    shown = {"request_id": "r", "user": 70, "timestamp": NOW, "items": [10, 11]}
    shadow = shown | {"request_id": "mirrored", "items": [12, 11], "revision": "rev-2"}
    clicks = [event(70, 11, -500, request_id="r"), event(70, 12, -600, request_id="mirrored")]
    for again in (False, True):
        batch = [delivery("exposures", [shown]), delivery("shadows", [shadow, shadow]), delivery("feedback", clicks)]
        committer.commit(batch, again=again)
    assert table(lake, "logs", "shadows").select("request_id", "revision").rows() == [("mirrored", "rev-2")]
    assert {t.name: t.rows for t in status(lake, "tests").data_sets[0].tables}["shadows"] == 1
    counts = production.ingest(lake, "tests", production.ProductionConfig(settle_minutes=0), lambda *_: None)
    examples = table(lake, "features", "examples")
    assert examples.select("request_id", "item", "click").sort("item").rows() == [("r", 10, 0), ("r", 11, 1)]
    refused = table(lake, "raw", "quarantine").filter(pl.col("source") == "production:feedback")
    assert refused["reason"].to_list() == ["unknown request"]  # an answer that nobody saw
    assert counts["quarantined"] == 1


def test_a_table_of_an_older_version_gets_the_columns_that_are_new(committer, lake):
    old = [name for name in messages.EXPOSURES if not name.startswith(("session", "features", "stage"))]
    shown = {"request_id": "old", "user": 71, "timestamp": NOW, "items": [10]}
    rows = messages.lake_rows(messages.clean([orjson.dumps(shown)], "exposures", messages.rules(NOW)).good, "exposures")
    lake.table("logs", "tests", "exposures").append(rows.select(old), partition_by=["date"])
    fresh = Committer(lake, "tests", committer.states.online, StreamConfig())
    fresh.commit([delivery("exposures", [shown | {"request_id": "new", "features": "online"}])])
    found = table(lake, "logs", "exposures").sort("request_id", descending=True)
    assert found.select("request_id", "features").rows() == [("old", None), ("new", "online")]
