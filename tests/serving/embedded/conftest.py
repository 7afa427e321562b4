"""An embedded KServe on free ports, and a stand-in server: a ServingRuntime's command is the user's to choose."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest

from serving.embedded import stack
from serving.embedded.edge import Edge
from serving.embedded.envoy import Gateway
from serving.embedded.revision import Folders
from serving.embedded.routes import Replica, Route, Upstream
from serving.embedded.supervisor import api_url
from slipway.deployment import apply, wait_ready
from slipway.settings import Settings

STANDIN = """
import argparse, itertools, json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("--model_name", "--model_dir", "--host", "--revision"):
    parser.add_argument(name)
for name in ("--http_port", "--grpc_port"):
    parser.add_argument(name, type=int)
options = parser.parse_args()
answer = (Path(options.model_dir) / "answer.txt").read_text()
if answer == "broken":
    sys.exit("this package is broken")
if answer == "slow":
    time.sleep(3)
served, eaten = itertools.count(1), []
class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    def log_message(self, *_): pass
    def do_GET(self):
        ready = self.path == f"/v2/models/{options.model_name}/ready" and answer != "never"
        self.reply(200 if ready or self.path == "/v2/health/ready" else 503, {})
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(float(self.headers.get("x-sleep", 0)))
        if answer == "brittle" and next(served) > 100:
            os._exit(3)
        self.reply(200, {"answer": answer, "revision": options.revision, "pid": os.getpid()})
        eaten.append(b"x" * (int(self.headers.get("x-eat-mib", 0)) << 20))
    def reply(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server((options.host, options.http_port), Handler).serve_forever()
"""


def free_port() -> int:
    """Below the ports that the system gives to outgoing connections: one of those may be taken a moment later."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Embedded:
    """One home of an embedded KServe, up or not."""

    settings: Settings
    folder: Path

    def up(self) -> stack.Stack:
        return stack.up(self.settings)

    def package(self, answer: str) -> str:
        folder = self.folder / "packages" / answer
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "answer.txt").write_text(answer)
        return folder.as_uri()

    def documents(self, answer: str, name: str = "movies", **predictor: Any) -> list[dict[str, Any]]:
        script = self.folder / "standin.py"
        script.write_text(STANDIN)
        container = {
            "name": "kserve-container",
            "image": "none",
            "command": ["python", str(script)],
            "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080", "--grpc_port=8081"],
        }
        runtime = {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "standin", "namespace": "default"},
            "spec": {"supportedModelFormats": [{"name": "slipway", "version": "1"}], "containers": [container]},
        }
        model = {"modelFormat": {"name": "slipway"}, "runtime": "standin", "storageUri": self.package(answer)}
        service = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"predictor": {"model": model, **predictor}},
        }
        return [runtime, service]

    def deploy(self, answer: str, **predictor: Any) -> str:
        apply(self.documents(answer, **predictor), stack.kubeconfig(self.settings))
        return wait_ready("movies", "default", 90, stack.kubeconfig(self.settings))

    def ask(self, name: str = "movies", headers: dict[str, str] | None = None, body: bytes = b"{}") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.http_port, timeout=20)
        try:
            host = {"Host": f"{name}.default.localhost:{self.settings.http_port}"}
            connection.request("POST", f"/v2/models/{name}/infer", body, host | (headers or {}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        if not (found := shutil.which("kubectl")):
            pytest.skip("kubectl is not installed")
        environment = os.environ | {
            "KUBECONFIG": str(stack.kubeconfig(self.settings)),
            "HOME": str(self.folder),  # its discovery cache
        }
        done = subprocess.run(
            [found, *arguments], input=stdin, text=True, capture_output=True, env=environment, timeout=60, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def status(self, name: str = "movies") -> dict[str, Any]:
        path = self.settings.home / "serving" / "state" / "inferenceservices" / "default" / f"{name}.json"
        found: dict[str, Any] = json.loads(path.read_bytes()).get("status", {})
        return found

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        return next((c for c in self.status().get("conditions", []) if c["type"] == kind), {})

    def processes(self) -> list[psutil.Process]:
        """Everything that this home's stack has running."""
        mine = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                ours = process.environ().get("SLIPWAY_HOME") == str(self.settings.home) or str(self.folder) in words
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
            except psutil.Error:  # it ended while it was looked at
                continue
        return [p for p in mine if p.is_running()]


@pytest.fixture
def eventually() -> Callable[..., None]:
    def check(holds: Callable[[], Any], seconds: float = 90, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, what or "it did not happen in time"
            time.sleep(0.05)

    return check


def home(folder: Path) -> Iterator[Embedded]:
    one = Embedded(Settings(home=folder / "home", http_port=free_port(), api_port=free_port()), folder)
    try:
        yield one
    finally:
        stack.down(one.settings)
        for process in one.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    """One that is down."""
    yield from home(tmp_path)


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    for one in home(tmp_path_factory.mktemp("serving")):
        one.up()
        yield one


@pytest.fixture
def serving(_shared: Embedded, eventually: Callable[..., None]) -> Iterator[Embedded]:
    """One that is up, shared by a module's tests and empty at the start of each."""
    yield _shared
    url = f"{api_url(_shared.settings)}/apis/serving.kserve.io"
    with httpx.Client(trust_env=False) as client:
        for kind in ("v1beta1/{}inferenceservices", "v1alpha1/{}servingruntimes"):
            for found in client.get(f"{url}/{kind.format('')}").json()["items"]:
                client.delete(f"{url}/{kind.format('namespaces/default/')}/{found['metadata']['name']}")
    records = _shared.settings.home / "serving" / "state" / "revisions" / "default"
    eventually(lambda: not list(records.glob("*.json")) and len(_shared.processes()) == 2)


class Echo(asyncio.Protocol):
    """One connection of a replica that answers with its name and what it was asked, as `x-code` and `x-abort` say."""

    def __init__(self, replica: "Echoes") -> None:
        self.replica, self.data = replica, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.replica.connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.replica.connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            first, *lines = self.data[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            whole = end + 4 + int(headers.get("content-length", 0))
            if len(self.data) < whole:
                return
            body, self.data = self.data[end + 4 : whole].decode(), self.data[whole:]
            asked = {"path": first.split()[1], "headers": headers, "body": body}
            self.replica.asked.append(asked)
            if headers.get("x-abort") == self.replica.name:
                return self.transport.abort()
            code = int(headers.get(f"x-code-{self.replica.name}", "200"))
            answer = json.dumps({"revision": self.replica.name, **asked}).encode()
            head = f"HTTP/1.1 {code} -\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
            self.transport.write(head.encode() + answer)


class Echoes:
    """A replica within the test's process: what no model is needed to see. Ended, it resets what it has."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.asked: list[dict[str, Any]] = []
        self.connections: set[Any] = set()

    async def start(self) -> Self:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Echo(self), "127.0.0.1", self.port, backlog=512)
        return self

    def end(self) -> None:
        self.server.close()
        for connection in list(self.connections):
            connection.abort()


@dataclass
class Ingress:
    """A real Envoy before replicas of the test's own."""

    gateway: Gateway
    host: str = "m.default.localhost"

    async def replicas(self, *names: str) -> list[Echoes]:
        return [await Echoes(name).start() for name in names]

    async def routed(self, *route: Any, replicas: dict[str, list[Echoes]], **more: Any) -> None:
        """route: (revision, percent)…; its upstream is `default.<revision>`."""
        upstreams = {
            f"default.{name}": Upstream(f"default.{name}", tuple(Replica(one.port, one.port) for one in found))
            for name, found in replicas.items()
        }
        weights = tuple((f"default.{name}", percent) for name, percent in route)
        await self.gateway.apply(upstreams, [Route("default.m", (self.host,), weights, **more)])

    async def ask(
        self, headers: dict[str, str] | None = None, path: str = "/v2/models/m/infer", host: str = ""
    ) -> tuple[int, Any]:
        (found,) = await self.many([headers or {}], path, host=host)
        return found

    async def many(
        self, headers: Sequence[dict[str, str]], path: str = "/v2/models/m/infer", connections: int = 8, host: str = ""
    ) -> list[tuple[int, Any]]:
        """POST with each of these headers, in order of the headers: (status, JSON)."""
        found: list[Any] = [None] * len(headers)
        numbers = iter(range(len(headers)))

        async def client() -> None:
            reader = writer = None
            for number in numbers:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.edge.port)
                own = "".join(f"{name}: {value}\r\n" for name, value in headers[number].items())
                writer.write(
                    f"POST {path} HTTP/1.1\r\nhost: {host or self.host}\r\n{own}content-length: 2\r\n\r\n{{}}".encode()
                )
                assert reader is not None
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                found[number] = int(head.split()[1]), json.loads(body or b"null")
                if "connection: close" in head:
                    writer.close()
                    writer = None
            if writer:
                writer.close()

        await asyncio.gather(*(client() for _ in range(min(connections, len(headers)))))
        return found


@pytest.fixture
def ingress(tmp_path: Path) -> Callable[[Callable[[Ingress], Coroutine[Any, Any, None]]], None]:
    """Runs a scenario against an Envoy of its own."""

    def run(scenario: Callable[[Ingress], Coroutine[Any, Any, None]], **edge: Any) -> None:
        async def whole() -> None:
            gateway = Gateway(Edge(free_port(), **edge), Folders(tmp_path))
            await gateway.start()
            try:
                await scenario(Ingress(gateway))
            finally:
                await gateway.stop()

        asyncio.run(whole())

    return run
