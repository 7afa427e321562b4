"""One server process of a revision: started, probed, limited, restarted with back-off. Knows nothing of traffic.

Pending → Fetching → Starting → Ready ⇄ Unready → Stopping → Stopped
              ▲          │        │        │
              └───────── BackOff ◄┴────────┘  (it ended, hung or had too much memory; tried again, each time later)
                 Failed (before its revision was ever ready: tried three times, or the package is no good)

An adopted one, which an earlier supervisor started, begins at Ready or Starting.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx

from serving.embedded.folders import Folders
from serving.embedded.launch import launch
from serving.embedded.process import Child, Facts
from serving.embedded.template import Template
from slipway.errors import ObjectNotFoundError, PackageError, SlipwayError

log = logging.getLogger(__name__)


class Phase(StrEnum):
    PENDING = "Pending"
    FETCHING = "Fetching"
    STARTING = "Starting"
    READY = "Ready"
    UNREADY = "Unready"
    BACKOFF = "BackOff"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


@dataclass(frozen=True)
class Timing:
    """Seconds, except attempts, unready and hung, which are counts."""

    ready: float = 180.0  # a model server may need 20 s to import its libraries on a loaded machine
    attempts: int = 3
    backoff: float = 0.5
    backoff_max: float = 30.0
    steady: float = 60.0  # after this long ready, a crash counts as the first again
    stop: float = 10.0
    probe: float = 1.0  # between two looks at a ready server
    answer: float = 2.0  # that a look may take; a starved server needs one of them
    unready: int = 2  # looks in a row that found nothing: no new requests for it
    hung: int = 4  # looks in a row that found nothing: it is ended


@dataclass(frozen=True)
class Context:
    """What the replicas of one revision have in common. proven: whether the revision was ever ready."""

    revision: str
    service: str
    namespace: str
    template: Template
    folders: Folders
    timing: Timing
    http: httpx.AsyncClient
    fetch: Callable[[], Awaitable[Path]]
    proven: Callable[[], bool]
    changed: Callable[[], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Replica:
    def __init__(self, context: Context, index: int) -> None:
        self.context, self.index = context, index
        self.phase = Phase.PENDING
        self.reason = self.message = ""
        self.exit_code: int | None = None
        self.port = self.grpc_port = 0
        self.restarts = 0
        self.memory = 0
        self.since: dict[Phase, float] = {}
        self.failed_at = 0.0
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Of its record and its log."""
        return f"{self.context.namespace}.{self.context.revision}.{self.index}"

    @property
    def told(self) -> Phase:
        """Its phase to the world: one that is on its way up again is still backing off, as a pod's condition says."""
        return Phase.BACKOFF if self.message and self.phase in (Phase.FETCHING, Phase.STARTING) else self.phase

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def instance(self) -> str:
        """Another one for each process: its counters start at 0."""
        return f"{self._child.pid}-{self._child.since}" if self._child else ""

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def adopt(self) -> Path | None:
        """Take over the living process of this replica, if an earlier supervisor left one; its package's folder."""
        found = Child.adopt(self.context.folders.records / f"{self.name}.json", self._log)
        if not found or found[1].get("template") != self.context.template.digest:
            return None
        child, facts = found
        self._child = child
        self.port, self.grpc_port, self.restarts = facts["port"], facts["grpc_port"], facts["restarts"]
        self.since = {Phase(name): when for name, when in facts["since"].items()}
        # One that hangs is found out by the probes that follow; until then it is what it was.
        was_ready = Phase.READY in self.since or await self.answers()
        self.phase = Phase.READY if was_ready else Phase.STARTING
        log.info("%s: adopted process %d, %s", self.name, child.pid, self.phase)
        return Path(facts["package"])

    async def stop(self) -> None:
        """Ends the process; returns when it is gone."""
        self._enter(Phase.STOPPING)
        await self._cancel()
        if self._child:
            await self._child.stop(self.context.timing.stop)
        self._child, self.port, self.grpc_port = None, 0, 0
        self._enter(Phase.STOPPED)

    async def _cancel(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def leave(self) -> None:
        """Stop looking after the process, which goes on."""
        await self._cancel()

    def _enter(self, phase: Phase, message: str = "", reason: str = "") -> None:
        log.log(logging.WARNING if message else logging.INFO, "%s: %s %s", self.name, phase, message)
        self.phase = phase
        if phase not in (Phase.FETCHING, Phase.STARTING):  # why it is started again stays said until it is ready
            self.message, self.reason = message, reason
        self.since[phase] = time.time()
        if phase in (Phase.BACKOFF, Phase.FAILED):
            self.failed_at = self.since[phase]
        self.context.changed()

    async def _run(self) -> None:
        failures, timing = 0, self.context.timing
        while True:
            begin = time.monotonic()
            reason = "CrashLoopBackOff"
            try:
                if not self._child:
                    self.since = {}
                    self._enter(Phase.FETCHING)
                    package = await self.context.fetch()
                    self._enter(Phase.STARTING)
                    self._child = await self._launch(package)
                reason, why = await self._guard(self._child)
            except (ObjectNotFoundError, PackageError) as error:
                return self._enter(Phase.FAILED, error.message, "RevisionFailed")
            except (OSError, SlipwayError) as error:
                why = str(error)
            self._child, self.port, self.grpc_port = None, 0, 0
            was_ready = Phase.READY in self.since
            failures = 1 if was_ready and time.monotonic() - begin > timing.steady else failures + 1
            if not self.context.proven() and (failures >= timing.attempts or reason == "NotReady"):
                return self._enter(Phase.FAILED, why, "RevisionFailed")
            self.restarts += 1
            self._enter(Phase.BACKOFF, why, reason)
            await asyncio.sleep(min(timing.backoff * 2 ** (failures - 1), timing.backoff_max))

    async def _launch(self, package: Path) -> Child:
        context, template = self.context, self.context.template
        self.port, self.grpc_port = free_port(), free_port()
        words, env = launch(
            template,
            namespace=context.namespace,
            service=context.service,
            revision=context.revision,
            package=package,
            port=self.port,
            grpc_port=self.grpc_port,
        )
        return await Child.start(
            words,
            records=context.folders.records,
            name=self.name,
            log=self._log,
            env=dict(os.environ) | env,
            cwd=context.folders.root,
            facts=self._facts(package),
        )

    @property
    def _log(self) -> Path:
        return self.context.folders.logs / f"{self.name}.log"

    def _facts(self, package: Path) -> Facts:
        return {
            "namespace": self.context.namespace,
            "revision": self.context.revision,
            "template": self.context.template.digest,
            "port": self.port,
            "grpc_port": self.grpc_port,
            "package": str(package),
            "restarts": self.restarts,
            "since": self.since,
        }

    async def _guard(self, child: Child) -> tuple[str, str]:
        """Until the server ended, by itself or by us; (reason, message)."""
        ended = asyncio.create_task(child.wait())
        try:
            if self.phase is not Phase.READY and not await self._become_ready(child, ended):
                await child.stop(self.context.timing.stop)
                return "NotReady", f"the model was not ready within {self.context.timing.ready:.0f} s"
            if verdict := await self._watch(child, ended):
                self.exit_code = 137 if verdict[0] == "OOMKilled" else None  # 128 + SIGKILL, as Kubernetes reports it
                await child.stop(0)
                return verdict
            self.exit_code = await ended
            return "CrashLoopBackOff", f"the server ended with {_exit(self.exit_code)}: {child.tail()}"
        finally:
            ended.cancel()

    async def _become_ready(self, child: Child, ended: "asyncio.Task[int | None]") -> bool:
        """False when it took too long; True when the model is ready, or the server ended."""
        begin = time.monotonic()
        while not ended.done() and not await self.answers():
            if time.monotonic() - begin > self.context.timing.ready:
                return False
            await asyncio.wait({ended}, timeout=0.1)
        if not ended.done():
            self.memory = child.memory
            self._enter(Phase.READY)
            seconds = self.since[Phase.READY] - self.since.get(Phase.STARTING, self.since[Phase.READY])
            log.info("%s: ready %.2f s after its start, %d MiB", self.name, seconds, self.memory >> 20)
            child.note(self._facts(await self.context.fetch()))
        return True

    async def _watch(self, child: Child, ended: "asyncio.Task[int | None]") -> tuple[str, str] | None:
        """Why the server has to be ended; None when it ended by itself."""
        timing, limit, missed = self.context.timing, self.context.template.memory, 0
        while True:
            await asyncio.wait({ended}, timeout=timing.probe)
            if ended.done():
                return None
            self.memory = child.memory
            if limit and self.memory > limit:
                return "OOMKilled", (
                    f"the server had {self.memory >> 20} MiB, its limit is {limit >> 20} MiB: raise "
                    "resources.limits.memory, or serve a smaller package"
                )
            missed = 0 if await self.answers() else missed + 1
            if missed == 0 and self.phase is Phase.UNREADY:
                self._enter(Phase.READY)
            elif missed >= timing.hung and not ended.done():
                return "Unresponsive", f"the model did not answer its readiness probe {missed} times in a row"
            elif missed == timing.unready:
                self._enter(Phase.UNREADY, f"the model did not answer its readiness probe {missed} times", "Unready")

    async def answers(self) -> bool:
        """The model's readiness, not the server's: /v2/health/ready is 200 with no model loaded."""
        url = f"http://127.0.0.1:{self.port}/v2/models/{self.context.template.model_name}/ready"
        try:
            return (await self.context.http.get(url, timeout=self.context.timing.answer)).status_code == 200
        except httpx.HTTPError:
            return False

    async def exposition(self) -> str:
        """What its server counted, in Prometheus' text format; "" when it does not say."""
        try:
            answer = await self.context.http.get(f"http://127.0.0.1:{self.port}/metrics", timeout=1.0)
        except httpx.HTTPError:
            return ""
        return answer.text if answer.status_code == 200 else ""


def _exit(code: int | None) -> str:
    if code is None:
        return "an exit code that only its first supervisor could have seen"
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
