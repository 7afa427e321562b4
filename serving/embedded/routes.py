"""Envoy's clusters and routes as a pure function of who serves and who gets which share. Knows no process.

Clusters of upstream A:  `A` and `A|grpc`, its replicas. `A>B`: A, and B where no replica of A answers; for routes
that split between the two. `A|shadow`: its replicas again, for copies, so that they are counted apart.

A request that got no answer because its replica ended (not reached, refused, reset) is tried again: on another replica,
then on the other revision. That may compute an answer twice and shows nobody two: inference has no side effects, and
feedback is known by its event_id. An answer, be it a 500, is never tried again: it is the revision's own.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.metrics import SHADOW_HEADER, Traffic

ROUTE_TIMEOUT = 15.0  # seconds; the longest that one request may take
TRIES = 2  # of one request on a revision, before it goes to the other one
SHADOWS = 64  # copies in progress at most; more are dropped, so that a slow candidate costs its users nothing
TYPE = "type.googleapis.com/envoy"
BUFFER = "envoy.filters.http.buffer"
KEY_AUTH = "envoy.filters.http.api_key_auth"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
MARKER = "version-"
PRIVATE = ("/metrics", "/v2/repository")
"""Paths of a model server that are its operator's: what it counts, and which models are loaded."""
PRIVATE_RPC = "/inference.GRPCInferenceService/Repository"


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


JSON = _header("content-type", "application/json")


@dataclass(frozen=True)
class Replica:
    """One server process of a revision, on 127.0.0.1."""

    port: int
    grpc_port: int


@dataclass(frozen=True)
class Upstream:
    """One revision's servers: `<namespace>.<revision>`."""

    name: str
    replicas: tuple[Replica, ...]


@dataclass(frozen=True)
class Route:
    """One InferenceService: its hosts, and each upstream's share in percent (they sum to 100), the candidate first.

    tags: (tag, upstream); the upstream alone answers `<tag>-<host>` of each host.
    mirror: the upstream that gets a copy of that percentage of requests, and whose answers nobody sees.
    sticky: the header whose value decides the share that a request belongs to; "" is chance. With the candidate
    first, a larger share takes users from the other revision and gives it none.
    token: what a client must send as `Authorization: Bearer <token>`; "" is nothing.
    """

    name: str
    hosts: tuple[str, ...]
    weights: tuple[tuple[str, int], ...]
    tags: tuple[tuple[str, str], ...] = ()
    mirror: tuple[str, int] | None = None
    sticky: str = ""
    token: str = ""

    @property
    def shares(self) -> tuple[tuple[str, int], ...]:
        return tuple((upstream, percent) for upstream, percent in self.weights if percent)

    @property
    def destinations(self) -> tuple[tuple[str, int], ...]:
        """Clusters and their shares: each upstream with the largest other one behind it."""
        found = []
        for upstream, percent in self.shares:
            others = [(share, name) for name, share in self.shares if name != upstream]
            found.append((f"{upstream}>{max(others)[1]}" if others else upstream, percent))
        return tuple(found)


def clusters(upstreams: Iterable[Upstream], routes: Sequence[Route]) -> list[dict[str, Any]]:
    """Every cluster that these upstreams and routes need."""
    found = []
    mirrored = {route.mirror[0] for route in routes if route.mirror}
    for upstream in upstreams:
        for grpc in (False, True):
            ports = [one.grpc_port if grpc else one.port for one in upstream.replicas]
            found.append(_replicas(_of(upstream.name, grpc), ports, grpc))
            if upstream.name in mirrored:
                found.append(_replicas(_of(upstream.name, grpc, shadow=True), ports, grpc, SHADOWS))
    pairs = {name for route in routes for name, _ in route.destinations if ">" in name}
    return found + [_pair(pair, grpc) for pair in sorted(pairs) for grpc in (False, True)]


def _of(name: str, grpc: bool, shadow: bool = False) -> str:
    return name + "|grpc" * grpc + "|shadow" * shadow


def names(upstream: str, shadow: bool = False) -> tuple[str, str]:
    """The clusters that hold its replicas."""
    return _of(upstream, False, shadow), _of(upstream, True, shadow)


def members(cluster: str) -> frozenset[str]:
    """The upstreams that a cluster's name names."""
    return frozenset(cluster.split("|", maxsplit=1)[0].split(">"))


def _replicas(name: str, ports: Sequence[int], grpc: bool, limit: int = 1024) -> dict[str, Any]:
    # A model server closes a connection that it has not used for a while; Envoy must be the first.
    common = {"common_http_protocol_options": {"idle_timeout": "3s"}}
    check = {
        # Whether a process listens at all; whether it answers is its supervisor's to judge, and a busy one does not.
        **{"tcp_health_check": {}, "timeout": "1s", "interval": "0.5s", "no_traffic_interval": "0.5s"},
        **{"unhealthy_threshold": 1, "healthy_threshold": 1},
    }
    return {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}} for port in ports]}],
            # One replica of several takes all of its revision's share: the split does not move when one ends.
            "policy": {"overprovisioning_factor": 10_000},
        },
        "lb_policy": "ROUND_ROBIN",  # by fewest requests, a dead one would be tried first, and again
        # Where no replica looks alive, ask them all: better than to refuse.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}},
        "health_checks": [check],
        "circuit_breakers": _limits(limit),
        "typed_extension_protocol_options": _protocol(grpc, common),
    }


def marker(version: int) -> dict[str, Any]:
    """A cluster that nobody uses: Envoy reports a new version only of clusters that differ from those it has."""
    return {"@type": f"{TYPE}.config.cluster.v3.Cluster", "name": f"{MARKER}{version}", "type": "STATIC"}


def is_marker(cluster: dict[str, Any]) -> bool:
    return bool(cluster["name"].startswith(MARKER))


def _pair(name: str, grpc: bool) -> dict[str, Any]:
    first, second = name.split(">")
    return {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": _of(name, grpc),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [_of(first, grpc), _of(second, grpc)],
            },
        },
        "circuit_breakers": _limits(1024),
        "typed_extension_protocol_options": _protocol(grpc, {}),
    }


def _limits(number: int) -> dict[str, Any]:
    """Retries too: all requests of a replica that ends are tried again at once, and three are the default."""
    what = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [{"priority": "DEFAULT", **dict.fromkeys(what, number)}]}


def _protocol(grpc: bool, common: dict[str, Any]) -> dict[str, Any]:
    explicit: dict[str, Any] = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {}}
    name = "extensions.upstreams.http.v3.HttpProtocolOptions"
    return {f"envoy.{name}": {"@type": f"{TYPE}.{name}", "explicit_http_config": explicit, **common}}


def address(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def route_table(routes: Sequence[Route], version: int, token: str = "", rate: int = 0) -> dict[str, Any]:
    """A virtual host per service, and a 404 that lists them for every other host.

    version is part of a name, because Envoy neither takes nor reports a new version of the same routes.
    token: for what has none of its own. rate: requests a second that each service takes; 0 is any number.
    """
    hosts = [virtual for route in routes for virtual in _virtual_hosts(route, token, rate)]
    known = sorted(host for route in routes for host in route.hosts)
    message = {"error": "no InferenceService has this host", "hosts": known}
    unmatched = {"name": f"unmatched-{version}", "domains": ["*"], "routes": [_says({"prefix": "/"}, 404, message)]}
    return {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": "ingress",
        # Who calls a request of their own a copy would keep it from the judge's eyes.
        "request_headers_to_remove": [SHADOW_HEADER],
        "virtual_hosts": [*hosts, unmatched | _guards("unmatched", token, rate)],
    }


def _virtual_hosts(route: Route, token: str, rate: int) -> Iterable[dict[str, Any]]:
    guards = _guards(route.name, route.token or token, rate)
    yield {"name": route.name, "domains": list(route.hosts), "routes": _routes(route), **guards}
    for tag, upstream in route.tags:
        # Asked for by name: that revision or none.
        only = Route(route.name, tuple(f"{tag}-{host}" for host in route.hosts), ((upstream, 100),))
        yield {"name": f"{tag}-{route.name}", "domains": list(only.hosts), "routes": _routes(only), **guards}


def _routes(route: Route) -> list[dict[str, Any]]:
    if not route.shares:
        return [_says({"prefix": "/"}, 503, {"error": f"{route.name} is not ready: no revision of it serves"})]
    refused = {"error": "this path of a model server is not served here"}
    # A gRPC stream may be open for long: it is not buffered, the server has its own limit.
    unbuffered = {BUFFER: {"@type": f"{TYPE}.extensions.filters.http.buffer.v3.BufferPerRoute", "disabled": True}}
    grpc = {"match": {"prefix": "/", "grpc": {}}, "typed_per_filter_config": unbuffered}
    return [
        *(_says({"path_separated_prefix": path}, 404, refused) for path in PRIVATE),
        _says({"prefix": PRIVATE_RPC}, 404, refused),
        # What a user did is counted once.
        {"match": {"path": "/v1/feedback"}, "route": _action(route, grpc=False, mirror=False)},
        grpc | {"route": _action(route, grpc=True)},
        {"match": {"prefix": "/"}, "route": _action(route, grpc=False)},
    ]


def _says(match: dict[str, Any], status: int, body: dict[str, Any]) -> dict[str, Any]:
    text = {"inline_string": json.dumps(body) + "\n"}
    return {
        "match": match,
        "direct_response": {"status": status, "body": text},
        "response_headers_to_add": [JSON],
    }


def _action(route: Route, grpc: bool, mirror: bool = True) -> dict[str, Any]:
    weighted = [{"name": _of(name, grpc), "weight": percent} for name, percent in route.destinations]
    action: dict[str, Any] = {
        "timeout": f"{ROUTE_TIMEOUT}s",
        "weighted_clusters": {"clusters": weighted},
        "retry_policy": _retries(),
    }
    if route.sticky:
        # With the candidate's name in it, every candidate meets other users first.
        salted = {"pattern": {"regex": "^.*$"}, "substitution": rf"{route.shares[0][0]}/\0"}
        action["hash_policy"] = [{"header": {"header_name": route.sticky, "regex_rewrite": salted}}]
        action["weighted_clusters"]["use_hash_policy"] = True
    if mirror and route.mirror and route.mirror[1]:
        upstream, percent = route.mirror
        fraction = {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}
        action["request_mirror_policies"] = [
            {
                "cluster": _of(upstream, grpc, True),
                "runtime_fraction": fraction,
                "request_headers_mutations": [{"append": _header(SHADOW_HEADER, Traffic.SHADOW.value)}],
            }
        ]
    return action


def _retries() -> dict[str, Any]:
    hosts, priorities = "extensions.retry.host.previous_hosts.v3", "extensions.retry.priority.previous_priorities.v3"
    return {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": TRIES + 1,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.1s"},
        "host_selection_retry_max_attempts": 3,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{TYPE}.{hosts}.PreviousHostsPredicate"},
            }
        ],
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": f"{TYPE}.{priorities}.PreviousPrioritiesConfig", "update_frequency": TRIES},
        },
    }


def _guards(name: str, token: str, rate: int) -> dict[str, Any]:
    """The filters of serving.embedded.edge that are off unless a virtual host turns them on."""
    filters: dict[str, Any] = {}
    if token:
        kind = "extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"
        filters[KEY_AUTH] = {
            "@type": f"{TYPE}.{kind}",
            "credentials": [{"key": token, "client": "slipway"}],
            "key_sources": [{"header": "authorization"}],
            "forwarding": {"hide_credentials": True},  # a model server has no use for it
        }
    if rate:
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        filters[RATE_LIMIT] = {
            "@type": f"{TYPE}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": name,
            "token_bucket": {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limited_as_resource_exhausted": True,
        }
    return {"typed_per_filter_config": filters} if filters else {}
