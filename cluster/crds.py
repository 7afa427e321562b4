"""The definitions of custom resources: which, at which version, with which bytes. Knows crds.yaml and a folder of
files; the project carries no definition itself.

    slipway manifests fetch-crds                  # into SLIPWAY_HOME/cache/crds, each file held against its hash
    slipway manifests check --crds ../crds        # or a folder that has them: <source>/<file>
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from slipway.errors import ConfigError, SourceError
from slipway.package import Frozen

PINS = Path(__file__).parent / "crds.yaml"
RAW = "https://raw.githubusercontent.com"
FETCH = "fetch them: slipway manifests fetch-crds; or name a folder that has them: --crds DIR (make manifests CRDS=DIR)"


class File(Frozen):
    """kinds: group/Kind of each definition in it."""

    path: str = Field(pattern=r"^[\w./-]+\.yaml$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Source(Frozen):
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    tag: str
    commit: str = Field(pattern="^[0-9a-f]{40}$")
    files: tuple[File, ...]


class Pins(Frozen):
    """kubernetes: the version whose core kinds are meant."""

    kubernetes: str = Field(pattern=r"^1\.\d+$")
    sources: dict[str, Source]


@dataclass(frozen=True)
class Definition:
    """One version of a custom resource; schema as the file has it (OpenAPI v3, structural)."""

    group: str
    kind: str
    version: str
    namespaced: bool
    served: bool
    deprecated: bool
    schema: Mapping[str, Any]


@lru_cache(maxsize=1)
def pins() -> Pins:
    """Raises ConfigError."""
    try:
        return Pins.model_validate(yaml.safe_load(PINS.read_text()))
    except ValidationError as error:
        raise ConfigError(f"{PINS} cannot be used: {error}", "correct it") from error


class Definitions:
    """The definitions in a folder, read when they are asked for and held against their hashes.

    parsed: a folder in which what was read is kept as JSON, which is read ten times faster; None: nothing is kept.
    """

    def __init__(self, folder: Path, parsed: Path | None = None) -> None:
        self.folder, self._parsed = folder, parsed
        self._read: dict[str, dict[str, Definition]] = {}

    @cached_property
    def _where(self) -> dict[str, tuple[str, File]]:
        return {
            kind: (name, file)
            for name, source in pins().sources.items()
            for file in source.files
            for kind in file.kinds
        }

    def has(self, group: str, kind: str) -> bool:
        return f"{group}/{kind}" in self._where

    def get(self, group: str, kind: str, version: str) -> Definition | None:
        """None when there is no such version. Raises SourceError when the file is missing, or not the pinned one."""
        key = f"{group}/{kind}"
        if key not in self._read:
            source, file = self._where[key]
            self._read[key] = self._load(source, file, key)
        return self._read[key].get(version)

    def versions(self, group: str, kind: str) -> list[str]:
        self.get(group, kind, "")
        return sorted(v for v, d in self._read[f"{group}/{kind}"].items() if d.served)

    def _load(self, source: str, file: File, key: str) -> dict[str, Definition]:
        path = self.folder / source / file.name
        if not path.is_file():
            raise SourceError(f"there is no definition of {key}: {path} is missing", FETCH)
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise SourceError(f"{path} is not the file that is pinned: {found}, not {file.sha256}", FETCH)
        kept = self._parsed / f"{file.sha256}.json" if self._parsed else None
        if kept and kept.is_file():
            documents = json.loads(kept.read_text())
        else:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            documents = [d for d in yaml.load_all(content, Loader=loader) if d]
            if kept:
                with contextlib.suppress(OSError):  # a home that cannot be written costs time, and nothing else
                    _write(kept, json.dumps(documents).encode())
        return {
            version["name"]: Definition(
                spec["group"],
                spec["names"]["kind"],
                version["name"],
                spec["scope"] == "Namespaced",
                bool(version.get("served")),
                bool(version.get("deprecated")),
                version["schema"]["openAPIV3Schema"],
            )
            for spec in (document["spec"] for document in documents)
            if f"{spec['group']}/{spec['names']['kind']}" == key
            for version in spec["versions"]
        }


def fetch(folder: Path, told: Callable[[str], None], get: Callable[[str], bytes] | None = None) -> int:
    """Bring each pinned file that is not there into folder/<source>/; the count that was brought.

    told: called with each file's name. Raises SourceError when one cannot be had, or is not the pinned one.
    """
    brought = 0
    for name, source in pins().sources.items():
        for file in source.files:
            path = folder / name / file.name
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256:
                continue
            url = f"{RAW}/{source.repository}/{source.commit}/{file.path}"
            told(f"{name}/{file.name}")
            content = (get or _get)(url)
            found = hashlib.sha256(content).hexdigest()
            if found != file.sha256:
                raise SourceError(
                    f"{url} is not the file that is pinned: {found}, not {file.sha256}",
                    "a commit's files never change: look who answers; then correct cluster/crds.yaml",
                )
            try:
                _write(path, content)
            except OSError as error:
                raise SourceError(f"{path} cannot be written: {error}", "name another SLIPWAY_HOME") from error
            brought += 1
    return brought


def _write(path: Path, content: bytes) -> None:
    """Whole, or not at all: two may do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _get(url: str) -> bytes:
    import httpx

    try:
        answer = httpx.get(url, timeout=60, follow_redirects=True)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise SourceError(
            f"{url} cannot be had: {error or type(error).__name__}",
            "fetch where there is internet, and name the folder: --crds DIR",
        ) from error
    return answer.content
