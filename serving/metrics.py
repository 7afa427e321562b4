"""What is counted about requests: status, model, revision, fallback, seconds, and whether somebody saw the answer.
Knows Prometheus and what a mirrored request looks like, nothing else.

kserve's own histograms start at 5 ms and have no status: a recommender that answers in one millisecond, and a judge
that compares two revisions, see nothing in them.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from slipway.workload import Prediction

BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class Traffic(StrEnum):
    LIVE = "live"
    SHADOW = "shadow"  # mirrored by the ingress: nobody sees the answer


SHADOW_HEADER = "x-slipway-traffic"  # `shadow`: the embedded ingress says so of a copy; a client cannot

_SHADOW_HOST = "-shadow"  # what Envoy appends to the Host of a mirrored request, before the port


def traffic(headers: Mapping[str, str]) -> Traffic:
    """Of a request with these headers, names in lower case."""
    host = headers.get("host", "").partition(":")[0]
    mirrored = host.endswith(_SHADOW_HOST) or headers.get(SHADOW_HEADER) == Traffic.SHADOW
    return Traffic.SHADOW if mirrored else Traffic.LIVE


class Metrics:
    """Of one model in one revision. Children are looked up once per combination: a lookup costs more than a count."""

    def __init__(self, model: str, revision: str, version: str, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ("model", "revision")
        self._requests = Counter(
            "slipway_requests",
            "Requests answered, by route, HTTP status or gRPC code, fallback, and live or shadow",
            (*labels, "route", "status", "fallback", "traffic"),
            registry=registry,
        )
        self._seconds = Histogram(
            "slipway_request_seconds",
            "Seconds from a request's headers to its answer",
            (*labels, "route", "traffic"),
            buckets=BUCKETS,
            registry=registry,
        )
        stages = Histogram(
            "slipway_stage_seconds",
            "Seconds of one stage of an answer",
            (*labels, "stage"),
            buckets=BUCKETS,
            registry=registry,
        )
        lost = Counter(
            "slipway_stage_fallbacks",
            "Answers in which a stage is missing, by stage and cause: late, failed or paused",
            (*labels, "stage", "cause"),
            registry=registry,
        )
        self._running = Gauge("slipway_requests_running", "Requests in progress", labels, registry=registry)
        info = Gauge("slipway_model_info", "1 for the served package", (*labels, "version"), registry=registry)
        info.labels(model, revision, version).set(1)
        self.running = self._running.labels(model, revision)
        self._count = lru_cache(maxsize=1024)(lambda *rest: self._requests.labels(model, revision, *rest))
        self._time = lru_cache(maxsize=16)(lambda *rest: self._seconds.labels(model, revision, *rest))
        self._stage = lru_cache(maxsize=16)(lambda stage: stages.labels(model, revision, stage))
        self._lost = lru_cache(maxsize=64)(lambda *rest: lost.labels(model, revision, *rest))

    def answered(self, route: str, status: str, fallback: str, kind: Traffic, seconds: float) -> None:
        self._count(route, status, fallback, kind.value).inc()
        self._time(route, kind.value).observe(seconds)

    def staged(self, prediction: Prediction) -> None:
        for stage, seconds in prediction.stages.items():
            self._stage(stage).observe(seconds)
        for stage, cause in prediction.lost.items():
            self._lost(stage, cause).inc()


def exposition(accept: str) -> tuple[bytes, str]:
    """(body, content type) of everything that this process counts."""
    encoder, content_type = choose_encoder(accept)
    return encoder(REGISTRY), content_type
