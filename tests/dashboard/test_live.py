"""Figures of a real /metrics page, and nobody there."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from dashboard import live
from slipway.settings import settings


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
