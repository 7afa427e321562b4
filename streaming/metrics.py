"""What a consumer says about itself: Prometheus' metrics and one word on its health, over HTTP. Knows numbers only."""

import contextlib
import errno
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slipway.errors import ConfigError, PortInUseError
from streaming.delivery import Counts

log = logging.getLogger("slipway.streaming.metrics")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.total = Counts()
        self.trouble = ""  # why the consumer does not get on; empty when it does
        self.broker_down = False
        prefix = "slipway_stream_"
        how: dict[str, Any] = {"registry": self.registry}
        self._messages = Counter(f"{prefix}messages", "messages committed", **how)
        self._accepted = Counter(f"{prefix}accepted", "messages whose row is new in the lake", **how)
        self._rejected = Counter(f"{prefix}rejected", "messages set aside", ["reason"], **how)
        self._known = Counter(f"{prefix}known", "messages delivered again that the lake had already", **how)
        self._redelivered = Counter(f"{prefix}redelivered", "messages delivered again", **how)
        self._late = Counter(f"{prefix}late", "events older than the lateness bound (they are in the lake)", **how)
        self._users = Counter(f"{prefix}online_users", "users written to the online store", **how)
        self._failures = Counter(f"{prefix}commit_failures", "commits that had to be tried again", **how)
        self._lag = Histogram(
            f"{prefix}lag_seconds", "from the stream to the acknowledgement, oldest of a batch", buckets=_SECONDS, **how
        )
        self._last_lag = Gauge(f"{prefix}last_lag_seconds", "the same, of the last batch", **how)
        self._commit = Histogram(f"{prefix}commit_seconds", "of one commit", buckets=_SECONDS, **how)
        self._batch = Histogram(
            f"{prefix}batch_messages", "messages in one commit", buckets=(1, 10, 100, 500, 1000, 5000, 20000), **how
        )
        self._rate = Gauge(f"{prefix}messages_per_second", "over the last commits", **how)
        self._recent: list[tuple[float, int]] = []

    def committed(self, counts: Counts, seconds: float, oldest: int) -> None:
        """oldest: when the first message of the batch came onto the stream, ms."""
        self.trouble = ""
        self.total.add(counts)
        self._messages.inc(counts.messages)
        self._accepted.inc(counts.accepted)
        self._known.inc(counts.known)
        self._redelivered.inc(counts.redelivered)
        self._late.inc(counts.late)
        self._users.inc(counts.users)
        for reason, count in counts.rejected.items():
            self._rejected.labels(reason).inc(count)
        lag = max(0.0, time.time() - oldest / 1000)
        self._lag.observe(lag)
        self._last_lag.set(lag)
        log.debug("%d messages committed in %.4f s, the oldest %.4f s after it came", counts.messages, seconds, lag)
        self._commit.observe(seconds)
        self._batch.observe(counts.messages)
        now = time.monotonic()
        self._recent = [*self._recent[-49:], (now - seconds, counts.messages)]
        span = now - self._recent[0][0]
        self._rate.set(sum(count for _, count in self._recent) / span if span else 0)

    def failed(self, reason: str) -> None:
        self.trouble = reason
        self._failures.inc()

    @property
    def health(self) -> tuple[bool, str]:
        if self.broker_down:
            return False, "the broker does not answer"
        return not self.trouble, self.trouble or "committing"


@contextlib.contextmanager
def served(metrics: Metrics, port: int | None, host: str = "127.0.0.1") -> Iterator[None]:
    """/metrics and /health (200 or 503) on host:port while the block runs. Raises PortInUseError, ConfigError."""
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            well, words = metrics.health
            if self.path.startswith("/metrics"):
                status, kind, body = 200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry)
            elif self.path.startswith("/health"):
                body = json.dumps({"healthy": well, "state": words, **metrics.total.numbers()}).encode()
                status, kind = 200 if well else 503, "application/json"
            else:
                status, kind, body = 404, "text/plain", b"/metrics or /health\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape is no news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ConfigError(
                f"metrics cannot be served on {host}:{port}: {error.strerror or error}",
                "set SLIPWAY_STREAM_METRICS_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0",
            ) from error
        raise PortInUseError(port, "the metrics port") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
