"""What runs right now, by its own Prometheus metrics: the stream's consumer, the model server. Knows no page."""

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from slipway.settings import settings

PATIENCE = 0.5  # seconds


@dataclass(frozen=True)
class Reading:
    """One look at a /metrics page."""

    samples: tuple[Sample, ...]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series that have these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        sums: dict[str, float] = {}
        for s in self.samples:
            if s.name == name and label in s.labels:
                sums[s.labels[label]] = sums.get(s.labels[label], 0.0) + s.value
        return sums

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Of a histogram: the end of the bucket that holds it, interpolated as PromQL's histogram_quantile does."""
        ends: dict[float, float] = {}
        for s in self.samples:
            if s.name == f"{name}_bucket" and labels.items() <= s.labels.items():
                end = float(s.labels["le"])
                ends[end] = ends.get(end, 0.0) + s.value
        ordered = sorted(ends.items())
        if not ordered or not ordered[-1][1]:
            return None
        rank, low, below = share * ordered[-1][1], 0.0, 0.0
        for end, count in ordered:
            if count >= rank:
                if end == float("inf") or count == below:
                    return low
                return low + (end - low) * (rank - below) / (count - below)
            low, below = end, count
        return low


def consumer() -> Reading | None:
    """Of the stream's consumer; None where none answers."""
    return _read(f"http://127.0.0.1:{settings().stream_metrics_port}/metrics")


def server(name: str = "movies") -> Reading | None:
    """Of one replica of the service, through the ingress; None where none answers."""
    env = settings()
    return _read(f"http://127.0.0.1:{env.http_port}/metrics", {"Host": f"{name}.{env.namespace}.localhost"})


def _read(url: str, headers: dict[str, str] | None = None) -> Reading | None:
    try:
        reply = httpx.get(url, headers=headers, timeout=PATIENCE, trust_env=False)
        return Reading(tuple(_samples(reply.text))) if reply.status_code == 200 else None
    except (httpx.HTTPError, ValueError):  # nobody there, or somebody else
        return None


def _samples(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples
