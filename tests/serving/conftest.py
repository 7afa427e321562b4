"""A running model server: the real process, on ports of its own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Seconds: a test that compares answers is not about what a loaded machine loses.
ROOMY = {f"SLIPWAY_BUDGET_{part}_MS": "10000" for part in ("FEATURES", "RANKER", "RERANK", "TOTAL")}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    process: subprocess.Popen[str]
    port: int
    grpc_port: int
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        """One connection that is never silently replaced: a dropped keep-alive is an error in the test."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.connect()
        connection.auto_open = 0
        return connection

    def ask(
        self,
        body: Any = None,
        path: str = "/v2/models/movies/infer",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Reply:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        opened = connection or self.connect()
        try:
            opened.request(method, path, body=content, headers=headers or {"content-type": "application/json"})
            reply = opened.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            if connection is None:
                opened.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(240)


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start_server(folder, *arguments) → a ready server, stopped at the end."""
    started: list[Running] = []

    def start(folder: Path, *arguments: str) -> Running:
        log = tmp_path_factory.mktemp("server") / "log.txt"
        port, grpc_port = free_port(), free_port()
        command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={folder}"]
        command += ["--host=127.0.0.1", f"--http_port={port}", f"--grpc_port={grpc_port}", "--revision=rev-1"]
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                env={**ROOMY, **os.environ, "OMP_NUM_THREADS": "1"},
            )
        running = Running(process, port, grpc_port, log)
        started.append(running)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if process.poll() is not None:
                pytest.fail(f"the server ended with {process.returncode}: {log.read_text()}")
            with contextlib.suppress(OSError):
                if running.ask(path="/v2/models/movies/ready", method="GET").status == 200:
                    return running
            time.sleep(0.05)
        pytest.fail(f"the server did not become ready: {log.read_text()}")

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="session")
def movies_server(start_server: Start, movies_package: Any) -> Running:
    return start_server(movies_package.package)
