"""What Envoy saw of each upstream: counts that only grow. Knows Envoy's names of counters, and judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Requests as one upstream's replicas got them: one that is tried on two replicas counts once for each.

    ok: answered below 400; client_errors: 4xx; server_errors: 5xx; unanswered: the connection failed or was reset, or
    the time was over. shadow: the same of mirrored requests, which the others leave out.
    """

    requests: int = 0
    ok: int = 0
    client_errors: int = 0
    server_errors: int = 0
    unanswered: int = 0
    shadow: "Counts | None" = None

    @property
    def errors(self) -> int:
        return self.server_errors + self.unanswered


def counts(statistics: Mapping[str, int], upstream: str) -> Counts:
    """statistics: Envoy's counters by name."""
    total = Counts()
    for cluster in (upstream, f"{upstream}|grpc"):

        def one(name: str, cluster: str = cluster) -> int:
            return statistics.get(f"cluster.{cluster}.{name}", 0)

        total = Counts(
            total.requests + one("upstream_rq_total"),
            total.ok + one("upstream_rq_2xx") + one("upstream_rq_3xx"),
            total.client_errors + one("upstream_rq_4xx"),
            total.server_errors + one("upstream_rq_5xx"),
            total.unanswered + one("upstream_cx_connect_fail") + one("upstream_rq_rx_reset"),
        )
    return total
