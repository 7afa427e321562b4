"""One revision of one InferenceService: a package on disk and the replicas that serve it. Knows nothing of traffic.

As in Knative it is ready for the first time when all its replicas are, and stays so while one is.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from serving.embedded.folders import Folders
from serving.embedded.packages import fetch
from serving.embedded.replica import Context, Phase, Replica, Timing
from serving.embedded.template import Template

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """at: seconds since the epoch."""

    reason: str
    message: str
    exit_code: int | None
    at: float


class Revision:
    def __init__(
        self,
        name: str,
        service: str,
        namespace: str,
        template: Template,
        *,
        folders: Folders,
        timing: Timing,
        http: httpx.AsyncClient,
        endpoint_url: str | None,
        changed: Callable[[], None],
    ) -> None:
        """http: asks the servers; changed: told of every change of a replica."""
        self.name, self.service, self.namespace, self.template = name, service, namespace, template
        self.was_ready = False
        self.package: Path | None = None
        self.failure: Failure | None = None
        self._folders, self._endpoint_url, self._tell = folders, endpoint_url, changed
        self._fetching = asyncio.Lock()
        self._running = self._stopping = self._reached = False
        self._settling: asyncio.Task[None] | None = None
        context = Context(
            revision=name,
            service=service,
            namespace=namespace,
            template=template,
            folders=folders,
            timing=timing,
            http=http,
            fetch=self._fetch,
            proven=lambda: self.was_ready,
            changed=self._changed,
        )
        self.replicas = tuple(Replica(context, index) for index in range(template.replicas))

    def start(self) -> None:
        if not self._running:
            self._running = True
            for replica in self.replicas:
                replica.start()

    async def adopt(self) -> None:
        """Take over what an earlier supervisor left of it; the rest is started when somebody wants the revision."""
        for replica in self.replicas:
            if package := await replica.adopt():
                self.package = package
        if any(replica.phase is Phase.READY for replica in self.replicas):
            self.was_ready = self._reached = True
        if self.package:
            self.start()

    @property
    def running(self) -> bool:
        return self._running

    @property
    def phase(self) -> Phase:
        if self._stopping:
            return Phase.STOPPING
        if not self._running:
            return Phase.STOPPED if self.was_ready else Phase.PENDING
        phases = {replica.told for replica in self.replicas}
        if Phase.FAILED in phases and not self.was_ready:
            return Phase.FAILED
        if phases == {Phase.READY} or (self._reached and Phase.READY in phases):
            return Phase.READY
        order = (Phase.BACKOFF, Phase.UNREADY, Phase.FAILED, Phase.STARTING, Phase.FETCHING, Phase.PENDING)
        return next((phase for phase in order if phase in phases), Phase.STOPPED)

    @property
    def telling(self) -> Replica:
        """The replica that gave the revision its phase: who asks why, asks this one."""
        return next((replica for replica in self.replicas if replica.told is self.phase), self.replicas[0])

    @property
    def serving(self) -> tuple[Replica, ...]:
        """Those that may get requests, and those that still answer what they got."""
        return tuple(r for r in self.replicas if r.phase in (Phase.READY, Phase.STOPPING) and r.port)

    @property
    def restarts(self) -> int:
        return sum(replica.restarts for replica in self.replicas)

    async def stop(self) -> None:
        """Ends its servers; returns when they are gone."""
        self._stopping = True
        await self._settled()
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
        self._running = self._stopping = self._reached = False
        self._tell()

    async def leave(self) -> None:
        """Stop looking after its servers, which go on."""
        await self._settled()
        await asyncio.gather(*(replica.leave() for replica in self.replicas))

    async def _settled(self) -> None:
        if self._settling:
            await asyncio.gather(self._settling, return_exceptions=True)

    def _changed(self) -> None:
        phase = self.phase
        if phase is Phase.READY:
            self.was_ready = self._reached = True
        if phase in (Phase.BACKOFF, Phase.FAILED) and (worst := self.telling).message:
            self.failure = Failure(worst.reason, worst.message, worst.exit_code, worst.failed_at)
        if phase is Phase.FAILED and self._settling is None:
            self._settling = asyncio.create_task(self._end_rest())
        self._tell()

    async def _end_rest(self) -> None:
        """One replica of a new revision failed for good: the others would wait for it for ever."""
        await asyncio.gather(*(r.stop() for r in self.replicas if r.phase is not Phase.FAILED))

    async def _fetch(self) -> Path:
        async with self._fetching:
            if not self.package or not self.package.is_dir():
                uri = self.template.storage_uri
                self.package = await asyncio.to_thread(fetch, uri, self._folders.packages, self._endpoint_url)
            return self.package
