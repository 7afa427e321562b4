"""What Envoy saw of each upstream: counts that only grow. Knows Envoy's names of counters, and judges nothing."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from serving.embedded.routes import names

PARTS = (".external", ".internal", ".retry")  # of what is counted without them too


@dataclass(frozen=True)
class Counts:
    """Requests as one upstream's replicas got them: one that is tried on two replicas counts once for each.

    client_errors: answered 4xx; server_errors: 5xx; unanswered: never, because the connection failed or was reset,
    the time was over or nobody was there. shadow: the same of mirrored requests, which the others leave out.
    meant: requests that a route gave to this upstream first, whoever answered them.
    """

    requests: int = 0
    client_errors: int = 0
    server_errors: int = 0
    unanswered: int = 0
    meant: int = 0
    shadow: "Counts | None" = None

    @property
    def ok(self) -> int:
        """Answered below 400, or in progress."""
        return max(self.requests - self.client_errors - self.errors, 0)

    @property
    def errors(self) -> int:
        return self.server_errors + self.unanswered

    def __add__(self, other: "Counts") -> "Counts":
        """Without shadows."""
        return Counts(
            self.requests + other.requests,
            self.client_errors + other.client_errors,
            self.server_errors + other.server_errors,
            self.unanswered + other.unanswered,
            self.meant + other.meant,
        )


def counts(totals: Mapping[str, int], upstreams: Iterable[str]) -> dict[str, Counts]:
    """totals: Envoy's counters by name, `cluster.<cluster>.<counter>`.

    A request and its loss are counted at the cluster that holds the replicas. What it was answered is counted at the
    cluster that the route names, which may be a pair: it is the first one's, because the second is asked only where
    the first did not answer, and that is an error of the first already.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name, value in totals.items():
        cluster, _, counter = name.removeprefix("cluster.").rpartition(".")
        if not cluster.endswith(PARTS):
            found[cluster][counter] = value
    asked: dict[str, Counter[str]] = defaultdict(Counter)
    for cluster, counters in found.items():
        asked[re.sub(r">[^|]*", "", cluster)].update(counters)

    def of(upstream: str, shadow: bool = False) -> Counts:
        http, grpc = names(upstream, shadow)
        return _counts(found[http], asked[http], http2=False, tried_again=not shadow) + _counts(
            found[grpc], asked[grpc], http2=True, tried_again=not shadow
        )

    return {upstream: replace(of(upstream), shadow=of(upstream, shadow=True)) for upstream in upstreams}


def _counts(own: Counter[str], asked: Counter[str], http2: bool, tried_again: bool) -> Counts:
    # Not connected, or (HTTP/2) connected and lost; HTTP/1 counts its lost connections, which had a request each.
    lost = own["upstream_rq_pending_failure_eject"]
    never_sent = own["upstream_cx_connect_fail"] if http2 else lost
    lost += own["upstream_rq_rx_reset"] if http2 else own["upstream_cx_destroy_remote_with_active_rq"]
    refused = asked["upstream_cx_none_healthy"] + own["upstream_rq_pending_overflow"]
    late = asked["upstream_rq_timeout"]
    # Envoy's own 503 and 504 are among the 5xx.
    gave_up = asked["upstream_rq_retry_limit_exceeded"] + asked["upstream_rq_retry_overflow"] if tried_again else lost
    answered_5xx = asked["upstream_rq_5xx"] - gave_up - refused - late
    return Counts(
        requests=own["upstream_rq_total"] + never_sent + refused,
        client_errors=asked["upstream_rq_4xx"],
        server_errors=max(answered_5xx, 0),
        unanswered=lost + refused + late,
        meant=asked["upstream_rq_completed"],
    )


class Ledger:
    """Counts that go on where Envoy starts over, and stay when an upstream goes.

    Where none of an upstream's replicas is alive, Envoy asks the other one at once. Those requests are counted here, as
    requests that the first never answered, or else a revision that is always dead would look as good as a healthy one.
    """

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._now: Mapping[str, int] = {}
        self._last: dict[str, Counts] = {}
        self._ahead: Counter[str] = Counter()  # tried and not finished, or tried twice
        self._missed: Counter[str] = Counter()

    def read(self, found: Mapping[str, int], upstreams: Iterable[str]) -> dict[str, Counts]:
        """found: Envoy's counters by name."""
        for name, last in self._now.items():
            if found.get(name, 0) < last:
                self._before[name] += last
        self._now = dict(found)
        now = counts(self._before + Counter(self._now), {*upstreams, *self._last})
        for name, seen in now.items():
            last = self._last.get(name, Counts())
            self._ahead[name] += seen.requests - last.requests - (seen.meant - last.meant)
            if self._ahead[name] < 0:
                self._missed[name] -= self._ahead.pop(name)
        self._last = now
        return {
            name: replace(one, requests=one.requests + missed, unanswered=one.unanswered + missed)
            for name, one in now.items()
            for missed in [self._missed[name]]
        }
