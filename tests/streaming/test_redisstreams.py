"""The consumer on a real Redis: what was left pending, outages, poisoned messages, trimming."""

import logging
import threading
import time

import httpx
import orjson
import pytest
from redis import Redis

from slipway.errors import BusyError, StreamError
from slipway.lake.lake import Lake
from slipway.settings import settings
from slipway.stream import DATA
from streaming import application, embedded
from streaming.config import StreamConfig
from streaming.producer import Publisher

FAST = StreamConfig(compact_every_s=0.3, claim_after_s=0.2, trim_every_s=0.1, interval_ms=20, wait_s=240)


@pytest.fixture(autouse=True)
def one_online_store(online, home, monkeypatch):
    """Feast's registry is made once; each test has users of its own."""
    monkeypatch.setattr("slipway.features.online.OnlineStore.open", lambda **_: online)


def event(number, user):
    return {
        "event_id": f"{user}-{number}",
        "user": user,
        "item": number,
        "timestamp": int(time.time() * 1000) - number - 1,
        "action": "click",
    }


def rows(data_set, area="processed", name="events"):
    table = Lake().table(area, data_set, name)
    return table.scan().collect() if table.exists() else None


def quiet(*_):
    """Progress that nobody looks at."""


def ask(port, path):
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, trust_env=False)
    return answer.status_code, answer.text


def eventually(true, limit=120.0):
    until = time.monotonic() + limit
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_pending_messages_of_dead_consumers_poison_and_trimming(redis_url):
    """One long drain, as opening a stream costs: each part of it is named below."""
    with Publisher(redis_url, "a") as publisher, Redis.from_url(redis_url) as client:
        publisher.publish("events", [event(number, 11) for number in range(50)])
        client.xgroup_create("a.events", "slipway", id="0")
        # One consumer read and died, another read and died on another machine, and a message was deleted meanwhile.
        import socket

        ours = client.xreadgroup("slipway", socket.gethostname(), {"a.events": ">"}, count=10)
        client.xreadgroup("slipway", "elsewhere", {"a.events": ">"}, count=10)
        client.xdel("a.events", ours[0][1][3][0])
        client.xadd("a.events", {"no": "field of ours"})
        client.xadd("a.events", {DATA: b"\xff"})
        publisher.publish("feedback", [event(1, 12) | {"request_id": "r"}, b"[]"])
        publisher.publish("exposures", [{"request_id": "r", "user": 12, "timestamp": 1_700_000_000_000, "items": [1]}])
        publisher.publish("items", [{"item": item, "title": "Film", "genres": []} for item in range(50)])
        counts = application.drain(redis_url, "a", quiet, FAST)

        assert rows("a")["event_id"].n_unique() == rows("a").height == 49 + 1  # and the feedback
        assert rows("a", name="items").height == 50
        assert rows("a", "logs", "exposures").height == rows("a", "logs", "feedback").height == 1
        assert sorted(rows("a", "raw", "quarantine")["reason"]) == ["encoding", "json", "json"]
        assert dict(counts.rejected) == {"json": 2, "encoding": 1}
        assert counts.redelivered == 19
        letters = [orjson.loads(fields[DATA]) for _, fields in client.xrange("a.dead-letters")]
        assert sorted((letter["topic"], letter["reason"]) for letter in letters) == [
            ("a.events", "encoding"),
            ("a.events", "json"),
            ("a.feedback", "json"),
        ]
        assert client.xpending("a.events", "slipway")["pending"] == 0
        # Another reader's group holds the stream; what it has read may go.
        client.xgroup_create("a.events", "audit", id="0")
        application.drain(redis_url, "a", quiet, FAST)
        assert client.xlen("a.events") == 51


def test_a_broker_that_is_away_at_the_start_and_killed_in_the_middle(home, free_port, caplog):
    port = free_port()
    url = f"redis://localhost:{port}/0"
    metrics_port = free_port()
    folder, config = home / "broker", FAST.model_copy(update={"metrics_port": metrics_port})
    told = threading.Event()
    found = []

    def consume():
        found.append(application._run(url, "b", config, until))

    async def until(consumer):
        import asyncio

        while not told.is_set():
            await asyncio.sleep(0.05)
        while await consumer.left() != 0:
            await asyncio.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "slipway.streaming"):
        patch.setattr(embedded, "LOCAL", set())  # nobody starts one for us
        consumer = threading.Thread(target=consume)
        consumer.start()
        eventually(lambda: "waiting up to" in caplog.text)
        broker = embedded.start(folder, port)
        with Publisher(url, "b") as publisher:
            publisher.publish("events", [event(number, 21) for number in range(100)])
            eventually(lambda: rows("b") is not None and rows("b").height == 100)
            broker.kill()
            broker.wait()
            eventually(lambda: "nothing is lost" in caplog.text)
            eventually(lambda: ask(metrics_port, "/health")[0] == 503)
            broker = embedded.start(folder, port)
            publisher.publish("events", [event(number, 21) for number in range(100, 300)])
            eventually(lambda: "answers again" in caplog.text)
            eventually(lambda: "slipway_stream_accepted_total 300.0" in ask(metrics_port, "/metrics")[1])
            assert ask(metrics_port, "/health")[0] == 200
            with Redis(port=port) as client:
                client.flushall()  # a broker that comes back without what it had
            publisher.publish("events", [event(number, 21) for number in range(300, 350)])
            eventually(lambda: rows("b").height == 350)
            told.set()
            consumer.join(240)
        broker.terminate()
        broker.wait()
    assert not consumer.is_alive()
    assert rows("b")["event_id"].n_unique() == rows("b").height == 350
    assert "answers again" in caplog.text
    assert sum("waiting up to" in line for line in caplog.messages) == 1  # one clear line, not one per try


def test_a_lake_that_is_down_holds_the_stream_and_loses_nothing(redis_url, caplog):
    with Publisher(redis_url, "c") as publisher, Redis.from_url(redis_url) as client:
        publisher.publish("events", [event(number, 31) for number in range(20)])
        place = settings().home / "objects"
        place.write_text("a file where the lake should be")
        consumer = threading.Thread(target=application.drain, args=(redis_url, "c", quiet, FAST))
        with caplog.at_level(logging.WARNING, "slipway.streaming"):
            consumer.start()
            eventually(lambda: "trying again until it works" in caplog.text)
            with pytest.raises(BusyError, match="a consumer of c"):
                application.drain(redis_url, "c", quiet, FAST)
            assert client.xpending("c.events", "slipway")["pending"] == 20
            place.unlink()
            consumer.join(240)
        assert not consumer.is_alive()
    assert rows("c").height == 20
    assert caplog.text.count("trying again until it works") == 1


def test_no_broker_is_a_clear_error(free_port):
    url = f"redis://10.255.255.1:{free_port()}/0"
    with pytest.raises(StreamError, match="does not answer"):
        application.drain(url, "d", quiet, StreamConfig(wait_s=0))
    with pytest.raises(StreamError, match="1 messages could not be put"):
        Publisher(f"redis://127.0.0.1:{free_port()}/0", "d", timeout=0.2).publish("events", [{}])
