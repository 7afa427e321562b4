"""What the revisions of a service did: figures that only grow, summed over replicas. Knows Prometheus' text, no policy.

A server counts for itself and from 0. A `Meter` bridges that for as long as it lives: what it last heard of a process
that is gone stays in the sum. Envoy's counts come bridged already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from serving.embedded.figures import Counts
from slipway.rollout.evidence import BOUNDS

PREDICTIONS = frozenset(("v1", "v2", "grpc"))
"""Routes of the model server that answer a request for a prediction; the others are looks at its state."""

# gRPC's codes for what HTTP calls 5xx (https://grpc.io/docs/guides/status-codes/).
FAILED = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED"))
NO_FALLBACK = frozenset(("", "none"))


@dataclass(frozen=True)
class Figures:
    """latency: answers per bucket of BOUNDS, each bucket without those below it."""

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    latency: tuple[int, ...] = (0,) * len(BOUNDS)

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            self.fallbacks + other.fallbacks,
            tuple(a + b for a, b in zip(self.latency, other.latency, strict=True)),
        )

    def document(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "fallbacks": self.fallbacks,
            "latency": list(self.latency),
        }


@dataclass(frozen=True)
class Seen:
    """Of live and of mirrored requests."""

    live: Figures = Figures()
    shadow: Figures = Figures()

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(self.live + other.live, self.shadow + other.shadow)


def parse(text: str) -> Seen | None:
    """What a model server's exposition says of predictions; None when it does not count them at all."""
    lines = [line for line in text.splitlines() if line.startswith("slipway_request")]
    if not lines:
        return None
    found = {"live": [0, 0, 0], "shadow": [0, 0, 0]}
    below: dict[str, dict[float, float]] = {"live": {}, "shadow": {}}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            labels, kind = sample.labels, sample.labels.get("traffic", "live")
            if labels.get("route") not in PREDICTIONS or kind not in found:
                continue
            if sample.name == "slipway_requests_total":
                status, fallback = labels.get("status", ""), labels.get("fallback", "")
                wrong = status.startswith("5") or status in FAILED
                for place, counts in enumerate((True, wrong, not wrong and fallback not in NO_FALLBACK)):
                    found[kind][place] += int(sample.value) if counts else 0
            elif sample.name == "slipway_request_seconds_bucket":
                bound = float(labels["le"])
                below[kind][bound] = below[kind].get(bound, 0.0) + sample.value
    live, shadow = (Figures(*found[kind], latency=_buckets(below[kind])) for kind in ("live", "shadow"))
    return Seen(live, shadow)


def _buckets(below: Mapping[float, float]) -> tuple[int, ...]:
    """Prometheus' cumulative buckets as counts per bucket of BOUNDS; a bound that is not there has what is below it."""
    counts, before = [], 0
    for bound in BOUNDS:
        cumulative = max(before, int(below.get(bound, before)))
        counts.append(cumulative - before)
        before = cumulative
    return tuple(counts)


@dataclass
class Meter:
    """Of one revision."""

    gone: Seen = field(default_factory=Seen)
    servers: dict[str, Seen] = field(default_factory=dict)
    """By instance: what each process said last."""
    edge: Counts = field(default_factory=Counts)
    """What Envoy saw."""
    counting: bool = False
    """Whether a server counts predictions itself; one that is not ours may not, and then Envoy's counts have to do."""

    def heard(self, instance: str, seen: Seen) -> None:
        self.counting, self.servers[instance] = True, seen

    def keep(self, instances: Iterable[str]) -> None:
        """Processes that are not among these are gone."""
        for instance in self.servers.keys() - set(instances):
            self.gone += self.servers.pop(instance)

    def document(self) -> dict[str, Any]:
        """{requests, errors, fallbacks, latency, shadow: {the same}}: who never answered a request erred."""
        seen, edge = sum(self.servers.values(), self.gone), self.edge
        mirrored = edge.shadow or Counts()
        if not self.counting:
            seen = Seen(_answered(edge), _answered(mirrored))
        never = [Figures(counts.unanswered, counts.unanswered) for counts in (edge, mirrored)]
        return (seen.live + never[0]).document() | {"shadow": (seen.shadow + never[1]).document()}


def _answered(counts: Counts) -> Figures:
    return Figures(counts.ok + counts.client_errors + counts.server_errors, counts.server_errors)
