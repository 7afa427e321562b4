"""A child process that outlives us, and is found again. Knows pids and signals, not what the child does.

Its pid, its start time and what its owner notes beside them are on file for as long as it lives: whoever comes after a
killed supervisor adopts it, or ends it. The start time keeps a reused pid safe.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from slipway.storage import write_atomically

LOOK = 0.1  # seconds between two looks at a process, where the system cannot tell that it ended

Facts = dict[str, Any]
"""What a child's owner notes of it: JSON."""


def started(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; None when there is no such (living) process."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


class Child:
    """Started by `start` or found by `adopt`, ended by `stop`; its output goes to a log file."""

    def __init__(
        self, pid: int, since: float | None, record: Path, log: Path, process: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        """process: None for an adopted one, which is nobody's to wait for."""
        self.pid, self.since, self.record, self.log, self._process = pid, since, record, log, process

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        records: Path,
        name: str,
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
        facts: Facts | None = None,
    ) -> "Child":
        """Raises OSError when the command cannot be run."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # its own group: a terminal's Ctrl-C is ours to pass on
            )
        child = cls(process.pid, started(process.pid), records / f"{name}.json", log, process)
        child.note(facts or {})
        return child

    @classmethod
    def adopt(cls, record: Path, log: Path) -> "tuple[Child, Facts] | None":
        """The living process of a record and what was noted of it; None, and no record any more, when there is none."""
        try:
            found = json.loads(record.read_bytes())
            child, facts = cls(int(found["pid"]), float(found["started"]), record, log), found.get("facts", {})
        except (OSError, ValueError, KeyError, TypeError):
            record.unlink(missing_ok=True)
            return None
        if not child.alive or not isinstance(facts, dict):
            record.unlink(missing_ok=True)
            return None
        return child, facts

    def note(self, facts: Facts) -> None:
        write_atomically(self.record, json.dumps({"pid": self.pid, "started": self.since, "facts": facts}))

    @property
    def alive(self) -> bool:
        if self._process:
            return self._process.poll() is None
        return self.since is not None and started(self.pid) == self.since

    @property
    def memory(self) -> int:
        """Bytes of resident memory; 0 when it is gone."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    async def wait(self) -> int | None:
        """The exit code, negative for a signal, None of an adopted one; its whole group is gone afterwards."""
        await self._ended()
        code = self._process.wait() if self._process else None
        self._signal_group(signal.SIGKILL)  # grandchildren that it left behind
        self.record.unlink(missing_ok=True)
        return code

    async def _ended(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # Linux alone has pidfds
            descriptor = os.pidfd_open(self.pid)
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                if self.alive:  # and so the descriptor is of this process, not of one that has its pid by now
                    await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        while self.alive:
            await asyncio.sleep(LOOK)

    async def stop(self, grace: float) -> None:
        """SIGTERM, at most grace seconds, then SIGKILL."""
        if self.alive and grace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended(), grace)
        if self.alive:
            self._signal_group(signal.SIGKILL)
        await self.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def tail(self, lines: int = 5) -> str:
        """The last lines that it wrote, for an error message."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - 8192))
                text = stream.read().decode(errors="replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())


def reap(records: Path, grace: float = 10.0) -> list[int]:
    """End what a supervisor left running, SIGTERM first; returns the pids."""
    left = [adopted[0] for path in records.glob("*.json") if (adopted := Child.adopt(path, path))]
    for child in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while any(child.alive for child in left) and time.monotonic() < deadline:
        time.sleep(LOOK)
    for child in left:
        child._signal_group(signal.SIGKILL)
        child.record.unlink(missing_ok=True)
    return [child.pid for child in left]
