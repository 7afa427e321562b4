"""The same consumer on Kafka's protocol: librdkafka's mock cluster, which is no broker of the real kind."""

import time
from collections.abc import Iterator

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from slipway.lake.lake import Lake
from streaming import application
from streaming.config import StreamConfig
from streaming.producer import Publisher


@pytest.fixture
def kafka() -> Iterator[str]:
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2})
    broker = next(iter(cluster.list_topics(timeout=60).brokers.values()))
    yield f"kafka://{broker.host}:{broker.port}"
    cluster.flush(1)


def event(number):
    return {
        "event_id": f"kafka-{number}",
        "user": 41 + number % 3,
        "item": number,
        "timestamp": int(time.time() * 1000) - number - 1,
        "action": "click",
    }


def test_what_is_produced_is_in_the_lake_once_also_when_offsets_were_not_committed(kafka, home, online, monkeypatch):
    monkeypatch.setattr("slipway.features.online.OnlineStore.open", lambda **_: online)
    config = StreamConfig(interval_ms=20)
    messages = [event(number) for number in range(200)]
    with Publisher(kafka, "k") as publisher:
        publisher.publish("events", [*messages, b"{"])
        publisher.publish("feedback", [event(1000) | {"request_id": "r"}])
        counts = application.drain(kafka, "k", lambda *_: None, config)
        assert (counts.accepted, dict(counts.rejected)) == (201, {"json": 1})
        letters = _letters(kafka)
        # As after the death of a consumer that had committed no offset (the mock cluster cannot set one back).
        monkeypatch.setattr("streaming.kafkatopics.GROUP", "another")
        again = application.drain(kafka, "k", lambda *_: None, config)
    events = Lake().table("processed", "k", "events").scan().collect()
    assert events["event_id"].n_unique() == events.height == 201
    assert Lake().table("raw", "k", "quarantine").scan().collect().height == 1
    assert [letter["reason"] for letter in letters] == ["json"]
    # A group that is still joining may be given some messages twice; each of them is known.
    assert again.known == again.messages >= 202
    wanted = sorted((one for one in messages if one["user"] == 41), key=lambda one: one["timestamp"])
    assert online.read_users([41])[0].times.tolist() == [one["timestamp"] for one in wanted]


def _letters(url):
    reader = Consumer({"bootstrap.servers": url.removeprefix("kafka://"), "group.id": "test", "log_level": 2})
    parts = reader.list_topics(timeout=60).topics["k.dead-letters"].partitions
    reader.assign([TopicPartition("k.dead-letters", part, 0) for part in parts])
    found = reader.consume(1, timeout=60)
    reader.close()
    return [orjson.loads(message.value()) for message in found]
