"""The command against a served package and a Redis: what people saw and did is on the stream; Ctrl-C ends it well."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from slipway.stream import topic
from slipway.workloads.movies import messages

WORLD = ["--set", "simulate.users=500", "--set", "simulate.items=200", "--set", "simulate.shelves=16"]


@pytest.fixture
def traffic(tmp_path, served, redis_url):
    """traffic(*options) → a started `slipway simulate traffic` against the served package."""

    def start(*options: str, events: str = redis_url, data_set: str = "tiny") -> "subprocess.Popen[str]":
        script = Path(sys.executable).with_name("slipway")
        variables = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_EVENTS_URL": events, "COLUMNS": "200", "NO_COLOR": "1"}
        command = [script, "simulate", "traffic", "--url", served, "--data-set", data_set, *WORLD, *options]
        return subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def read(url: str, data_set: str) -> dict[str, list[bytes]]:
    with Redis.from_url(url) as client:
        return {
            kind: [entry[b"__data__"] for _, entry in client.xrange(topic(data_set, kind))]
            for kind in messages.KINDS
            if kind != "shadows"  # which a server alone can tell
        }


@pytest.mark.slow
def test_people_use_a_served_package(traffic, redis_url):
    options = ["--rate", "60", "--duration", "4s", "--drift", "clicks:-0.3@2s", "--releases", "2"]
    process = traffic(*options)
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert "clicks by position  1: " in said
    assert "rev-1" in said
    assert "errors" not in said
    stream = read(redis_url, "tiny")
    now = int(time.time() * 1000)
    good = {kind: messages.clean(texts, kind, messages.rules(now)) for kind, texts in stream.items()}
    assert all(cleaned.bad.is_empty() and cleaned.good.height for cleaned in good.values())
    shown = good["exposures"].good
    assert 150 < shown.height < 330
    assert shown["package"].n_unique() == 1
    assert shown["milliseconds"].min() > 0
    assert set("+".join(shown["sources"].explode()).split("+")) <= {"ranker", "counts", "popular"}
    assert set(good["feedback"].good["request_id"]) <= set(shown["request_id"])
    assert sorted(good["items"].good["item"]) == list(range(1, 203))


@pytest.mark.slow
def test_a_server_that_captures_tells_what_people_see_and_takes_what_they_say(traffic, redis_url):
    process = traffic("--rate", "60", "--duration", "3s", data_set="captured")
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert "the server tells what it showed" in said
    assert "refused" not in said
    stream = read(redis_url, "captured")
    now = int(time.time() * 1000)
    good = {kind: messages.clean(texts, kind, messages.rules(now)) for kind, texts in stream.items()}
    assert all(cleaned.bad.is_empty() and cleaned.good.height for cleaned in good.values())
    shown, told = good["exposures"].good, good["feedback"].good
    assert shown["revision"].unique().to_list() == ["rev-1"]
    joined = told.join(shown, on=["request_id", "user"], how="inner")
    assert joined.height == told.height
    assert (joined["timestamp"] - joined["timestamp_right"]).min() > -5000  # the skew that attribution allows
    assert now - 600_000 < shown["timestamp"].min() <= now
    refused = traffic("--capture", "server", "--duration", "1s", data_set="other")
    assert "captures 'captured', and not 'other'" in refused.communicate(timeout=240)[1]


@pytest.mark.slow
def test_ctrl_c_sums_up_and_a_stream_that_is_down_stops_nobody(traffic):
    process = traffic("--rate", "60", "--duration", "10m", events="kafka://127.0.0.1:9", data_set="other")
    assert "stream down" in process.stdout.readline()  # a line every ten seconds
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Traceback" not in said + complaint
    assert "clicks by position" in said
    assert "messages lost" in said
