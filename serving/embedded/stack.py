"""The embedded KServe from outside: up, down, status. Knows the supervisor's files and ports, not its parts.

`slipway up` on the laptop; on a cluster there is nothing to start.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import TypeAdapter, ValidationError

from serving.embedded.adoption import envoy_lives
from serving.embedded.process import reap, started
from serving.embedded.supervisor import api_url, folders, kubeconfig, listening, lock, record_path
from slipway.errors import NotRunningError, PortInUseError, ServingError
from slipway.settings import Settings

__all__ = ["Revision", "Service", "Stack", "down", "kubeconfig", "revisions", "status", "up"]

SERVICES = "/apis/serving.kserve.io/v1beta1/inferenceservices"
METRICS = "/apis/metrics.slipway.dev/v1"
UP = 60.0  # seconds to wait for the API and the ingress; quiet machines need 2
# Settings of the ingress and of the model servers, which both read them when they start.
AT_START = ("budget_", "capture", "data_set", "edge_", "events_url", "feature_store", "http_host", "rate_limit", "tls_")
DOWN = 30.0  # seconds for every server to finish before it is killed


@dataclass(frozen=True)
class Service:
    namespace: str
    name: str
    url: str
    ready: str
    message: str
    traffic: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Revision:
    """ready of wanted replicas answer. memory: bytes, of all of them. since: when the last one became ready, seconds
    since the epoch; None when none is.
    """

    name: str
    percent: int
    phase: str
    ready: int
    wanted: int
    restarts: int
    memory: int
    since: float | None


@dataclass(frozen=True)
class Stack:
    """A running embedded KServe."""

    pid: int
    scheme: str
    http_port: int
    api_port: int
    admin_url: str
    kubeconfig: Path
    logs: Path


def up(settings: Settings, timeout: float = UP) -> Stack:
    """Start it in the background and wait until it answers; at once when it already runs.

    Servers that a killed supervisor left are adopted: no request of theirs is lost. Raises PortInUseError, or
    ServingError with what its log says last. Interrupted, it leaves nothing behind.
    """
    root = folders(settings).root
    log = root / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _turn(root / "up.lock", timeout):
        with contextlib.suppress(NotRunningError):
            return _same(settings, find(settings))
        _wait_free(settings.api_port, "SLIPWAY_API_PORT")
        if not envoy_lives(folders(settings)):  # a killed supervisor's: adopted
            _wait_free(settings.http_port, "SLIPWAY_HTTP_PORT")
        kubeconfig(settings)
        process = None
        try:
            with log.open("ab") as output, _uninterrupted():
                start = output.tell()
                process = subprocess.Popen(
                    [sys.executable, "-m", "serving.embedded"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=os.environ | settings.environment(),
                    start_new_session=True,
                )
            deadline = time.monotonic() + timeout
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServingError(f"the embedded KServe ended at once: {_since(log, start)}", f"see {log}")
                if _answers(settings):
                    return find(settings)
                time.sleep(0.05)
            raise ServingError(f"the embedded KServe did not answer within {timeout:.0f} s", f"see {log}")
        except BaseException:  # Ctrl-C too
            if process is not None:
                _end(process.pid, started(process.pid))
                process.wait()
            raise


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: within Popen it would leave a child that nobody knows."""
    if threading.current_thread() is not threading.main_thread():  # no signal is handled there
        yield
        return
    told: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if told:
        raise KeyboardInterrupt


def unlike(settings: Settings) -> list[str]:
    """The variables that this process was given and the one that runs was not: it keeps what it was started with."""
    try:
        given = psutil.Process(find(settings).pid).environ()
    except (NotRunningError, psutil.Error):
        return []
    found = []
    for name in sorted(settings.model_fields_set):
        field, variable = Settings.model_fields[name], f"SLIPWAY_{name.upper()}"
        if not name.startswith(AT_START):
            continue
        # Where answers are captured depends on whether it is set at all.
        theirs = given.get(variable, None if name == "events_url" else field.default)
        with contextlib.suppress(ValidationError):
            theirs = TypeAdapter(field.annotation).validate_python(theirs)
        if theirs != getattr(settings, name):
            found.append(variable)
    return found


def down(settings: Settings) -> bool:
    """End it and all its children; False when none was running. At most about DOWN seconds."""
    try:
        running = find(settings)
    except NotRunningError:
        return bool(reap(folders(settings).records))
    _end(running.pid, started(running.pid))
    reap(folders(settings).records)
    record_path(settings).unlink(missing_ok=True)
    return True


def find(settings: Settings) -> Stack:
    """The one that runs on this home. Raises NotRunningError."""
    try:
        record = json.loads(record_path(settings).read_bytes())
        if started(record["pid"]) != record["started"]:
            raise NotRunningError
        ports = {name: record[name] for name in ("http_port", "api_port")}
        admin, scheme = record["admin"], record.get("scheme", "http")
    except (OSError, ValueError, KeyError, TypeError):
        raise NotRunningError from None
    root = folders(settings).root
    return Stack(record["pid"], scheme, **ports, admin_url=admin, kubeconfig=root / "kubeconfig", logs=root / "logs")


def status(settings: Settings) -> tuple[Stack, list[Service]]:
    """The stack and its InferenceServices. Raises NotRunningError, or ServingError when its API does not answer."""
    running = find(settings)
    return running, [_service(found) for found in _get(settings, running, SERVICES)["items"]]


def revisions(settings: Settings, service: Service) -> list[Revision]:
    """What each revision of the service has running; nothing where it was deleted meanwhile. Raises as status does."""
    path = f"{METRICS}/namespaces/{service.namespace}/inferenceservices/{service.name}"
    document, percents = _get(settings, find(settings), path), Counter[str]()
    if "copies" not in document:
        return []
    for name, percent in service.traffic:
        percents[name] += percent
    replicas: dict[str, list[dict[str, Any]]] = document["replicas"]
    return [
        Revision(
            name,
            percents[name],
            **copies,
            restarts=sum(one["restarts"] for one in replicas[name]),
            memory=sum(one["memory"] for one in replicas[name] if one["pid"]),
            since=max((one["since"]["Ready"] for one in replicas[name] if one["phase"] == "Ready"), default=None),
        )
        for name, copies in sorted(document["copies"].items())
    ]


def _get(settings: Settings, running: Stack, path: str) -> dict[str, Any]:
    """Raises ServingError when its API does not answer."""
    url = api_url(settings.model_copy(update={"api_port": running.api_port}))
    try:
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            answer = client.get(f"{url}{path}")
            found: dict[str, Any] = (answer if answer.status_code == 404 else answer.raise_for_status()).json()
    except httpx.HTTPError as error:
        raise ServingError(f"the embedded KServe runs but its API does not answer: {error}", "slipway down") from error
    return found


def _service(found: dict[str, Any]) -> Service:
    state = found.get("status", {})
    ready: dict[str, str] = next((c for c in state.get("conditions", []) if c["type"] == "Ready"), {})
    traffic = state.get("components", {}).get("predictor", {}).get("traffic", [])
    return Service(
        found["metadata"]["namespace"],
        found["metadata"]["name"],
        state.get("url", ""),
        ready.get("status", "Unknown"),
        ready.get("message", ""),
        tuple((target["revisionName"], target["percent"]) for target in traffic),
    )


def _same(settings: Settings, running: Stack) -> Stack:
    if (running.http_port, running.api_port) != (settings.http_port, settings.api_port):
        raise ServingError(
            f"the embedded KServe of {settings.home} already runs on ports {running.http_port} and {running.api_port}",
            "use those ports, or stop it first with: slipway down",
        )
    return running


@contextlib.contextmanager
def _turn(path: Path, timeout: float) -> Iterator[None]:
    """Wait for another `up` to finish; then it is running, and this one has nothing to do."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(path, "is starting the embedded KServe"))
            except ServingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            yield
            return


def _wait_free(port: int, setting: str, seconds: float = 2.0) -> None:
    """A killed supervisor is a zombie, and gone for `find`, a moment before its last thread lets go of its ports."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return listening(port, setting).close()
        except PortInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _answers(settings: Settings) -> bool:
    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            if client.get(f"{api_url(settings)}/readyz").status_code != 200:
                return False
        # No request: it may speak TLS, and ask for a token.
        host = "127.0.0.1" if ip_address(settings.http_host).is_unspecified else settings.http_host
        socket.create_connection((host, settings.http_port), 2.0).close()
    except (httpx.HTTPError, OSError, ValueError):
        return False
    return True


def _end(pid: int, since: float | None) -> None:
    """SIGTERM, wait, SIGKILL; only the process that started then."""
    for one, seconds in ((signal.SIGTERM, DOWN), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        if since is None or started(pid) != since:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, one)
        while started(pid) == since and time.monotonic() < deadline:
            time.sleep(0.05)


def _since(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(start)
        lines = stream.read().decode(errors="replace").strip().splitlines()
    return " ".join(line.strip() for line in lines[-3:])
