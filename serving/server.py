"""The process that serves one package: arguments, sockets, signals. Knows no workload.

Laptop:  python -m serving.server --model_name movies --model_dir <package folder> --http_port 8080 --host 127.0.0.1
Cluster: the container of our ServingRuntime runs the same with --model_dir=/mnt/models.

Exit codes: 0 after SIGTERM or Ctrl-C once the requests in progress are answered, 1 for a package that must not be
served, 2 for arguments or ports that cannot be used.
"""

import argparse
import asyncio
import errno
import gc
import logging.config
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import ConfigError, PortInUseError, SlipwayError
from slipway.settings import settings

if TYPE_CHECKING:
    from serving.feedback import FeedbackEndpoint
    from serving.model import ServedModel

BACKLOG = 2048

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "slipway": {"level": "INFO"},
        # What is worth a line, we say: these log every step of starting, and every bad request with a traceback.
        # kserve configures logging itself unless its logger has a handler.
        "kserve": {"level": "CRITICAL", "handlers": ["stderr"], "propagate": False},
        "uvicorn": {"level": "ERROR"},
    },
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.server", description=__doc__.splitlines()[0])
    parser.add_argument("--model_name", default="model", help="name on the endpoint's path")
    parser.add_argument("--model_dir", type=Path, required=True, help="folder of the model package")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on; a container needs all")  # noqa: S104
    parser.add_argument("--http_port", type=_port, default=8080, help="0 picks a free one and logs it")
    parser.add_argument("--grpc_port", type=_port, default=0, help="0: no gRPC")
    parser.add_argument("--revision", default=os.environ.get("K_REVISION", ""), help="default: $K_REVISION (Knative)")
    parser.add_argument("--workers", type=int, choices=[1], default=1, help="one process per CPU: scale replicas")
    return parser.parse_args(argv)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port (0..65535)")
    return port


def bind(host: str, port: int) -> socket.socket:
    """Bound, but not listening until the model is ready: a probe is refused, not kept waiting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _port_errors(port):
        sock.bind((host, port))
    return sock


@contextmanager
def _port_errors(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(port, "--http_port") from error
        raise ConfigError(f"cannot listen: {error}", "choose another --host or --http_port") from error


def serve(options: argparse.Namespace) -> None:
    """Until a signal. Raises PortInUseError, and PackageError for a package that must not be served."""
    sock = bind(options.host, options.http_port)
    # Inherited from a parent it would make prometheus_client write files and answer for other processes.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    from serving.model import ServedModel

    threads = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)), thread_name_prefix="predict")
    model = ServedModel(options.model_name, options.model_dir, options.revision, threads)
    model.load()
    import uvloop

    from serving.process import ModelProcess

    # What was loaded lives as long as the process: without this the collector walks it again and again (150 ms).
    gc.collect()
    gc.freeze()
    with _port_errors(options.http_port):
        sock.listen(BACKLOG)  # of two processes bound to one port, only one can
    with _captured(model) as feedback, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ModelProcess(model, sock, options.host, options.grpc_port, feedback).run())


@contextmanager
def _captured(model: "ServedModel") -> "Iterator[FeedbackEndpoint | None]":
    """What the model answers goes onto the event stream while the block runs, where the settings want it.

    Raises ConfigError for settings that cannot be used.
    """
    env = settings()
    if not env.captures:
        yield None
        return
    from serving.capture import Capture
    from serving.feedback import FeedbackEndpoint
    from slipway.workload import Served

    assert model.package is not None
    served = Served(model.name, model.version, model.revision)
    capture = Capture.open(env, model.package.manifest.workload, served)
    capture.start()
    model.capture = capture
    try:
        yield FeedbackEndpoint(capture)
    finally:
        capture.close()


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    logging.config.dictConfig(LOGGING)
    try:
        serve(options)
    except SlipwayError as error:
        print(f"cannot serve {options.model_dir}: {error}", file=sys.stderr)
        return 2 if isinstance(error, PortInUseError | ConfigError) else 1
    except KeyboardInterrupt:  # while loading; once it serves, Ctrl-C is a shutdown like SIGTERM
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
