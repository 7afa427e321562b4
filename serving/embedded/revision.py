"""One revision of one InferenceService: a package on disk and the process that serves it. Knows nothing of traffic.

Pending → Fetching → Starting → Ready → Stopping → Stopped
             │           │  ▲      │
             │           ▼  └─ BackOff (crashed; tried again, each time later)
             └──────► Failed (before it was ever ready: tried three times, or the package is no good)
"""

import asyncio
import logging
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from serving.embedded.process import Child
from slipway.errors import ObjectNotFoundError, PackageError, SlipwayError
from slipway.package import Frozen, tree_hashes, version_of
from slipway.storage import get_tree, listing

log = logging.getLogger(__name__)

MODELS = "/mnt/models"  # where KServe's storage initializer puts the package


class Phase(StrEnum):
    PENDING = "Pending"
    FETCHING = "Fetching"
    STARTING = "Starting"
    READY = "Ready"
    BACKOFF = "BackOff"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"


class Template(Frozen):
    """What a revision runs; another template is another revision. Texts may hold {{.Name}}, /mnt/models and $(VAR)."""

    model_name: str
    storage_uri: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: dict[str, str]


@dataclass(frozen=True)
class Timing:
    """Seconds, except attempts."""

    ready: float = 180.0  # a model server may need 20 s to import its libraries on a loaded machine
    attempts: int = 3
    backoff: float = 0.5
    backoff_max: float = 30.0
    steady: float = 60.0  # after this long ready, a crash counts as the first again
    stop: float = 10.0


@dataclass(frozen=True)
class Folders:
    """Below <home>/serving."""

    root: Path

    @property
    def packages(self) -> Path:
        return self.root / "packages"

    @property
    def records(self) -> Path:
        return self.root / "children"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(uri: str, packages: Path, endpoint_url: str | None = None) -> Path:
    """The package at uri as a local folder, named by its content: fetched once, never changed.

    Raises StorageError (also when nothing is there) or IntegrityError.
    """
    try:
        folder = packages / sha256(listing(uri, endpoint_url).encode()).hexdigest()[:16]
    except ObjectNotFoundError:
        local = Path(unquote(urlsplit(uri).path))
        if urlsplit(uri).scheme != "file" or not local.is_dir():
            raise
        folder = packages / version_of(tree_hashes(local))  # a plain folder, which no put_tree wrote
        if not folder.exists():
            draft = packages / f".{folder.name}.{uuid.uuid4().hex[:8]}.part"
            shutil.copytree(local, draft)
            draft.rename(folder)
        return folder
    if not folder.exists():
        packages.mkdir(parents=True, exist_ok=True)
        get_tree(uri, folder, endpoint_url)
    return folder


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
        endpoint_url: str | None,
        changed: Callable[[], None],
    ) -> None:
        self.name, self.service, self.namespace, self.template = name, service, namespace, template
        self.folders, self.timing, self.endpoint_url, self._changed = folders, timing, endpoint_url, changed
        self.phase = Phase.PENDING
        self.message = ""
        self.exit_code: int | None = None
        self.failed_at: float | None = None
        self.was_ready = False
        self.package: Path | None = None
        self.port = self.grpc_port = 0
        self.restarts = 0
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.alive else None

    async def stop(self) -> None:
        """Ends the process; returns when it is gone."""
        self._enter(Phase.STOPPING)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child:
            await self._child.stop(self.timing.stop)
        self._task, self._child, self.port, self.grpc_port = None, None, 0, 0
        self._enter(Phase.STOPPED)

    def _enter(self, phase: Phase, message: str = "") -> None:
        if phase in (Phase.BACKOFF, Phase.FAILED):
            self.failed_at = time.time()
        log.info("%s/%s: %s %s", self.namespace, self.name, phase, message)
        self.phase, self.message = phase, message
        self._changed()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self._enter(Phase.FETCHING)
                self.package = folder = await asyncio.to_thread(
                    fetch, self.template.storage_uri, self.folders.packages, self.endpoint_url
                )
                self._enter(Phase.STARTING)
                ready_for = await self._serve(folder)
                why = f"the server ended with {_exit(self.exit_code)}: {self._child.tail() if self._child else ''}"
                failures = 1 if ready_for > self.timing.steady else failures + 1
            except (ObjectNotFoundError, PackageError) as error:
                return self._enter(Phase.FAILED, error.message)
            except TimeoutError:
                return self._enter(Phase.FAILED, f"the model was not ready within {self.timing.ready:.0f} s")
            except (OSError, SlipwayError) as error:
                why, failures = str(error), failures + 1
            if not self.was_ready and failures >= self.timing.attempts:
                return self._enter(Phase.FAILED, why)
            self.restarts += 1
            self._enter(Phase.BACKOFF, why)
            await asyncio.sleep(min(self.timing.backoff * 2 ** (failures - 1), self.timing.backoff_max))

    async def _serve(self, folder: Path) -> float:
        """Runs the server until it ends; returns for how many seconds the model was ready."""
        self.port, self.grpc_port = free_port(), free_port()
        env = {name: self._expand(value, folder, {}) for name, value in self.template.env.items()}
        env |= {"K_SERVICE": f"{self.service}-predictor", "K_REVISION": self.name}  # as Knative does
        words = [self._expand(word, folder, env) for word in (*self.template.command, *self.template.args)]
        if words[0] in ("python", "python3"):
            words[0] = sys.executable
        # The last one wins in argparse: on one machine every revision needs ports of its own.
        words += ["--host", "127.0.0.1", "--http_port", str(self.port), "--grpc_port", str(self.grpc_port)]
        words += ["--revision", self.name]
        self._child = child = await Child.start(
            words,
            records=self.folders.records,
            name=f"{self.namespace}.{self.name}",
            log=self.folders.logs / f"{self.namespace}.{self.name}.log",
            env=dict(os.environ) | env,
            cwd=self.folders.root,
        )
        ended = asyncio.create_task(child.wait())
        try:
            async with asyncio.timeout(self.timing.ready):
                while not ended.done() and not await self._ready():
                    await asyncio.wait({ended}, timeout=0.1)
            since = time.monotonic()
            if not ended.done():
                self.was_ready = True
                self._enter(Phase.READY)
            self.exit_code = await asyncio.shield(ended)
        except TimeoutError:
            await child.stop(self.timing.stop)
            raise
        return time.monotonic() - since

    async def _ready(self) -> bool:
        """The model's readiness, not the server's: /v2/health/ready is 200 with no model loaded."""
        try:
            async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
                url = f"http://127.0.0.1:{self.port}/v2/models/{self.template.model_name}/ready"
                return (await client.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    def _expand(self, text: str, folder: Path, env: dict[str, str]) -> str:
        text = text.replace("{{.Name}}", self.service).replace("{{.Namespace}}", self.namespace)
        text = re.sub(rf"{MODELS}(?=/|$)", lambda _: str(folder), text)
        return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: env.get(found[1], found[0]), text)


def _exit(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
