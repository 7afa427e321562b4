"""kserve's ModelServer, closed where the SDK leaves it open. Knows start, stop and what listens; no request.

Changed: which address is listened on, the REST application, a gRPC port that nobody shares, no repository calls, and
shutdown in one order: not ready, answer what still comes, stop listening, answer what is in progress, then gRPC, then
exit 0.
"""

import asyncio
import logging
import signal
import socket
import time
from importlib import metadata
from typing import Any

import uvicorn
from kserve import ModelServer
from kserve.protocol.dataplane import DataPlane

from serving import rpc
from serving.metrics import Metrics
from serving.model import ServedModel
from serving.rest import Application, Feedback

GRACE_SECONDS = 30
LOOK_SECONDS = 0.05
QUIET_LOOKS = 5  # without a new request, before the socket is closed; several, because a starved process sleeps long
LEAVE_SECONDS = 5.0  # at most, while requests keep coming: whoever sends them was told to go
KEEP_ALIVE_SECONDS = 75  # longer than a proxy's idle timeout, or the proxy meets closed connections

log = logging.getLogger("slipway.serving")


class Plane(DataPlane):
    """Says what this server is and can do; the SDK claims a model repository."""

    def metadata(self) -> dict[str, Any]:
        return {"name": "slipway", "version": metadata.version("kserve"), "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        model = self.get_model_from_registry(model_name)
        facts: dict[str, Any] = await super().model_metadata(model_name)
        assert isinstance(model, ServedModel)
        assert model.package is not None
        return {**facts, "versions": [model.version], "platform": f"slipway_{model.package.manifest.workload}"}


class Server(uvicorn.Server):
    """Takes leave before it goes: uvicorn alone drops a request that was sent but not yet read."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self.application = application

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.application.leaving = True
        end = time.monotonic() + LEAVE_SECONDS
        received, quiet = -1, 0
        while quiet < QUIET_LOOKS and time.monotonic() < end:
            quiet = quiet + 1 if received == self.application.received else 0
            received = self.application.received
            await asyncio.sleep(LOOK_SECONDS)
        await super().shutdown(sockets)


class ModelProcess(ModelServer):
    """Serves one loaded model on a socket that listens already, and on grpc_port unless that is 0."""

    def __init__(
        self, model: ServedModel, sock: socket.socket, host: str, grpc_port: int, feedback: Feedback | None = None
    ) -> None:
        super().__init__(grpc_port=grpc_port, enable_grpc=grpc_port > 0, workers=1, enable_latency_logging=False)
        self.register_model(model)
        self.model = model
        self.host = host
        self.socket = sock
        self.feedback = feedback
        self.dataplane = Plane(self.registered_models)
        self.model_repository_extension = rpc.ClosedRepository(self.registered_models)
        self.metrics = Metrics(model.name, model.revision, model.version)
        model.watch = self.metrics.staged

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises PortInUseError when gRPC's port is taken."""
        application = Application(self.dataplane, self.metrics, self.feedback)
        server = Server(
            uvicorn.Config(
                application,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            ),
            application,
        )
        # uvicorn catches these, drains, and raises them again for us: by then there is nothing left to do.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        grpc_server = None
        if self.enable_grpc:
            grpc_server = await rpc.start(
                self.host, self.grpc_port, self.dataplane, self.model_repository_extension, self.metrics
            )
        host, port = self.socket.getsockname()[:2]
        also = f", gRPC on {self.host}:{self.grpc_port}" if grpc_server else ""
        log.info("serving %s, package %s, on http://%s:%d%s", self.model.name, self.model.version, host, port, also)
        try:
            await server.serve(sockets=[self.socket])
        finally:
            if grpc_server:
                await grpc_server.stop(GRACE_SECONDS)
            await asyncio.get_running_loop().shutdown_default_executor()
        log.info("stopped")
