"""A child process that cannot outlive us. Knows pids and signals, not what the child does.

On Linux the kernel kills it when we die (PR_SET_PDEATHSIG). Everywhere its pid and start time are on file, so that the
next start finds whatever a killed supervisor left; the start time keeps a reused pid safe.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from slipway.storage import write_atomically

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    if _libc is None:
        return None

    def before_exec() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl: nobody would send the signal
            os._exit(1)

    return before_exec


def started(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; None when there is no such (living) process."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


class Child:
    """Started by `start`, ended by `stop`; its output goes to a log file."""

    def __init__(self, process: asyncio.subprocess.Process, record: Path, log: Path) -> None:
        self.process, self.record, self.log = process, record, log

    @classmethod
    async def start(
        cls, command: Sequence[str], *, records: Path, name: str, log: Path, env: Mapping[str, str], cwd: Path
    ) -> "Child":
        """Raises OSError when the command cannot be run."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # its own group: a terminal's Ctrl-C is ours to pass on
                preexec_fn=_die_with_parent(os.getpid()),
            )
        child = cls(process, records / f"{name}.json", log)
        write_atomically(child.record, json.dumps({"pid": process.pid, "started": started(process.pid)}))
        return child

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def wait(self) -> int:
        """The exit code, negative for a signal; its whole group is gone afterwards."""
        code = await self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # grandchildren that it left behind
        self.record.unlink(missing_ok=True)
        return code

    async def stop(self, grace: float) -> None:
        """SIGTERM, at most grace seconds, then SIGKILL."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.process.wait()), grace)
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        await self.wait()

    def tail(self, lines: int = 5) -> str:
        """The last lines that it wrote, for an error message."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - 8192))
                text = stream.read().decode(errors="replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())


def reap(records: Path) -> list[int]:
    """Kill what an earlier supervisor left running; returns the pids."""
    killed = []
    for path in records.glob("*.json"):
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            record = json.loads(path.read_bytes())
            pid = int(record["pid"])
            if record["started"] is not None and started(pid) == record["started"]:
                os.killpg(pid, signal.SIGKILL)  # it leads its own group
                killed.append(pid)
        path.unlink(missing_ok=True)
    return killed
