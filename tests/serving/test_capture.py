"""What is captured arrives, whatever happens to the broker or the server; and nobody waits for it."""

import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from slipway.stream import DATA, topic
from slipway.workloads.movies.messages import EXPOSURES


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Broker:
    """A Redis that can be frozen, on a port of its own."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        from streaming.embedded import start

        self.process = start(self.folder, self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def said(self, kind: str, data_set: str = "simulated") -> list[Any]:
        with Redis.from_url(self.url) as client:
            return [orjson.loads(fields[DATA]) for _, fields in client.xrange(topic(data_set, kind))]

    def wait(self, kind: str, count: int, seconds: float = 120.0) -> list[Any]:
        deadline = time.monotonic() + seconds
        while len(said := self.said(kind)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return said


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("redis"), free_port())
    broker.start()
    yield broker
    broker.signal(signal.SIGCONT)
    broker.process.terminate()
    broker.process.wait(60)


@pytest.fixture
def clean(broker: Broker) -> Broker:
    with Redis.from_url(broker.url) as client:
        client.flushall()
    return broker


@pytest.fixture(scope="module")
def capturing(broker: Broker, movies_package: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """capturing(start_server, name, **settings) → a server that captures, its home under the name."""
    homes = tmp_path_factory.mktemp("homes")

    def start(start_server: Any, name: str, **settings: str) -> Any:
        env = {"SLIPWAY_EVENTS_URL": broker.url, "SLIPWAY_HOME": str(homes / name)}
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in {**env, **settings}.items():
                patch.setenv(variable, value)
            running = start_server(movies_package.package)
        running.home = homes / name
        return running

    return start


def body(user: int, request_id: str = "", **more: Any) -> dict[str, Any]:
    inputs = [{"name": "user_id", "shape": [1], "datatype": "INT64", "data": [user]}]
    inputs += [{"name": name, "shape": [1, len(v)], "datatype": "INT64", "data": v} for name, v in more.items()]
    return {"inputs": inputs, **({"id": request_id} if request_id else {})}


def event(request_id: str, number: int, item: int, **changes: Any) -> dict[str, Any]:
    now = int(time.time() * 1000)
    plain = {"event_id": f"e{number}", "request_id": request_id, "user": 1, "item": item, "timestamp": now}
    return {**plain, "action": "click", **changes}


def count(server: Any, outcome: str) -> int:
    text = server.ask(path="/metrics", method="GET").body.decode()
    wanted = f'slipway_capture_total{{outcome="{outcome}"}} '
    return int(float(next(line for line in text.splitlines() if line.startswith(wanted)).split()[-1]))


@pytest.fixture(scope="module")
def server(start_server: Any, capturing: Any) -> Any:
    return capturing(start_server, "plain")


def test_an_answer_is_captured_as_it_was_given(server: Any, clean: Broker) -> None:
    live = server.ask(body(1, session=[12, 14]), headers={"x-request-id": "from-the-edge"})
    shadow = {"x-request-id": "from-the-edge", "host": "movies.default.localhost-shadow:8080"}
    assert server.ask(body(1, session=[12, 14]), headers=shadow).status == 200
    two = {"inputs": [{"name": "user_id", "shape": [2], "datatype": "INT64", "data": [1, 4]}], "id": "two"}
    server.ask(two)
    server.ask({"instances": [{"user_id": 999_999}]}, path="/v1/models/movies:predict", headers={"x-request-id": "v1"})
    server.ask({"inputs": []})  # refused: nobody saw anything
    shown, twin = clean.wait("exposures", 4), clean.wait("shadows", 1)
    answer = {output["name"]: output["data"] for output in live.json["outputs"]}
    first = shown[0]
    assert (first["items"], first["sources"]) == (answer["item_id"], answer["source"])
    assert first["scores"] == pytest.approx(answer["score"])
    assert first["propensities"] == [1.0] * 10
    assert (first["request_id"], first["user"], first["session"]) == ("from-the-edge", 1, [12, 14])
    assert (first["package"], first["revision"]) == (live.json["model_version"], "rev-1")
    assert first["features"] == live.json["parameters"]["features"]
    assert first["fallback"] is None
    assert 0.05 < first["milliseconds"] < 30_000  # and no seconds
    assert len(first["stages"]) == len(first["stage_milliseconds"])
    assert [one["request_id"] for one in shown] == ["from-the-edge", "two#0", "two#1", "v1"]
    assert shown[3]["fallback"] == "popularity"
    assert [one["request_id"] for one in twin] == ["from-the-edge"]
    assert twin[0]["items"] == first["items"]
    assert clean.said("feedback") == []


BAD_EVENTS: dict[str, tuple[Any, str]] = {
    "a number": (7, "not an object"),
    "a field too many": ({"colour": 1}, "no field 'colour'"),
    "no request": ({"request_id": None}, "request_id: missing"),
    "a user of text": ({"user": "1"}, "user: type"),
    "a negative item": ({"item": -1}, "item: number"),
    "a long id": ({"event_id": "x" * 257}, "event_id: size"),
    "another action": ({"action": "stare"}, "'stare' is not known → send one of rating, "),
    "a rating without one": ({"action": "rating"}, "a rating has a rating"),
    "a click with one": ({"rating": 3}, "a rating has a rating"),
    "a rating of 9": ({"action": "rating", "rating": 9}, "send 0.5 to 5"),
    "tomorrow": ({"timestamp": int(time.time() * 1000) + 86_400_000}, "300 s from now"),
    "seconds": ({"timestamp": 1_700_000_000}, "ms since 1970"),
    "told before it happened": ({"sent": 1_700_000_000_000}, "timestamp is after sent"),
    "an id of this request": ({"event_id": "e0"}, "duplicate event_id"),
}


def test_feedback_is_judged_one_event_at_a_time(server: Any, clean: Broker) -> None:
    events = [event("r", 0, 12)]
    for number, (changes, _) in enumerate(BAD_EVENTS.values(), 1):
        events.append({**event("r", number, 12), **changes} if isinstance(changes, dict) else changes)
    reply = server.ask({"events": events}, path="/v1/feedback")
    assert (reply.status, reply.json["accepted"]) == (202, 1)
    for said, (name, (_, reason)) in zip(reply.json["outcomes"][1:], BAD_EVENTS.items(), strict=True):
        assert said["outcome"] == "refused", name
        assert reason in said["reason"], name
        assert "→" in said["reason"], name
    assert reply.json["outcomes"][0] == {"event_id": "e0", "outcome": "accepted"}
    assert clean.said("feedback") == [events[0]]  # 202 means that it is there


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 400, "not JSON"),
        ([], 400, "not a JSON object"),
        ({}, 400, "list of events"),
        ({"events": []}, 400, "0 events"),
        ({"events": [{}], "more": 1}, 400, "and no more"),
        ({"events": [{}] * 1001}, 400, "1,001 events"),
        ({"events": [{}]}, 400, "none of 1 events"),
        (b" " * (1 << 20) + b"{}", 413, "larger than"),
    ],
)
def test_feedback_that_cannot_be_taken_says_what_to_send(server: Any, content: Any, status: int, said: str) -> None:
    reply = server.ask(content, path="/v1/feedback")
    assert reply.status == status
    assert said in reply.json["error"]
    assert "→" in reply.json["error"]


def test_a_mirrored_request_leaves_no_feedback_and_a_server_that_captures_nothing_says_so(
    server: Any, movies_server: Any, clean: Broker
) -> None:
    reply = server.ask({"events": [event("r", 1, 12)]}, path="/v1/feedback", headers={"host": "movies-shadow"})
    assert (reply.status, clean.said("feedback")) == (202, [])
    assert server.ask(path="/v1/feedback", method="GET").json["captures"] is True
    assert server.ask(path="/v1/feedback", method="DELETE").status == 405
    off = movies_server.ask({"events": [event("r", 1, 12)]}, path="/v1/feedback")
    assert off.status == 404
    assert "SLIPWAY_CAPTURE" in off.json["error"]


def test_a_frozen_broker_slows_nobody_and_gets_everything(server: Any, clean: Broker) -> None:
    def ask(first: int, last: int) -> float:
        """Median of the seconds that answers took."""
        connection, took = server.connect(), []
        for number in range(first, last):
            began = time.perf_counter()
            assert server.ask(body(1, f"f{number}"), connection=connection).status == 200
            took.append(time.perf_counter() - began)
        connection.close()
        return statistics.median(took)

    before = ask(0, 250)
    clean.wait("exposures", 250)
    spooled = count(server, "spooled")
    clean.signal(signal.SIGSTOP)
    try:
        during = ask(250, 750)
        reply = server.ask({"events": [event("f300", 1, 12)]}, path="/v1/feedback")
        assert reply.status == 202
        deadline = time.monotonic() + 120
        while count(server, "spooled") < spooled + 501 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert count(server, "spooled") == spooled + 501
    finally:
        clean.signal(signal.SIGCONT)
    assert during < 3 * before + 0.3  # one that waited for the broker would take a second
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        said = [one["request_id"] for one in clean.said("exposures")]
        if len(set(said)) == 750 and clean.said("feedback"):
            break
        time.sleep(0.1)
    assert set(said) == {f"f{number}" for number in range(750)}
    assert len(said) <= 750 + 100  # what the broker was sent when it froze, it may have taken
    assert count(server, "dropped") == 0


@pytest.mark.slow
def test_what_a_killed_server_left_on_disk_is_sent_by_the_next_and_is_in_the_lake_once(
    start_server: Any, capturing: Any, clean: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = capturing(start_server, "killed")
    server.ask(body(1, "warm"))
    clean.wait("exposures", 1)
    clean.signal(signal.SIGSTOP)
    try:
        for number in range(120):
            reply = server.ask(body(1 + 3 * (number % 40), f"k{number}"))
        seen = next(output["data"] for output in reply.json["outputs"] if output["name"] == "item_id")[0]
        events = [event("k119", 1, seen, user=1 + 3 * 39), event("nobody", 2, seen)]
        reply = server.ask({"events": events}, path="/v1/feedback")
        assert reply.json["accepted"] == 2
        deadline = time.monotonic() + 120
        while count(server, "spooled") < 122:
            assert time.monotonic() < deadline, "what it was asked is not on disk"
            time.sleep(0.05)
        server.process.kill()
        server.process.wait()
    finally:
        clean.signal(signal.SIGCONT)
    segment = next(server.home.glob("capture/*.segment"))
    with segment.open("ab") as end:
        end.write(b'exposures\t{"request_id": "half')
    later = capturing(start_server, "killed")
    assert len({one["request_id"] for one in clean.wait("exposures", 121)}) == 121
    assert len(clean.wait("feedback", 2)) >= 2
    assert [one.read_bytes() for one in later.home.glob("capture/torn/*")] == [b'exposures\t{"request_id": "half']
    assert later.stop() == 0
    assert not list(later.home.glob("capture/*.segment"))
    assert _lake(clean, tmp_path, monkeypatch) == 121


def _lake(broker: Broker, home: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The real consumer; rows of logs/exposures, each once. Feedback joins, or waits for its exposure."""
    from slipway.lake.lake import Lake
    from slipway.settings import settings
    from slipway.workloads.movies import production
    from streaming import application

    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    settings.cache_clear()
    try:
        application.drain(broker.url, "simulated", lambda *_: None)
        lake = Lake()
        rows = lake.table("logs", "simulated", "exposures").scan(schema=EXPOSURES).collect()
        assert rows["request_id"].n_unique() == rows.height
        counts = production.ingest(lake, "simulated", production.ProductionConfig(), lambda *_: None)
        assert (counts["clicks"], counts["pending"]) == (1, 1)
        return rows.height
    finally:
        settings.cache_clear()
