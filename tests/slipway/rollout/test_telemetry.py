"""Figures → evidence: from the embedded KServe's document, and by PromQL from a real Prometheus that scrapes the model
server's own counters; promtool reads the queries. Both are of the Debian package prometheus.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from serving.metrics import Metrics, Traffic
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


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Metrics]]]:
    """(URL, what two revisions count): a real Prometheus that scrapes both every 0.2 s, as a monitor on a cluster would
    have it: the namespace is a target's label.
    """
    if not (program := shutil.which("prometheus")):
        pytest.skip("there is no prometheus here; on Debian and Ubuntu: sudo apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    counted, targets, servers = [], [], []
    for revision in ("r-1", "r-2"):
        registry = CollectorRegistry()
        counted.append(Metrics("movies", revision, "abc", registry))
        server, _ = start_http_server(0, "127.0.0.1", registry)
        servers.append(server)
        targets.append(f"127.0.0.1:{server.server_port}")
    scrape = {"job_name": "revisions", "static_configs": [{"targets": targets, "labels": {"namespace": "default"}}]}
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    process = subprocess.Popen(
        [program, *options, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}", counted
    process.terminate()
    process.wait(120)
    for server in servers:
        server.shutdown()


def ask(url: str) -> list[dict[str, Any]]:
    """What Prometheus knows of how many requests there were; nothing while it starts."""
    try:
        found = httpx.get(
            f"{url}/api/v1/query", params={"query": "sum by (revision) (slipway_requests_total)"}, timeout=60
        )
        result: list[dict[str, Any]] = found.json()["data"]["result"]
    except (httpx.HTTPError, ValueError):  # it starts, and says so in words
        return []
    return result


def test_prometheus_says_the_same(prometheus: tuple[str, list[Metrics]]) -> None:
    url, (stable, candidate) = prometheus

    def serve(rounds: int) -> None:
        for _ in range(rounds):
            for _ in range(10):
                stable.answered("v2", "200", "none", Traffic.LIVE, 0.0012)
                candidate.answered("v2", "200", "none", Traffic.SHADOW, 0.0012)
            candidate.answered("v2", "200", "counts", Traffic.LIVE, 0.004)
            candidate.answered("grpc", "INTERNAL", "", Traffic.LIVE, 0.02)
            candidate.answered("metadata", "500", "", Traffic.LIVE, 9.0)  # is no inference
            time.sleep(0.01)

    serve(1)  # increase() knows a series from its first sample on
    end = time.monotonic() + 240
    while len(ask(url)) < 2:
        assert time.monotonic() < end, "Prometheus saw nothing"
        time.sleep(0.1)
    serve(100)
    while sum(float(one["value"][1]) for one in ask(url)) < 101 * 23:
        assert time.monotonic() < end
        time.sleep(0.1)

    telemetry = PrometheusTelemetry(f"{url}/", "default")
    reading = telemetry.read("movies", ("r-1", "r-2"), 600)
    # increase() adds what came since the last scrape, by its guess: little, once there were some scrapes more.
    while reading.arm("r-1", {}, shadow=False).requests != pytest.approx(1000, rel=0.1):
        assert time.monotonic() < end
        time.sleep(0.1)
        reading = telemetry.read("movies", ("r-1", "r-2"), 600)
    arm = reading.arm("r-2", {"r-2": Figures(requests=5)}, shadow=False)
    assert arm.requests == pytest.approx(200, rel=0.2), "increase() counts since the stage, not the baseline"
    assert arm.errors == pytest.approx(100, rel=0.2)
    assert arm.fallbacks == pytest.approx(100, rel=0.2)
    at = {BOUNDS[place]: count for place, count in enumerate(arm.latency.counts) if count}
    assert at.keys() == {0.005, 0.025}, "0.004 and 0.02 s, in the buckets that hold them"
    assert reading.arm("r-2", {}, shadow=True).requests == pytest.approx(1000, rel=0.2)
    assert reading.arm("r-1", {}, shadow=False).requests == pytest.approx(1000, rel=0.2)
    assert reading.arm("r-1", {}, shadow=False).errors == 0
    assert not reading.restarted({"r-2": Figures(requests=100_000)})


def test_silence_and_refusals_are_errors_and_no_zeros(prometheus: tuple[str, list[Metrics]]) -> None:
    url, _ = prometheus
    end = time.monotonic() + 240
    while not ask(url):
        assert time.monotonic() < end
        time.sleep(0.1)
    with pytest.raises(ServingError, match="has no figures of r-8, r-9"):
        PrometheusTelemetry(url, "default").read("movies", ("r-8", "r-9"), 60)
    with pytest.raises(ServingError, match="has no figures of r-1"):
        PrometheusTelemetry(url, "another").read("movies", ("r-1",), 60)
    with pytest.raises(ServingError, match=r"Prometheus refuses .*parse error"):
        PrometheusTelemetry(url, "default").read("movies", ('r"1',), 60)
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
