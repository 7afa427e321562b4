"""A recommender over HTTP that can be told to fail, and a real model server and Redis for the slow test."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from slipway.workloads.movies.simulator import TINY
from slipway.workloads.movies.simulator.crowd import Crowd
from slipway.workloads.movies.simulator.drift import Drift
from slipway.workloads.movies.simulator.traffic import TrafficConfig, origin
from traffic.endpoint import Endpoint
from traffic.outbox import Outbox
from traffic.play import Player
from traffic.records import Clock, Records
from traffic.tally import Tally

ROOT = Path(__file__).parents[2]
SPEED = 600.0  # of the players' clock


def answer(request_id: str = "1", items: Any = range(1, 11), revision: str = "rev-1") -> dict[str, Any]:
    """As serving/rest.py answers, or nearly."""
    items = list(items)
    columns = {"item_id": items, "score": [0.5] * len(items), "source": ["counts"] * len(items)}
    return {
        "model_name": "movies",
        "id": request_id,
        "parameters": {"package_version": "abc", "revision": revision, "fallback": "none"},
        "outputs": [{"name": name, "shape": [1, len(items)], "data": values} for name, values in columns.items()],
    }


@pytest.fixture(scope="session")
def an_answer():
    return answer


class Stand:
    """Answers at `url`; `behave` (called with the running number of the request) may return a response of its own."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.behave: Any = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(body | {"sticky": request.headers.get("x-slipway-user")})
        if self.behave and (own := await self.behave(len(self.requests), request)) is not None:
            return own
        return web.json_response(answer(body["id"]))

    @contextlib.asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_post("/v2/models/movies/infer", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def play(stand):
    """play(seconds, rate, *drifts, behave=…) → (player, [(kind, message), …]) after a run against the stand."""

    def run(length: float, rate: float, *drifts: str, behave: Any = None, publish: Any = None, timeout: float = 60.0):
        taken: list[tuple[str, dict[str, Any]]] = []
        chosen = TrafficConfig(
            users=480,
            begin=0.8,
            span=length * SPEED,
            rate=rate / SPEED,
            releases=2,
            drifts=tuple(Drift.parse(text) for text in drifts),
        )
        crowd = Crowd.gather(TINY, chosen)
        stand.behave = behave

        async def all_of_it() -> Player:
            async with stand.serving(), Endpoint(stand.url, {}, timeout=timeout) as endpoint:
                outbox = Outbox(publish or (lambda kind, messages: taken.extend((kind, m) for m in messages)))
                records = Records("test", Clock(origin(TINY, chosen)))
                player = Player(crowd, endpoint, outbox, records, Tally(), SPEED)
                await player.run()
                return player

        return asyncio.run(all_of_it()), taken

    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def served(movies_package, tmp_path_factory, redis_url):
    """URL of a model server that serves the tiny package, and captures the data set `captured`."""
    port, log = free_port(), tmp_path_factory.mktemp("served") / "log.txt"
    command = [sys.executable, "-m", "serving.server", "--model_name=movies", f"--model_dir={movies_package.package}"]
    command += ["--host=127.0.0.1", f"--http_port={port}", f"--grpc_port={free_port()}", "--revision=rev-1"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=stream,
            stderr=stream,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "SLIPWAY_HOME": str(tmp_path_factory.mktemp("home")),
                "SLIPWAY_EVENTS_URL": redis_url,
                "SLIPWAY_DATA_SET": "captured",
            },
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/v2/models/movies/ready", trust_env=False).status_code == 200:
                break
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()}")
        time.sleep(0.1)
    else:
        pytest.fail(f"the server did not become ready: {log.read_text()}")
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(120)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    from streaming.embedded import start

    port = free_port()
    process = start(tmp_path_factory.mktemp("redis"), port)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(60)
