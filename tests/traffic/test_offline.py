"""Weeks of history in a lake: the tables' schemas, written once, joined by the attribution like production's own."""

from datetime import timedelta

import orjson
import polars as pl
import pytest

from slipway.lake.lake import Lake
from slipway.workloads.movies import attribution, messages
from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.policy import Popularity
from slipway.workloads.movies.simulator.traffic import TrafficConfig, origin
from traffic import offline

DAYS = 8
SCHEMAS = {"exposures": messages.EXPOSURES, "feedback": messages.FEEDBACK, "events": LAKE_EVENTS}


def gathered() -> Crowd:
    return Crowd.gather(
        TINY, TrafficConfig(users=500, begin=0.0, span=DAYS * 86_400.0, rate=0.01, releases=4, newcomers=0.05)
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("lake").as_uri())
    crowd = gathered()
    policy = Popularity(crowd)
    place = offline.LakePlace(lake, "tiny", offline.run_of(crowd, policy))
    return lake, offline.fill(crowd, policy, place, lambda *_: None), place


def table(lake: Lake, name: str) -> pl.DataFrame:
    area = "processed" if name in ("events", "items") else "logs"
    return lake.table(area, "tiny", name).scan(schema=SCHEMAS.get(name, messages.CATALOGUE)).collect()


def test_the_tables_are_production_s(filled):
    lake, counts, _ = filled
    exposures, feedback, events = (table(lake, name) for name in SCHEMAS)
    assert counts.messages == {
        "items": TINY.items + 4,
        "exposures": exposures.height,
        "feedback": feedback.height,
        "events": events.height - feedback.height,
    }
    assert exposures.height == pytest.approx(0.01 * DAYS * 86_400, rel=0.1)
    assert exposures["request_id"].is_unique().all()
    assert events["event_id"].is_unique().all()
    assert set(feedback["event_id"]) <= set(events["event_id"])
    assert exposures["propensities"].list.min().min() > 0
    begin = origin(TINY, gathered().traffic)
    assert exposures["timestamp"].dt.epoch("ms").min() >= begin
    assert exposures.filter(pl.col("date") != pl.col("timestamp").dt.date()).is_empty()
    assert table(lake, "items").height == TINY.items + 4
    assert lake.table("logs", "tiny", "exposures").partition_by == ["date"]
    assert counts.greedy.requests + counts.explored.requests == exposures.height


def test_all_feedback_finds_its_impression(filled):
    lake, _, _ = filled
    exposures, feedback = table(lake, "exposures"), table(lake, "feedback")
    labelled = attribution.label(exposures.lazy(), feedback.lazy(), timedelta(hours=24)).collect()
    assert labelled.height == 10 * exposures.height
    clicks = feedback.filter(pl.col("action") == "click")
    assert labelled["click"].sum() == clicks.height > 200
    by_position = labelled.group_by("position").agg(pl.col("click").mean()).sort("position")["click"]
    assert by_position[0] > 2 * by_position[9]


def test_the_same_command_again_adds_nothing(filled):
    lake, counts, place = filled
    before = {name: table(lake, name).height for name in (*SCHEMAS, "items")}
    crowd = gathered()
    again = offline.LakePlace(lake, "tiny", offline.run_of(crowd, Popularity(crowd)))
    assert offline.fill(crowd, Popularity(crowd), again, lambda *_: None).messages == counts.messages
    assert {name: table(lake, name).height for name in (*SCHEMAS, "items")} == before
    assert (place.skipped, again.skipped) == (0, 6)


def test_the_stream_says_the_same(filled):
    lake, counts, _ = filled
    said: dict[str, list[bytes]] = {}
    crowd = gathered()

    def publish(kind, batch):
        said.setdefault(kind, []).extend(orjson.dumps(message) for message in batch)

    offline.fill(crowd, Popularity(crowd), offline.StreamPlace(publish), lambda *_: None)
    assert {kind: len(texts) for kind, texts in said.items()} == counts.messages
    now = origin(TINY, crowd.traffic) + DAYS * 86_400_000
    items = table(lake, "items")["item"].to_numpy()
    for kind, texts in said.items():
        cleaned = messages.clean(texts, kind, messages.rules(now, items))
        assert cleaned.bad.is_empty()
        if kind in ("exposures", "feedback"):
            rows = messages.lake_rows(cleaned.good, kind)
            key = messages.KEYS[kind]
            assert rows.sort(key).equals(table(lake, kind).sort(key))
