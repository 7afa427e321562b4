"""The objects that were applied, kept on disk. Knows names, versions and watchers; not what an object means.

One JSON file per object below `<folder>/<plural>/<namespace>/<name>.json`, replaced by renaming. A file that cannot be
read is moved to `<folder>/quarantine/` and reported, so that one bad disk block never keeps the rest from starting.
"""

import asyncio
import copy
import json
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.errors import ServingError
from slipway.storage import write_atomically

log = logging.getLogger(__name__)

Object = dict[str, Any]
Event = tuple[str, str, Object]
"""("ADDED" | "MODIFIED" | "DELETED", plural, object)"""


class ConflictError(ServingError):
    """The object changed (or appeared, or went) since the caller read it."""


class MissingError(ServingError):
    """No such object."""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class State:
    """Single-threaded: every call happens on the supervisor's event loop."""

    def __init__(self, folder: Path, wrong: Callable[[str, Object], str] = lambda _, __: "") -> None:
        """wrong(plural, object) says what makes a stored object unusable; "" is nothing."""
        self.folder, self._wrong = folder, wrong
        self.quarantined: list[Path] = []
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._watchers: set[asyncio.Queue[Event]] = set()
        # Versions must grow across restarts too, or a watcher would miss changes; the clock gives that for free.
        self._version = time.time_ns() // 1_000_000
        self._load()

    def _load(self) -> None:
        for path in sorted(self.folder.glob("*/*/*.json")):
            plural, namespace = path.parts[-3], path.parts[-2]
            if plural == "quarantine":
                continue
            try:
                found = json.loads(path.read_bytes())
                if (found["metadata"]["namespace"], found["metadata"]["name"]) != (namespace, path.stem):
                    raise ValueError("it holds another object than its name says")
                if problem := self._wrong(plural, found):
                    raise ValueError(problem)
                self._version = max(self._version, int(found["metadata"]["resourceVersion"]))
            except (ValueError, KeyError, TypeError) as error:
                aside = self.folder / "quarantine" / f"{plural}-{namespace}-{path.stem}-{self._version}.json"
                aside.parent.mkdir(exist_ok=True)
                path.rename(aside)
                self.quarantined.append(aside)
                log.warning("%s cannot be read (%s): moved to %s; apply the object again", path, error, aside)
                continue
            self._objects[plural, namespace, path.stem] = found

    @property
    def version(self) -> str:
        return str(self._version)

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """A copy. Raises MissingError."""
        try:
            return copy.deepcopy(self._objects[plural, namespace, name])
        except KeyError:
            raise MissingError(f'{plural} "{name}" not found in namespace "{namespace}"') from None

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        found = self._objects.get((plural, namespace, name))
        return copy.deepcopy(found) if found else None

    def list(self, plural: str, namespace: str | None = None) -> list[Object]:
        return [
            copy.deepcopy(found)
            for (kind, where, _), found in sorted(self._objects.items())
            if kind == plural and namespace in (None, where)
        ]

    def put(self, plural: str, wanted: Object, *, status: bool = False) -> Object:
        """Create or replace. A resourceVersion in wanted must be the current one: raises ConflictError.

        status False keeps the stored status and raises `generation` when the spec differs; True changes only it.
        """
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        stored = self._objects.get((plural, namespace, name))
        expected = wanted["metadata"].get("resourceVersion")
        if expected and (stored is None or stored["metadata"]["resourceVersion"] != expected):
            raise ConflictError(
                f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
        kept = copy.deepcopy(wanted)
        if stored is None:
            kept["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        elif status:
            kept = copy.deepcopy(stored) | {"status": kept.get("status", {})}
        else:
            kept["metadata"] |= {key: stored["metadata"][key] for key in ("uid", "creationTimestamp", "generation")}
            kept["metadata"]["generation"] += kept.get("spec") != stored.get("spec")
            kept.pop("status", None)
            if "status" in stored:
                kept["status"] = copy.deepcopy(stored["status"])
        kept["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"] if stored else "0"
        if kept == stored:
            return copy.deepcopy(kept)  # nothing changed: no new version, no event
        self._version += 1
        kept["metadata"]["resourceVersion"] = str(self._version)
        write_atomically(self.folder / plural / namespace / f"{name}.json", json.dumps(kept, indent=1) + "\n")
        self._objects[plural, namespace, name] = kept
        self._tell("MODIFIED" if stored else "ADDED", plural, kept)
        return copy.deepcopy(kept)

    def delete(self, plural: str, namespace: str, name: str) -> Object:
        gone = self.get(plural, namespace, name)
        (self.folder / plural / namespace / f"{name}.json").unlink(missing_ok=True)
        del self._objects[plural, namespace, name]
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", plural, gone)
        return gone

    def watch(self) -> asyncio.Queue[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._watchers.add(queue)
        return queue

    def unwatch(self, queue: asyncio.Queue[Event]) -> None:
        self._watchers.discard(queue)

    def _tell(self, what: str, plural: str, subject: Object) -> None:
        for queue in self._watchers:
            queue.put_nowait((what, plural, copy.deepcopy(subject)))
