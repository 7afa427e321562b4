"""podman and buildah as processes: started, followed line by line, ended with us. Knows their errors' remedies only."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slipway.errors import ImageError

APT = "on Debian and Ubuntu: sudo apt-get install --no-install-recommends podman buildah runc mmdebstrap"
TAIL = 15  # lines of a failed command that are shown

Line = Callable[[str], None]
_AWAY = ("dns error", "could not resolve", "no such host", "connection refused", "failed to fetch", "i/o timeout")


def program(name: str) -> str:
    """Where it is. Raises ImageError."""
    found = shutil.which(name)
    if found is None:
        raise ImageError(f"there is no {name} here", APT)
    return found


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One build of this checkout at a time: the second finds the first one's layers, and makes none of them twice."""
    with Path(__file__).with_name("Dockerfile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def confined(tag: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command that runs an image with what a restricted pod may do: nothing but write to /tmp.

    Runtime, network and limits are those that also work inside another container, where CI may run.
    """
    return [
        program("podman"),
        "--runtime=runc",
        "run",
        "--rm",
        "--network=host",
        "--no-healthcheck",
        "--ulimit=nofile=4096:4096",
        "--ulimit=nproc=4096:4096",
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        *options,
        tag,
        *arguments,
    ]


def run(command: Sequence[str], what: str, log: Path | None = None, line: Line = lambda _: None) -> str:
    """The command's output, stdout and stderr together, given to `line` as it comes and written to log.

    However we are left, the command's processes end. Raises ImageError with the last lines and, where the reason is
    known, its remedy.
    """
    tail: deque[str] = deque(maxlen=TAIL)
    lines: list[str] = []
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(log.open("w")) if log else None
        process = stack.enter_context(
            subprocess.Popen(
                [program(command[0]), *command[1:]],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            )
        )
        stack.callback(process.terminate)  # Ctrl-C reaches the whole group; a SIGTERM for us alone does not
        assert process.stdout is not None
        for text in process.stdout:
            if kept:
                kept.write(text)
            lines.append(text)
            tail.append(text.rstrip())
            line(text.rstrip())
        code = process.wait()
    if code:
        known = remedy("\n".join(tail)) or (f"all that it said: {log}" if log else "")
        raise ImageError(f"{what} failed ({command[0]} ended with {code}):\n" + "\n".join(tail), known)
    return "".join(lines)


def remedy(output: str) -> str:
    """What to do about a failed command, by what it said; "" where nobody knows."""
    said = output.lower()
    if "no space left on device" in said:
        return "the disk is full; what podman holds and nobody uses goes with: podman image prune"
    if "image not known" in said or "does not resolve" in said or ("pull" in said and "never" in said):
        return "make the base: python -m images base; or name one that a registry has: --base python:3.11-slim-bookworm"
    if "hash mismatch" in said:
        return "a file is not the one that was locked: do not use it; see images/locks and the package's index"
    if "invalid reference format" in said:
        return "name an image as <registry>/<name>:<tag>, or <registry>/<name>@sha256:<64 hex digits>"
    if "manifest unknown" in said or "name unknown" in said:
        return "the registry has no such image: correct its name, tag or digest"
    if any(word in said for word in _AWAY):
        return "check the address, the network and, where there is one, the proxy in HTTPS_PROXY"
    if "unauthorized" in said or "authentication required" in said:
        return "log in first: buildah login <registry>"
    return ""


def inspect(tag: str) -> dict[str, Any] | None:
    """podman's word on an image in its store; None when it has none. Raises ImageError when there is no podman."""
    done = subprocess.run([program("podman"), "image", "inspect", tag], capture_output=True, text=True, check=False)
    if done.returncode:
        if "not known" in done.stderr or "no such" in done.stderr.lower():
            return None
        raise ImageError(f"podman does not work here: {done.stderr.strip()[-300:]}", "see: podman info")
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found
