"""The process that holds the embedded KServe together: state, API, reconciler and Envoy. Starts them, ends them.

Holds a lock on <home>/serving for life, so that there is one; `supervisor.json` says who and where. Envoy and the model
servers need it for changes only: where it is killed they go on, and the next one adopts them.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import yaml

from serving.embedded.adoption import envoy_lives
from serving.embedded.api import application
from serving.embedded.edge import Edge
from serving.embedded.envoy import Gateway
from serving.embedded.folders import Folders
from serving.embedded.objects import unusable
from serving.embedded.process import started
from serving.embedded.reconciler import Reconciler
from serving.embedded.replica import Timing
from serving.embedded.state import State
from slipway.errors import PortInUseError, ServingError
from slipway.settings import Settings
from slipway.storage import write_atomically

RECONCILED = 10.0  # seconds that the first pass may take before the API says that it is up

log = logging.getLogger(__name__)


def folders(settings: Settings) -> Folders:
    return Folders(settings.home / "serving")


def record_path(settings: Settings) -> Path:
    return folders(settings).root / "supervisor.json"


def kubeconfig(settings: Settings) -> Path:
    """<home>/serving/kubeconfig for this home's API; its secret path stays the same across restarts."""
    path = folders(settings).root / "kubeconfig"
    token = ""
    with contextlib.suppress(OSError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        server = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"]
        token = server.rsplit("/", 1)[1]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "slipway",
                "cluster": {"server": f"http://127.0.0.1:{settings.api_port}/{token or secrets.token_urlsafe(24)}"},
            }
        ],
        "users": [{"name": "slipway", "user": {}}],
        "contexts": [
            {"name": "slipway", "context": {"cluster": "slipway", "user": "slipway", "namespace": settings.namespace}}
        ],
        "current-context": "slipway",
    }
    text = yaml.safe_dump(document, sort_keys=False)
    if not path.exists() or path.read_text() != text:
        previous = os.umask(0o077)
        try:
            write_atomically(path, text)
        finally:
            os.umask(previous)
    return path


def api_url(settings: Settings) -> str:
    server: str = yaml.safe_load(kubeconfig(settings).read_text())["clusters"][0]["cluster"]["server"]
    return server


def listening(port: int, setting: str) -> socket.socket:
    """A socket bound to the port, ready to listen. Raises PortInUseError."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise PortInUseError(port, setting) from error
    return bound


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Raises ServingError when another process holds it; the kernel lets go when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServingError(f"another process {what}", "see: slipway status") from None
        yield


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the supervisor's own


async def supervise(settings: Settings, timing: Timing | None = None) -> None:
    """Until SIGTERM, SIGINT or SIGHUP; every child is gone when it returns.

    Raises ServingError when it cannot start, and nothing that it started is left, or when a part of it ends by itself:
    then Envoy and the servers go on without it.
    """
    places, edge = folders(settings), Edge.of(settings)
    os.environ.pop("SLIPWAY_EDGE_TOKEN", None)  # no server that is started here has a use for it
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    with lock(places.root / "supervisor.lock", f"runs the embedded KServe of {settings.home}"):
        api_socket = listening(settings.api_port, "SLIPWAY_API_PORT")
        if not envoy_lives(places):  # of an earlier supervisor, on this port
            listening(settings.http_port, "SLIPWAY_HTTP_PORT").close()  # Envoy's own message names no setting
        gateway = Gateway(edge, places)
        state = State(places.state, unusable)
        reconciler = Reconciler(
            state,
            gateway,
            places,
            http_port=settings.http_port,
            timing=timing or Timing(),
            endpoint_url=settings.s3_endpoint_url,
        )
        is_up = asyncio.Event()
        app = application(state, api_url(settings).rsplit("/", 1)[1], is_up.is_set, reconciler.figures)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
        server = _Server(config)
        tasks = [asyncio.create_task(server.serve(sockets=[api_socket]), name="api")]
        record = record_path(settings)
        try:
            await gateway.start()
            tasks.append(asyncio.create_task(reconciler.run(), name="reconciler"))
            tasks.append(asyncio.create_task(_keep_envoy(gateway, reconciler), name="envoy"))
            # Before, a service that was ready when the last supervisor ended would be called ready still.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reconciler.reconciled.wait(), RECONCILED)
            me = {"pid": os.getpid(), "started": started(os.getpid())}
            ports = {"http_port": settings.http_port, "api_port": settings.api_port, "admin": gateway.admin}
            write_atomically(record, json.dumps(me | ports | {"scheme": edge.scheme}))
            is_up.set()
            log.info("up: ingress %d, API %d", settings.http_port, settings.api_port)
            stopping = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a part that ended by itself raises its reason
                raise ServingError(f"the part {task.get_name()} ended", f"see {places.logs / 'supervisor.log'}")
        finally:
            is_broken = is_up.is_set() and not stop.is_set()
            is_up.clear()
            server.should_exit = True
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if is_broken:
                log.error("the servers go on: slipway up takes them over, slipway down ends them")
                await reconciler.leave()
            else:
                await gateway.stop()
                await reconciler.stop()
            record.unlink(missing_ok=True)
            log.info("down")


async def _keep_envoy(gateway: Gateway, reconciler: Reconciler) -> None:
    """Start Envoy again whenever it ends. Raises ServingError when it cannot."""
    while True:
        assert gateway.child is not None
        code = await gateway.child.wait()
        log.error("Envoy ended with %s: starting it again", code)
        await asyncio.sleep(0.2)
        await gateway.start()
        reconciler.wake()
