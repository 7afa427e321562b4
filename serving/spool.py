"""Messages on disk that the event stream has not taken yet. Knows files, their bound and who holds one; no broker.

A segment is a file of lines, `<kind><tab><JSON>`; each append is synced before it returns. The file is locked by
whoever writes or reads it, and a lock ends with its process: several servers share a folder, and any of them sends what
a killed one left. A line that was cut off is set aside in `torn/`.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError, StorageError

SEGMENT = 1 << 20  # bytes, after which another is begun
LOOK = 1.0  # seconds between two looks for what others left
_LINE = re.compile(rb"([a-z-]{1,32})\t(\{.*\})")

log = logging.getLogger("slipway.serving.capture")

Line = tuple[str, bytes]
"""(kind, JSON object without a line break)."""


class FullError(StorageError):
    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__(
            f"the spool {folder} holds its {limit:,} bytes",
            "start the event stream, or raise SLIPWAY_CAPTURE_SPOOL_BYTES",
        )


@dataclass
class _Open:
    """A segment that we hold."""

    path: Path
    handle: int  # file descriptor, locked
    size: int


class Spool:
    """One thread at a time. limit: bytes of the whole folder."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Raises ConfigError when it cannot be written to."""
        self.folder, self.limit = folder, limit
        self._writing: _Open | None = None
        self._reading: _Open | None = None
        self._lines: list[Line] = []  # of the segment that is read, without those that were done
        self._looked = -LOOK  # when nothing was found
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}", "set SLIPWAY_CAPTURE_SPOOL") from error

    @property
    def bytes(self) -> int:
        return sum(one.stat().st_size for one in self._segments())

    def append(self, lines: Sequence[Line]) -> None:
        """Returns when they are on disk, all of them. Raises FullError, OSError; then none is."""
        content = b"".join(b"%s\t%s\n" % (kind.encode(), text) for kind, text in lines)
        if self._writing is None or self._writing.size + len(content) > SEGMENT:
            self._leave()
            if self.bytes + max(SEGMENT, len(content)) > self.limit:
                raise FullError(self.folder, self.limit)
            self._writing = self._begin()
        segment = self._writing
        try:
            _write(segment.handle, content)
            os.fsync(segment.handle)
        except OSError:
            os.ftruncate(segment.handle, segment.size)  # a full disk: no half of a line stays
            raise
        segment.size += len(content)

    def peek(self, most: int) -> list[Line]:
        """The first lines of the oldest segment that is nobody else's; the same again until `done`."""
        if not self._lines:
            self._close_reading()
            self._find()
        return self._lines[:most]

    def done(self, count: int) -> None:
        """So many of the lines of `peek` need not be kept; the file goes with its last line."""
        del self._lines[:count]
        if not self._lines:
            self._close_reading()

    def close(self) -> None:
        """What is left stays for the next server."""
        self._leave()
        if self._reading:
            os.close(self._reading.handle)
        self._reading, self._lines = None, []

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.segment"))

    def _begin(self) -> _Open:
        path = self.folder / f"{time.time_ns():020}-{os.getpid()}.segment"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)  # the name, too
        os.close(folder)
        return _Open(path, handle, 0)

    def _leave(self) -> None:
        if self._writing:
            os.close(self._writing.handle)
        self._writing = None

    def _find(self) -> None:
        """Begin to read a segment: ours, or what others left, for which we look once a second when there was none."""
        if self._writing is None and time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        self._leave()
        for path in self._segments():
            try:
                handle = os.open(path, os.O_RDONLY)
            except OSError:  # another server was done with it
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                continue
            self._reading = _Open(path, handle, os.fstat(handle).st_size)
            self._lines = list(self._sound(path)) if os.fstat(handle).st_nlink else []
            if self._lines:
                self._looked = -LOOK
                return
            self._close_reading()

    def _sound(self, path: Path) -> Iterator[Line]:
        torn = []
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and (match := _LINE.fullmatch(line[:-1])):
                yield match[1].decode(), match[2]
            else:
                torn.append(line)
        if torn:
            aside = self.folder / "torn" / path.with_suffix(".txt").name
            aside.parent.mkdir(exist_ok=True)
            aside.write_bytes(b"".join(torn))
            log.warning("%d lines of %s are no messages (cut off by a crash?); set aside in %s", len(torn), path, aside)

    def _close_reading(self) -> None:
        if self._reading:
            self._reading.path.unlink(missing_ok=True)
            os.close(self._reading.handle)
        self._reading = None


def _write(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]
