"""Where the figures of two revisions come from: the embedded KServe, or Prometheus on a cluster. Judges nothing.

    reading = telemetry.read()                           # what there is now, by revision
    arm = reading.arm(revision, baseline, shadow=False)  # what came since the baseline

Figures that are not there are an error, never zeros: a judge must not take silence for health.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import httpx
from pydantic import TypeAdapter, ValidationError

from slipway.deployment import Services
from slipway.errors import ServingError
from slipway.rollout.evidence import BOUNDS, Arm, Latency
from slipway.rollout.state import Counts, Figures

_FIGURES = TypeAdapter(dict[str, Figures])


@dataclass(frozen=True)
class Reading:
    """figures: by revision, since each one's first request, or since the stage began where since_stage is set."""

    figures: Mapping[str, Figures]
    since_stage: bool = False

    def restarted(self, baseline: Mapping[str, Figures]) -> bool:
        """Whether a count is smaller than it was: whoever counts began again."""
        if self.since_stage:
            return False
        pairs = [(self.figures.get(name, Figures()), then) for name, then in baseline.items()]
        return any(
            new.requests < old.requests or new.errors < old.errors
            for now, then in pairs
            for new, old in ((now, then), (now.shadow, then.shadow))
        )

    def arm(self, revision: str, baseline: Mapping[str, Figures], shadow: bool) -> Arm:
        """shadow: of the mirrored requests."""
        now, then = self.figures.get(revision, Figures()), baseline.get(revision, Figures())
        if self.since_stage:
            then = Figures()
        new, old = (now.shadow, then.shadow) if shadow else (now, then)
        return Arm(
            revision,
            new.requests - old.requests,
            new.errors - old.errors,
            new.fallbacks - old.fallbacks,
            # Two sources are merged, and a bucket may be a moment behind its sum.
            Latency(tuple(max(a - b, 0) for a, b in zip(new.latency, old.latency, strict=True))),
        )


class Telemetry(Protocol):
    def read(self, service: str, revisions: tuple[str, ...], seconds: float) -> Reading:
        """seconds: since the stage began. Raises ServingError when there are no figures."""


class EmbeddedTelemetry:
    """The embedded KServe's own sums over replicas, which survive their restarts."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def read(self, service: str, revisions: tuple[str, ...], seconds: float) -> Reading:  # noqa: ARG002 - has all
        document = self.services.figures(service)
        try:
            return Reading(_FIGURES.validate_python(document.get("revisions")))
        except ValidationError as error:
            first = error.errors()[0]
            raise ServingError(
                f"the figures of {service} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                "slipway and the embedded KServe must be of one version: slipway down && slipway up",
            ) from error


# The model server's own counts, summed over a revision's pods. increase() bridges restarts of pods. $labels picks the
# service and its revisions, $span the seconds of the stage.
LABELS = 'model="$model",namespace="$namespace",revision=~"$revisions",route=~"v1|v2|grpc"'
FAILED = 'status=~"5..|UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|DATA_LOSS"'
QUERIES = {
    "requests": f"sum by (revision, traffic) (increase(slipway_requests_total{{{LABELS}}}[$span]))",
    "errors": f"sum by (revision, traffic) (increase(slipway_requests_total{{{LABELS},{FAILED}}}[$span]))",
    "fallbacks": (
        f'sum by (revision, traffic) (increase(slipway_requests_total{{{LABELS},fallback!~"|none"}}[$span]))'
    ),
    "latency": f"sum by (revision, traffic, le) (increase(slipway_request_seconds_bucket{{{LABELS}}}[$span]))",
}


def queries(model: str, namespace: str, revisions: tuple[str, ...], seconds: float) -> dict[str, str]:
    """QUERIES for these revisions and this stage; names of Kubernetes objects need no escaping in a regex but dots."""
    span = f"{max(round(seconds), 1)}s"
    picked = "|".join(name.replace(".", "[.]") for name in revisions)
    values = {"$model": model, "$namespace": namespace, "$revisions": picked, "$span": span}
    found = {}
    for name, query in QUERIES.items():
        for key, value in values.items():
            query = query.replace(key, value)  # noqa: PLW2901
        found[name] = query
    return found


class PrometheusTelemetry:
    """The same figures by PromQL. A request that no server ever saw is not among them: the mesh's own alerts tell."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url, self.namespace = url.rstrip("/"), namespace

    def read(self, service: str, revisions: tuple[str, ...], seconds: float) -> Reading:
        answers = {
            name: self._ask(query) for name, query in queries(service, self.namespace, revisions, seconds).items()
        }
        if not answers["requests"]:
            raise ServingError(
                f"Prometheus at {self.url} has no figures of {', '.join(revisions)}",
                "check that it scrapes the model servers (slipway_requests_total), and SLIPWAY_PROMETHEUS_URL",
            )
        return Reading({name: _figures(answers, name) for name in revisions}, since_stage=True)

    def _ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of an instant vector."""
        try:
            with httpx.Client(timeout=10.0, trust_env=False) as client:
                answer = client.post(f"{self.url}/api/v1/query", data={"query": query})
                document: dict[str, Any] = answer.json()
            if document["status"] != "success":
                raise ServingError(f"Prometheus refuses {query}: {document.get('error')}")
            return [(one["metric"], float(one["value"][1])) for one in document["data"]["result"]]
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ServingError(
                f"Prometheus at {self.url} does not answer as it should: {error}", "check SLIPWAY_PROMETHEUS_URL"
            ) from error


def _figures(answers: Mapping[str, list[tuple[dict[str, str], float]]], revision: str) -> Figures:
    def of(traffic: str) -> dict[str, Any]:
        def one(name: str) -> int:
            mine = (v for labels, v in answers[name] if _is(labels, revision, traffic))
            return round(sum(mine))

        below = {  # cumulative, as Prometheus has them
            float(labels["le"]): value for labels, value in answers["latency"] if _is(labels, revision, traffic)
        }
        sums = [0.0, *(below.get(bound, 0.0) for bound in BOUNDS)]
        counts = tuple(max(round(b) - round(a), 0) for a, b in pairwise(sums))
        return {"requests": one("requests"), "errors": one("errors"), "fallbacks": one("fallbacks"), "latency": counts}

    return Figures(**of("live"), shadow=Counts(**of("shadow")))


def _is(labels: Mapping[str, str], revision: str, traffic: str) -> bool:
    return labels.get("revision") == revision and labels.get("traffic", "live") == traffic
