"""Figures → evidence: from the embedded KServe's document, and by PromQL from an HTTP server in this process that
answers as Prometheus does (recorded form, own numbers); promtool, where it is installed, reads the queries.
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from slipway.errors import ServingError
from slipway.rollout.evidence import BOUNDS
from slipway.rollout.state import Counts, Figures
from slipway.rollout.telemetry import PrometheusTelemetry, Reading, queries


def test_an_arm_is_what_came_since_the_baseline() -> None:
    latency = (0, 3, *[0] * (len(BOUNDS) - 2))
    now = {"r-2": Figures(requests=30, errors=2, fallbacks=4, latency=latency, shadow=Counts(requests=7))}
    then = {"r-2": Figures(requests=10, errors=1, shadow=Counts(requests=2))}
    arm = Reading(now).arm("r-2", then, shadow=False)
    assert (arm.requests, arm.errors, arm.fallbacks, arm.latency.counts) == (20, 1, 4, latency)
    assert Reading(now).arm("r-2", then, shadow=True).requests == 5
    assert Reading(now).arm("r-9", then, shadow=False).requests == 0
    assert not Reading(now).restarted(then)
    assert Reading(then).restarted(now)
    assert Reading({}).restarted(then), "figures that are gone are no zeros"


RESULTS: dict[str, list[dict[str, Any]]] = {}


class Prometheus(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())["query"][0]
        kind = "latency" if "_bucket" in query else "errors" if "status=" in query else "requests"
        kind = "fallbacks" if "fallback!" in query else kind
        result = {"resultType": "vector", "result": RESULTS.get(kind, [])}
        body = json.dumps({"status": "success", "data": result}).encode()
        if RESULTS.get("refuse"):
            body = b'{"status": "error", "error": "out of memory"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def prometheus() -> Iterator[PrometheusTelemetry]:
    server = HTTPServer(("127.0.0.1", 0), Prometheus)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    RESULTS.clear()
    yield PrometheusTelemetry(f"http://127.0.0.1:{server.server_port}/", "default")
    server.shutdown()
    thread.join()
    server.server_close()


def vector(value: float, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1795300000.0, str(value)]}


def test_prometheus_says_the_same(prometheus: PrometheusTelemetry) -> None:
    RESULTS["requests"] = [
        vector(99.7, revision="r-1", traffic="live"),
        vector(10.2, revision="r-2", traffic="live"),
        vector(50, revision="r-2", traffic="shadow"),
    ]
    RESULTS["errors"] = [vector(1.01, revision="r-2", traffic="live")]
    RESULTS["latency"] = [
        vector({0.001: 4, 0.0015: 9}.get(bound, 10 if bound > 0.0015 else 0), revision="r-2", traffic="live", le=text)
        for bound, text in ((b, "+Inf" if b == BOUNDS[-1] else str(b)) for b in BOUNDS)
    ]
    reading = prometheus.read("movies", ("r-1", "r-2"), 60)
    arm = reading.arm("r-2", {"r-2": Figures(requests=5)}, shadow=False)
    assert (arm.requests, arm.errors, arm.fallbacks) == (10, 1, 0), (
        "increase() counts since the stage, not the baseline"
    )
    assert {BOUNDS[i]: n for i, n in enumerate(arm.latency.counts) if n} == {0.001: 4, 0.0015: 5, 0.002: 1}
    assert reading.arm("r-2", {}, shadow=True).requests == 50
    assert reading.arm("r-1", {}, shadow=False).requests == 100
    assert not reading.restarted({"r-2": Figures(requests=1000)})


def test_silence_and_refusals_are_errors_and_no_zeros(prometheus: PrometheusTelemetry) -> None:
    with pytest.raises(ServingError, match="has no figures of r-1, r-2"):
        prometheus.read("movies", ("r-1", "r-2"), 60)
    RESULTS["refuse"] = [{}]
    with pytest.raises(ServingError, match="out of memory"):
        prometheus.read("movies", ("r-1", "r-2"), 60)
    with pytest.raises(ServingError, match="does not answer as it should"):
        PrometheusTelemetry("http://127.0.0.1:9", "default").read("movies", ("r-1",), 60)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_reads_the_queries(tmp_path: Path) -> None:
    asked = queries("movies", "default", ("movies-00001", "movies-00002"), 61.4)
    assert all("[61s]" in query for query in asked.values())
    rules = [{"record": f"rollout:{kind}", "expr": query} for kind, query in asked.items()]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "rollout", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
