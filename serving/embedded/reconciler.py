"""Turns InferenceServices into revisions, traffic and status: one pass brings what is closer to what is wanted.

Each pass may run at any time and any number of times; everything that changes (an object, a process) just asks for
another one. Traffic moves to a revision only when its model is ready, and a revision stops only when it has no traffic
and has answered what it had.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import ValidationError

from serving.embedded import adoption, packages
from serving.embedded.collector import Collector
from serving.embedded.envoy import Gateway
from serving.embedded.folders import Folders
from serving.embedded.ingress import Key, routes, upstream_name
from serving.embedded.objects import REVISIONS, RUNTIMES, SERVICES
from serving.embedded.process import Child
from serving.embedded.replica import Phase, Timing
from serving.embedded.revision import Revision
from serving.embedded.routes import ROUTE_TIMEOUT, Upstream
from serving.embedded.routes import Replica as Endpoint
from serving.embedded.schema import TAGS
from serving.embedded.state import ConflictError, MissingError, Object, State
from serving.embedded.status import rollout_of, service_status, targets_of
from serving.embedded.template import Template, template
from serving.embedded.traffic import Rollout, Target, plan
from slipway.errors import ManifestError, ServingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What one pass wants for one service: pointers, what is wrong with the spec, processes and records to keep."""

    rollout: Rollout
    problem: str
    running: frozenset[str]
    records: frozenset[str]


@dataclass
class Service:
    """What this process knows of one InferenceService beside its object."""

    routed: tuple[Target, ...] = ()
    revisions: dict[str, Revision] = field(default_factory=dict)
    retiring: set[str] = field(default_factory=set)


class Reconciler:
    def __init__(
        self,
        state: State,
        gateway: Gateway,
        folders: Folders,
        *,
        http_port: int,
        timing: Timing,
        endpoint_url: str | None = None,
    ) -> None:
        self.state, self.gateway, self.folders = state, gateway, folders
        self.http_port, self.timing, self.endpoint_url = http_port, timing, endpoint_url
        self.services: dict[Key, Service] = {}
        self.reconciled = asyncio.Event()  # set once every status is this process's own, not its predecessor's
        self.collector = Collector(gateway, self.by_upstream)
        self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._wake = asyncio.Event()
        self._retirements: set[asyncio.Task[None]] = set()
        self._left: list[Child] = []

    def wake(self) -> None:
        self._wake.set()

    def by_upstream(self) -> dict[str, Revision]:
        return {
            upstream_name(namespace, revision.name): revision
            for (namespace, _), service in self.services.items()
            for revision in service.revisions.values()
        }

    async def figures(self, namespace: str, name: str) -> dict[str, Any] | None:
        """What the revisions of a service did; None when there is no such service."""
        if (namespace, name) not in self.services:
            return None
        revisions = self.services[namespace, name].revisions.values()
        return await self.collector.document({upstream_name(namespace, r.name): r for r in revisions})

    async def run(self) -> None:
        """Until cancelled."""
        for record in self.state.list(REVISIONS):
            self._know(record)
        self._left = await adoption.take_over(self.folders, self.by_upstream())
        for found in self.state.list(SERVICES):
            self._resume(found)
        changes = self.state.watch()
        watchers = [asyncio.create_task(self._forward(changes)), asyncio.create_task(self.collector.run())]
        try:
            self.wake()
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._pass()
                    self.reconciled.set()
                    self._end_left()
                except ServingError as error:
                    log.warning("%s", error)
                    asyncio.get_running_loop().call_later(1.0, self.wake)
        finally:
            for watcher in watchers:
                watcher.cancel()
            self.state.unwatch(changes)

    async def _forward(self, changes: "asyncio.Queue[Any]") -> None:
        while True:
            await changes.get()
            self.wake()

    async def stop(self) -> None:
        """Every server ended, at the same time; call after run is cancelled."""
        await self._cancel_retirements()
        ends = [revision.stop() for revision in self.by_upstream().values() if revision.running]
        await asyncio.gather(*ends, adoption.end(self._left, self.timing.stop))
        await self._http.aclose()

    async def leave(self) -> None:
        """Every server goes on, and the next supervisor takes it over; call after run is cancelled."""
        await self._cancel_retirements()
        await asyncio.gather(*(revision.leave() for revision in self.by_upstream().values()))
        await self._http.aclose()

    async def _cancel_retirements(self) -> None:
        for task in self._retirements:
            task.cancel()
        await asyncio.gather(*self._retirements, return_exceptions=True)

    def _know(self, record: Object) -> Revision:
        metadata, spec = record["metadata"], record["spec"]
        service = self.services.setdefault((metadata["namespace"], spec["service"]), Service())
        revision = Revision(
            metadata["name"],
            spec["service"],
            metadata["namespace"],
            Template.model_validate(spec["template"]),
            folders=self.folders,
            timing=self.timing,
            http=self._http,
            endpoint_url=self.endpoint_url,
            changed=self.wake,
        )
        service.revisions[revision.name] = revision
        return revision

    def _resume(self, found: Object) -> None:
        """Traffic stays where the last supervisor sent it, if all who had some are still there."""
        metadata = found["metadata"]
        service = self.services.setdefault((metadata["namespace"], metadata["name"]), Service())
        targets = targets_of(found)
        ready = {name for name, revision in service.revisions.items() if revision.phase is Phase.READY}
        if all(t.revision in ready if t.percent else t.revision in service.revisions for t in targets):
            service.routed = targets

    def _end_left(self) -> None:
        """No route names them any more."""
        left, self._left = self._left, []
        if left:
            task = asyncio.create_task(adoption.end(left, self.timing.stop))
            self._retirements.add(task)
            task.add_done_callback(self._retirements.discard)

    async def _pass(self) -> None:
        objects = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in self.state.list(SERVICES)}
        plans = {key: self._plan(key, found) for key, found in objects.items()}
        for key in self.services.keys() - objects.keys():
            self.services[key].routed = ()  # deleted
        await self._route(objects)
        for key, service in list(self.services.items()):
            self._retire(key, service, plans.get(key, Plan(Rollout(), "", frozenset(), frozenset())))
            if key not in objects and not service.revisions:
                del self.services[key]
        await self._sweep()
        for key, found in objects.items():
            service = self.services[key]
            wanted = service_status(
                found,
                plans[key].rollout,
                service.routed,
                service.revisions,
                plans[key].problem,
                self.http_port,
                self.gateway.edge.scheme,
            )
            with contextlib.suppress(ConflictError, MissingError):  # it changed meanwhile: another pass is coming
                self.state.put(SERVICES, found | {"status": wanted}, status=True)

    def _plan(self, key: Key, found: Object) -> Plan:
        service, problem = self.services.setdefault(key, Service()), ""
        rollout = rollout_of(found, service.revisions)
        try:
            rollout = replace(rollout, latest_created=self._current(key, found, service, rollout.latest_created))
        except ManifestError as error:
            problem = str(error)
        newest = service.revisions.get(rollout.latest_created)
        if newest and newest.was_ready:
            rollout = replace(rollout, latest_ready=newest.name)
        tagged = found["metadata"].get("annotations", {}).get(TAGS) == "true"
        after, targets = plan(rollout, found["spec"]["predictor"].get("canaryTrafficPercent"), tagged)
        running = {rollout.latest_created, *(t.revision for t in targets)} - {""}
        for name in running - service.retiring:
            service.revisions[name].start()
        routed = {t.revision for t in service.routed}
        ready = {r.name for r in service.revisions.values() if r.phase is Phase.READY} - service.retiring
        if all(t.percent == 0 or t.revision in routed | ready for t in targets):
            service.routed, rollout = targets, after
        elif not routed and (now := [t for t in targets if t.percent and t.revision in ready]):
            service.routed = (replace(now[0], percent=100),)  # after a restart: better one of two than none
        running |= {t.revision for t in service.routed}
        pointers = {rollout.latest_created, rollout.latest_ready, rollout.rolledout, rollout.previous}
        return Plan(rollout, problem, frozenset(running), frozenset(running | pointers))

    def _current(self, key: Key, found: Object, service: Service, latest: str) -> str:
        """The revision that runs what the spec says now; created when there is none. Raises ManifestError."""
        namespace, name = key
        named = found["spec"]["predictor"]["model"]["runtime"]
        runtime = self.state.find(RUNTIMES, namespace, named)
        if runtime is None:
            raise ManifestError(f"there is no ServingRuntime {named} in namespace {namespace}", "apply it")
        try:
            wanted = template(found, runtime)
        except ValidationError as error:
            raise ManifestError(f"the stored object is not valid: {error}", "apply it again") from error
        if latest and service.revisions[latest].template == wanted:
            return latest
        number = 1 + max((int(revision.rsplit("-", 1)[1]) for revision in service.revisions), default=0)
        record = {
            "metadata": {"namespace": namespace, "name": f"{name}-{number:05d}"},
            "spec": {"service": name, "template": wanted.model_dump(mode="json")},
        }
        return self._know(self.state.put(REVISIONS, record)).name

    async def _route(self, objects: Mapping[Key, Object]) -> None:
        endpoints = {
            name: Upstream(name, tuple(Endpoint(r.port, r.grpc_port) for r in revision.serving))
            for name, revision in self.by_upstream().items()
        }
        services = {key: (found, self.services[key].routed) for key, found in objects.items()}
        asked = {upstream_name(key[0], t.revision) for key, (_, targets) in services.items() for t in targets}
        serving = {name for name, upstream in endpoints.items() if upstream.replicas}
        upstreams = {name: endpoints[name] for name in sorted(serving | (asked & endpoints.keys()))}
        await self.gateway.apply(upstreams, routes(services, serving))

    def _retire(self, key: Key, service: Service, wanted: Plan) -> None:
        """Stop what has no traffic and is not wanted; forget what no pointer names."""
        for name in service.revisions.keys() - wanted.running - service.retiring:
            revision = service.revisions[name]
            if revision.running:
                service.retiring.add(name)
                task = asyncio.create_task(self._drain(key, service, revision))
                self._retirements.add(task)
                task.add_done_callback(self._retirements.discard)
            elif name not in wanted.records:
                del service.revisions[name]
                with contextlib.suppress(MissingError):
                    self.state.delete(REVISIONS, key[0], name)

    async def _sweep(self) -> None:
        """Delete packages that no revision uses; while one has yet to fetch its own, which may be among them, none."""
        used = [revision.package for revision in self.by_upstream().values()]
        if None not in used:
            await packages.sweep(self.folders.packages, used)

    async def _drain(self, key: Key, service: Service, revision: Revision) -> None:
        """Its weight is 0 by now: wait for the requests that it still has, then end it. SIGTERM first loses some."""
        deadline = time.monotonic() + ROUTE_TIMEOUT + 1
        await asyncio.sleep(0.2)  # Envoy's workers take a confirmed route a moment after its main thread
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < deadline and await self.gateway.active(upstream_name(key[0], revision.name)):
                await asyncio.sleep(0.05)
        await self.collector.look()  # what it counted goes with it
        await revision.stop()
        service.retiring.discard(revision.name)
        self.wake()
