"""Figures of a real /metrics page, and nobody there."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from dashboard import live
from slipway.settings import settings


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 60)  # who answers is in this very process


@pytest.fixture
def port(free_port, monkeypatch):
    monkeypatch.setenv("SLIPWAY_STREAM_METRICS_PORT", str(free_port))
    settings.cache_clear()
    yield free_port
    settings.cache_clear()


def test_a_page_of_metrics_is_read(port):
    registry = CollectorRegistry()
    seconds = Histogram("seconds", "of it", ["model"], buckets=(1, 2, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 3.0):
        seconds.labels("a").observe(value)
    answers = Counter("answers", "given", ["status"], registry=registry)
    answers.labels("200").inc(3)
    answers.labels("400").inc()
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        reading = live.consumer()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert reading is not None
    assert reading.total("answers_total") == 4
    assert reading.total("answers_total", status="400") == 1
    assert reading.by("answers_total", "status") == {"200": 3, "400": 1}
    assert reading.quantile("seconds", 0.5) == 1.5  # rank 2 of 4: halfway through the bucket of ranks 1 to 3
    assert reading.quantile("seconds", 1.0) == 4
    assert reading.quantile("seconds", 0.5, model="b") is None
    assert reading.quantile("nothing", 0.5) is None


def test_nobody_there_is_no_error(port):
    assert live.consumer() is None


def test_all_servers_of_a_service_are_read_together(free_port, tmp_path, monkeypatch):
    """What the API says of replicas leads to each one's own page."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    settings.cache_clear()
    servers, ports = [], []
    for value in (3, 4):
        registry = CollectorRegistry()
        Counter("answers", "given", registry=registry).inc(value)
        server, thread = start_http_server(0, "127.0.0.1", registry)
        servers.append((server, thread))
        ports.append(server.server_port)
    replicas = {"movies-00001": [{"port": port, "phase": "Ready"} for port in ports]}
    replicas["movies-00002"] = [{"port": 0, "phase": "Starting"}]

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/secret/apis/metrics.slipway.dev/v1/namespaces/default/inferenceservices/movies"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"replicas": replicas}).encode())

        def log_message(self, *_):
            pass

    api = HTTPServer(("127.0.0.1", free_port), Api)
    threading.Thread(target=api.serve_forever).start()
    try:
        assert live.server() is None  # no kubeconfig yet
        (tmp_path / "serving").mkdir()
        cluster = {"cluster": {"server": f"http://127.0.0.1:{free_port}/secret"}}
        (tmp_path / "serving" / "kubeconfig").write_text(json.dumps({"clusters": [cluster]}))
        reading = live.server()
        assert live.server("films") is None
    finally:
        api.shutdown()
        api.server_close()
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()
        settings.cache_clear()
    assert reading is not None
    assert reading.total("answers_total") == 7
