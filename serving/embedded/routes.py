"""Envoy's clusters and routes as a pure function of who serves and who gets which share. Knows no process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ROUTE_TIMEOUT = 15.0  # seconds; the longest that one request may take
TYPE = "type.googleapis.com/envoy"
BUFFER = "envoy.filters.http.buffer"
JSON = {
    "header": {"key": "content-type", "value": "application/json"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


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
    sticky: the header whose value decides the share that a request belongs to; "" is chance.
    token: what a client must send as `Authorization: Bearer <token>`; "" is nothing.
    """

    name: str
    hosts: tuple[str, ...]
    weights: tuple[tuple[str, int], ...]
    tags: tuple[tuple[str, str], ...] = ()
    mirror: tuple[str, int] | None = None
    sticky: str = ""
    token: str = ""


def clusters(upstreams: Sequence[Upstream]) -> list[dict[str, Any]]:
    return [
        one
        for u in upstreams
        for one in (
            _cluster(u.name, [r.port for r in u.replicas]),
            _cluster(f"{u.name}|grpc", [r.grpc_port for r in u.replicas], http2=True),
        )
    ]


def _cluster(name: str, ports: Sequence[int], http2: bool = False) -> dict[str, Any]:
    protocol: dict[str, Any] = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}} for port in ports]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            }
        },
    }


def address(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def route_table(routes: Sequence[Route], version: int) -> dict[str, Any]:
    """A virtual host per service, and a 404 that lists them for every other host.

    version is part of a name, because Envoy neither takes nor reports a new version of the same routes.
    """
    known = sorted(host for route in routes for host in route.hosts)
    message = json.dumps({"error": "no InferenceService has this host", "hosts": known}) + "\n"
    unmatched = {
        "name": f"unmatched-{version}",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": message}}}],
        "response_headers_to_add": [JSON],
    }
    return {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": "ingress",
        "virtual_hosts": [*map(_virtual_host, routes), unmatched],
    }


def _virtual_host(route: Route) -> dict[str, Any]:
    if not any(weight for _, weight in route.weights):
        body = json.dumps({"error": f"{route.name} is not ready: no revision of it serves"}) + "\n"
        answer = {"match": {"prefix": "/"}, "direct_response": {"status": 503, "body": {"inline_string": body}}}
        plain = {"name": route.name, "domains": list(route.hosts), "routes": [answer]}
        return plain | {"response_headers_to_add": [JSON]}

    def action(suffix: str) -> dict[str, Any]:
        weighted = [{"name": f"{name}{suffix}", "weight": weight} for name, weight in route.weights]
        return {"timeout": f"{ROUTE_TIMEOUT}s", "weighted_clusters": {"clusters": weighted}}

    # A gRPC stream may be open for long: it is not buffered, the server has its own limit.
    unbuffered = {BUFFER: {"@type": f"{TYPE}.extensions.filters.http.buffer.v3.BufferPerRoute", "disabled": True}}
    return {
        "name": route.name,
        "domains": list(route.hosts),
        "routes": [
            {"match": {"prefix": "/", "grpc": {}}, "route": action("|grpc"), "typed_per_filter_config": unbuffered},
            {"match": {"prefix": "/"}, "route": action("")},
        ],
    }
