"""What runs right now, by its own Prometheus metrics: the stream's consumer, the model server. Knows no page."""

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
import yaml
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
    """Of the stream's consumer, where the settings say that it listens; None where none answers."""
    env = settings()
    return _read(f"http://{env.stream_metrics_host}:{env.stream_metrics_port}/metrics")


def server(name: str = "movies") -> Reading | None:
    """Of all servers of the service together; None where none answers.

    Each is asked itself: the ingress shows no /metrics, and would ask any one of them.
    """
    env = settings()
    try:
        config = yaml.safe_load((env.home / "serving" / "kubeconfig").read_text())
        path = f"apis/metrics.slipway.dev/v1/namespaces/{env.namespace}/inferenceservices/{name}"
        url = f"{config['clusters'][0]['cluster']['server']}/{path}"
        replicas = httpx.get(url, timeout=PATIENCE, trust_env=False).raise_for_status().json()["replicas"]
        ports = [one["port"] for some in replicas.values() for one in some if one["phase"] == "Ready"]
    except (OSError, yaml.YAMLError, httpx.HTTPError, LookupError, TypeError, ValueError):  # it is down
        return None
    found = [reading for port in ports if (reading := _read(f"http://127.0.0.1:{port}/metrics"))]
    return Reading(tuple(sample for reading in found for sample in reading.samples)) if found else None


def _read(url: str) -> Reading | None:
    try:
        reply = httpx.get(url, timeout=PATIENCE, trust_env=False)
        return Reading(tuple(_samples(reply.text))) if reply.status_code == 200 else None
    except (httpx.HTTPError, ValueError):  # nobody there, or somebody else
        return None


def _samples(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples
