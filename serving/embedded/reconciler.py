"""Turns InferenceServices into revisions, traffic and status: one pass brings what is closer to what is wanted.

Each pass may run at any time and any number of times; everything that changes (an object, a process) just asks for
another one. Traffic moves to a revision only when its model is ready, and a revision stops only when it has no traffic
and has answered what it had.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from serving.embedded import schema
from serving.embedded.envoy import Gateway
from serving.embedded.revision import Folders, Phase, Revision, Template, Timing
from serving.embedded.routes import ROUTE_TIMEOUT, Replica, Route, Upstream
from serving.embedded.state import ConflictError, MissingError, Object, State
from serving.embedded.status import hosts, rollout_of, service_status
from serving.embedded.traffic import Rollout, Target, plan
from slipway.errors import ManifestError, ServingError

log = logging.getLogger(__name__)

SERVICES, RUNTIMES, REVISIONS = "inferenceservices", "servingruntimes", "revisions"
Key = tuple[str, str]
"""(namespace, name)"""


def template(service: Object, runtime: Object) -> Template:
    """The runtime's container with the predictor's model merged over it, as KServe does it. Raises ManifestError."""
    model = schema.InferenceService.model_validate(service).spec.predictor.model
    spec = schema.ServingRuntime.model_validate(runtime).spec
    formats = {one.name for one in spec.supportedModelFormats}
    if model.modelFormat.name not in formats:
        raise ManifestError(
            f"runtime {model.runtime} does not serve model format {model.modelFormat.name}",
            f"use one of: {', '.join(sorted(formats))}",
        )
    if model.protocolVersion and spec.protocolVersions and model.protocolVersion not in spec.protocolVersions:
        raise ManifestError(f"runtime {model.runtime} does not speak protocol {model.protocolVersion}")
    container = spec.containers[0]
    return Template(
        model_name=service["metadata"]["name"],
        storage_uri=model.storageUri,
        command=tuple(model.command or container.command),
        args=(*(container.args or ()), *(model.args or ())),
        env={one.name: one.value for one in (*container.env, *model.env)},
    )


def unusable(plural: str, stored: Object) -> str:
    """Why a stored object cannot be worked with; "" when it can."""
    models: dict[str, type[BaseModel]] = {
        SERVICES: schema.InferenceService,
        RUNTIMES: schema.ServingRuntime,
        REVISIONS: RevisionRecord,
    }
    return "; ".join(f"{p.field}: {p.message}" for p in schema.problems(models[plural], stored))


class RevisionSpec(BaseModel):
    service: str
    template: Template


class RevisionRecord(BaseModel):
    """What is kept of a revision, so that a rollback finds it after a restart."""

    metadata: schema.Metadata
    spec: RevisionSpec


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
        self._wake = asyncio.Event()
        self._retirements: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        for record in self.state.list(REVISIONS):
            self._adopt(record)
        changes = self.state.watch()
        watcher = asyncio.create_task(self._forward(changes))
        try:
            self.wake()
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._pass()
                    self.reconciled.set()
                except ServingError as error:
                    log.warning("%s", error)
                    asyncio.get_running_loop().call_later(1.0, self.wake)
        finally:
            watcher.cancel()
            self.state.unwatch(changes)

    async def _forward(self, changes: "asyncio.Queue[Any]") -> None:
        while True:
            await changes.get()
            self.wake()

    async def stop(self) -> None:
        """Every server ended, at the same time; call after run is cancelled."""
        for task in self._retirements:
            task.cancel()
        await asyncio.gather(*self._retirements, return_exceptions=True)
        revisions = [r for service in self.services.values() for r in service.revisions.values()]
        await asyncio.gather(*(revision.stop() for revision in revisions))

    def _adopt(self, record: Object) -> Revision:
        metadata, spec = record["metadata"], record["spec"]
        service = self.services.setdefault((metadata["namespace"], spec["service"]), Service())
        revision = Revision(
            metadata["name"],
            spec["service"],
            metadata["namespace"],
            Template.model_validate(spec["template"]),
            folders=self.folders,
            timing=self.timing,
            endpoint_url=self.endpoint_url,
            changed=self.wake,
        )
        service.revisions[revision.name] = revision
        return revision

    async def _pass(self) -> None:
        objects = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in self.state.list(SERVICES)}
        plans = {key: self._plan(key, found) for key, found in objects.items()}
        for key in self.services.keys() - objects.keys():
            self.services[key].routed = ()  # deleted
        await self._route(sorted(objects))
        for key, service in list(self.services.items()):
            self._retire(key, service, plans.get(key, Plan(Rollout(), "", frozenset(), frozenset())))
            if key not in objects and not service.revisions:
                del self.services[key]
        await self._sweep()
        for key, found in objects.items():
            service = self.services[key]
            wanted = service_status(
                found, plans[key].rollout, service.routed, service.revisions, plans[key].problem, self.http_port
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
        after, targets = plan(rollout, found["spec"]["predictor"].get("canaryTrafficPercent"))
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
        return self._adopt(self.state.put(REVISIONS, record)).name

    async def _route(self, keys: Iterable[Key]) -> None:
        upstreams = {
            f"{namespace}.{r.name}": Upstream(f"{namespace}.{r.name}", (Replica(r.port, r.grpc_port),))
            for (namespace, _), service in self.services.items()
            for r in service.revisions.values()
            if r.port
        }
        routes = []
        for namespace, name in keys:
            shares = [(f"{namespace}.{t.revision}", t.percent) for t in self.services[namespace, name].routed]
            weights = tuple((upstream, share) for upstream, share in shares if share and upstream in upstreams)
            routes.append(Route(f"{namespace}.{name}", hosts(namespace, name), weights))
        await self.gateway.apply(upstreams, routes)

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
        used = [r.package for service in self.services.values() for r in service.revisions.values()]
        if None in used or not self.folders.packages.is_dir():
            return
        for package in set(self.folders.packages.iterdir()) - set(used):
            trash = package.with_name(f".{package.name}.trash")
            with contextlib.suppress(OSError):
                package.rename(trash)  # gone for a fetch that begins meanwhile
                await asyncio.to_thread(shutil.rmtree, trash, ignore_errors=True)

    async def _drain(self, key: Key, service: Service, revision: Revision) -> None:
        """Its weight is 0 by now: wait for the requests that it still has, then end it. SIGTERM first loses some."""
        deadline = time.monotonic() + ROUTE_TIMEOUT + 1
        await asyncio.sleep(0.2)  # Envoy's workers take a confirmed route a moment after its main thread
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < deadline and await self.gateway.active(f"{key[0]}.{revision.name}"):
                await asyncio.sleep(0.05)
        await revision.stop()
        service.retiring.discard(revision.name)
        self.wake()
