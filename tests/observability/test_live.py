"""The rules, dashboards and receivers against the processes themselves: a model server under load, the consumer of what
it captures, Prometheus, Alertmanager, and the service that starts a run.

Kubernetes is left out: targets are named here instead of found, and the labels that discovery adds are written down.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from pipelines.trigger.book import Policy
from pipelines.trigger.cause import Cause, Reason
from pipelines.trigger.dispatcher import Dispatcher
from pipelines.trigger.service import Secrets, application
from slipway.storage import store

ROOT = Path(__file__).parents[2]
STRANGERS = 10_000_000  # nobody in the package has such an id
TOKEN = "a token that only this test knows"
ADDED = {"namespace", "pod", "job", "instance"}  # by discovery and by the monitors
# What needs a mirror, a missing stage, a bad message, Kafka or a feature server; everything else has to show something.
EMPTY = {
    ("serving", "Mirrored"),
    ("serving", "Missing"),
    ("rollout", "Missing stages"),
    ("stream", "Set aside, by reason"),
    ("stream", "Waiting in Kafka"),
    ("stream", "Age of features"),
    ("stream", "Look-ups of the feature server"),
}

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@cache
def client() -> httpx.Client:
    """One for all: each new one reads the certificates of the world, and some hundred questions are asked here."""
    return httpx.Client(trust_env=False, timeout=60)


def get(url: str, **parameters: str) -> httpx.Response:
    return client().get(url, params=parameters)


def wait(what: str, seconds: float, found: Callable[[], Any], log: Path | None = None) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, OSError):
            if answer := found():
                return answer
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {seconds:.0f} s; {log.read_text()[-2000:] if log else ''}")


@contextmanager
def process(
    command: list[str], log: Path, end: signal.Signals = signal.SIGTERM, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **env})
    try:
        yield running
    finally:
        running.send_signal(end)
        try:
            running.wait(120)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def triggering(home: Path) -> Iterator[tuple[str, list[Cause]]]:
    """(address, causes) of the service that starts runs; a run here is its cause in the list."""
    begun: list[Cause] = []

    async def start(cause: Cause) -> str:
        begun.append(cause)
        return f"run-{len(begun)}"

    dispatcher = Dispatcher(store((home / "objects").as_uri()), Policy(), start, build="tests", every=0.1)
    app = application(dispatcher, Secrets(token=TOKEN), repository="", store="file:///nowhere")
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}", begun
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass
class Line:
    """What runs: where the model server, the consumer and the trigger show their metrics; which causes began a run."""

    server: str
    consumer: str
    trigger: str
    begun: list[Cause]


@pytest.fixture(scope="module")
def line(movies_package: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A model server that captures, a Redis, and the consumer; then ten seconds and more of people who ask."""
    home = tmp_path_factory.mktemp("line")
    port, grpc, metrics, redis = (free_port() for _ in range(4))
    env = {
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_EVENTS_URL": f"redis://127.0.0.1:{redis}/0",
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    } | {f"SLIPWAY_BUDGET_{part}_MS": "10000" for part in ("FEATURES", "RANKER", "RERANK", "TOTAL")}
    script = Path(sys.executable).with_name("slipway")
    consume = [str(script), "ingest", "--source", "stream", "--follow", f"--metrics-port={metrics}"]
    serve = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={movies_package.package}"]
    serve += ["--host=127.0.0.1", f"--http_port={port}", f"--grpc_port={grpc}", "--revision=movies-predictor-00002"]
    done = threading.Event()

    def ask() -> None:
        """Three of four people are strangers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        number = 0
        while not done.wait(0.05):
            number += 1
            user = STRANGERS + number if number % 4 else movies_package.users[number % len(movies_package.users)]
            body = {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]}]}
            with suppress(OSError, http.client.HTTPException):
                connection.request(
                    "POST", "/v2/models/movies/infer", json.dumps(body), {"content-type": "application/json"}
                )
                connection.getresponse().read()

    with ExitStack() as stack:
        stack.enter_context(process(consume, home / "consumer.txt", signal.SIGINT, **env))
        stack.enter_context(process(serve, home / "server.txt", **env))
        trigger, begun = stack.enter_context(triggering(home))
        found = Line(f"127.0.0.1:{port}", f"127.0.0.1:{metrics}", trigger, begun)
        wait(
            "the server",
            240,
            lambda: get(f"http://{found.server}/v2/models/movies/ready").is_success,
            home / "server.txt",
        )
        wait("the consumer", 240, lambda: get(f"http://{found.consumer}/health").is_success, home / "consumer.txt")
        people = threading.Thread(target=ask, daemon=True)
        people.start()
        stack.callback(people.join)
        stack.callback(done.set)
        wait(
            "a commit",
            120,
            lambda: "slipway_stream_messages_total 0.0" not in get(f"http://{found.consumer}/metrics").text,
        )
        yield found


def samples(text: str) -> dict[str, set[str]]:
    """Series → its labels' names; a family that has no sample yet has those that its type makes."""
    found: dict[str, set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {f"{name}{ending}": set() for ending in endings}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_every_series_that_is_asked_for_is_there(line, panel_queries, every_rule, selectors):
    """And has the labels by which it is picked."""
    there: dict[str, set[str]] = {}
    for address in (line.server, line.consumer, line.trigger):
        there |= samples(get(f"http://{address}/metrics").text)
    asked = [("rules", rule["expr"]) for rule in every_rule] + [
        (f"{board}: {panel}", q) for board, panel, q in panel_queries
    ]
    names = set()
    for where, query in asked:
        for metric, labels in selectors(query):
            if not metric.startswith("slipway_"):
                continue
            names.add(metric)
            assert metric in there, f"{where}: no process exports {metric}"
            if there[metric]:
                assert labels <= there[metric] | ADDED, f"{where}: {metric} has no {labels - there[metric] - ADDED}"
    assert len(names) >= 20


@dataclass
class Inbox:
    """People's chat, as a webhook: what was posted."""

    port: int = field(default_factory=free_port)
    letters: list[Any] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator["Inbox"]:
        letters = self.letters

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                letters.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def a_week_ago(folder: Path, promtool: str, share: float) -> Path:
    """A Prometheus' data with what was recorded a week ago: share of the requests came from strangers."""
    then = int(time.time()) - 7 * 86_400
    name = "service:slipway_strangers:ratio_rate6h"
    lines = [
        f'{name}{{namespace="slipway-production",model="movies"}} {share} {then + offset}'
        for offset in range(-900, 901, 60)
    ]
    (folder / "past.txt").write_text("\n".join([f"# TYPE {name} gauge", *lines, "# EOF", ""]))
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", str(folder / "past.txt"), str(folder / "data")],
        check=True,
        capture_output=True,
    )
    return folder / "data"


def alertmanager(folder: Path, inbox: Inbox, trigger: str) -> Path:
    """The configuration as it is applied, with this machine's receivers and without its pauses."""
    chat = f"http://127.0.0.1:{inbox.port}/people"
    for name, text in (("trigger-token", TOKEN), ("slack-url", chat), ("pagerduty-key", "none")):
        (folder / name).write_text(text)
    text = (ROOT / "manifests" / "observability" / "alertmanager" / "alertmanager.yml").read_text()
    for old, new in (
        ("/etc/alertmanager/secrets/", f"{folder}/"),
        ("http://slipway-trigger.slipway-training:8085", f"http://{trigger}"),
    ):
        assert old in text
        text = text.replace(old, new)
    file = folder / "alertmanager.yml"
    file.write_text(re.sub(r"group_wait: \S+", "group_wait: 0s", text))
    return file


@pytest.fixture(scope="module")
def watched(line, rules, tool, tmp_path_factory) -> Iterator[tuple[str, Inbox]]:
    """(Prometheus' address, the inbox) with every rule of ours; only `for` is shorter."""
    prometheus, promtool = tool("prometheus"), tool("promtool", "prometheus")
    manager = tool("prometheus-alertmanager", "alertmanager", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("watched")
    (folder / "rules").mkdir()
    for name, spec in rules.items():
        text = re.sub(r"\bfor: \S+", "for: 0s", yaml.safe_dump(spec, allow_unicode=True))
        (folder / "rules" / name).write_text(text)
    port, alerts = free_port(), free_port()

    def target(job: str, address: str, **labels: str) -> dict[str, Any]:
        return {"job_name": job, "static_configs": [{"targets": [address], "labels": labels}]}

    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": [f"{folder}/rules/*.yaml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts}"]}]}]},
                "scrape_configs": [
                    target("slipway-model-server", line.server, namespace="slipway-production", pod="movies-0"),
                    target("slipway-stream", line.consumer, namespace="slipway-streams", pod="slipway-stream-0"),
                    target("slipway-trigger", line.trigger, namespace="slipway-training", pod="slipway-trigger-0"),
                    target("prometheus", f"127.0.0.1:{port}", namespace="slipway-observability", pod="prometheus-0"),
                ],
            }
        )
    )
    with ExitStack() as stack:
        inbox = stack.enter_context(Inbox().open())
        command = [
            manager,
            f"--config.file={alertmanager(folder, inbox, line.trigger)}",
            f"--storage.path={folder}/alerts",
        ]
        command += [f"--web.listen-address=127.0.0.1:{alerts}", "--cluster.listen-address="]
        stack.enter_context(process(command, folder / "alertmanager.txt"))
        command = [prometheus, f"--config.file={folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
        command += [f"--storage.tsdb.path={a_week_ago(folder, promtool, 0.1)}"]
        stack.enter_context(process(command, folder / "prometheus.txt"))
        address = f"http://127.0.0.1:{port}"
        wait("Prometheus", 120, lambda: get(f"{address}/-/ready").is_success, folder / "prometheus.txt")
        yield address, inbox


def test_strangers_start_a_run(watched, line):
    """Three of four requests come from people whom the package does not know; a week ago it was one in ten."""
    _, inbox = watched
    cause = wait("a run", 180, lambda: next(iter(line.begun), None))
    assert cause.reason is Reason.ALERT
    told = re.match(r"Drift: ([\d.]+)% of the requests for movies come from people it does not know", cause.what)
    assert told
    assert float(told[1]) == pytest.approx(75, abs=15)  # of the few that a busy machine answers in a second
    wait("people", 120, lambda: any("Drift" in json.dumps(letter) for letter in inbox.letters))
    assert len(line.begun) == 1  # what is no reason to train starts none, and one reason starts one
    assert 'slipway_trigger_requests_total{code="202",path="/alerts"}' in get(f"http://{line.trigger}/metrics").text


def test_dashboards_show_something(watched, panel_queries):
    """Each query is answered by Prometheus; those about what runs here, with figures."""
    address, _ = watched

    def answer(query: str) -> list[Any]:
        for name in ("$namespace", "$model", "$revision", "$cluster"):
            query = query.replace(name, ".*")
        reply = get(f"{address}/api/v1/query", query=query).json()
        assert reply["status"] == "success", f"{query}: {reply}"
        found: list[Any] = reply["data"]["result"]
        return [one for one in found if one["value"][1] != "NaN"]

    def empty(queries: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Those that should show something, and do not yet."""
        bare = [(board, panel, query) for board, panel, query in queries if not answer(query)]
        return [one for one in bare if one[0] in {"serving", "rollout", "stream"} and one[:2] not in EMPTY]

    bare, deadline = empty(panel_queries), time.monotonic() + 120
    while bare and time.monotonic() < deadline:
        time.sleep(0.5)
        bare = empty(bare)
    assert not bare
    whole = {(board, panel) for board, panel, _ in panel_queries}
    assert whole >= EMPTY
    # A busy machine's scrape may come too late: it is up by the next one.
    up = 'count(up{job=~"slipway-.*"} == 1)'
    wait("three targets", 120, lambda: [one["value"][1] for one in answer(up)] == ["3"])
    there = set(get(f"{address}/api/v1/label/__name__/values").json()["data"])
    listed = yaml.safe_load((Path(__file__).parent / "exporters.yaml").read_text())
    scraped = {metric for one in listed if "test_live" in one["source"] for metric in one["metrics"]}
    assert scraped <= there
