"""Who drives a rollout: one process, by host, pid and start time, that says so again and again. Knows no rollout."""

import os
import re
import socket

import psutil

BEAT = 20.0  # seconds between two signs of life
LEASE = 90.0  # seconds without one, after which a holder on another machine counts as dead

_FORM = re.compile(r"(?P<host>[^ ]+) pid (?P<pid>\d+) of (?P<since>\d+)")


def me() -> str:
    return f"{socket.gethostname()} pid {os.getpid()} of {_since(os.getpid())}"


def is_alive(holder: str, renewed: float, now: float) -> bool:
    """A holder on this machine is looked up, so that one that was killed is replaced at once."""
    if not holder:
        return False
    parts = _FORM.fullmatch(holder)
    if parts and parts["host"] == socket.gethostname():
        return _since(int(parts["pid"])) == int(parts["since"])
    return now - renewed < LEASE


def _since(pid: int) -> int:
    """When it started, in milliseconds since 1970; 0 when there is no such process."""
    try:
        process = psutil.Process(pid)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 1000)
    except psutil.Error:
        return 0
