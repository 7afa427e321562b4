"""One Kubernetes object of one built overlay, and what a check found wrong with it. Knows no kind's rules.

Paths are written as kubectl's JSONPath is: spec.template.spec.containers[0].image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Object:
    """overlay: the folder, relative to manifests/, that applies it; document: as kustomize built it."""

    overlay: str
    document: Document

    @property
    def api_version(self) -> str:
        return str(self.document.get("apiVersion", ""))

    @property
    def kind(self) -> str:
        return str(self.document.get("kind", ""))

    @property
    def group(self) -> str:
        """ "" for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    @cached_property
    def metadata(self) -> Document:
        found = self.document.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or self.metadata.get("generateName", ""))

    @property
    def namespace(self) -> str:
        """ "" where the object has none: a cluster's, or one that was left to whoever applies it."""
        return str(self.metadata.get("namespace", ""))

    @property
    def labels(self) -> dict[str, str]:
        return _strings(self.metadata.get("labels"))

    @property
    def annotations(self) -> dict[str, str]:
        return _strings(self.metadata.get("annotations"))

    @property
    def spec(self) -> Document:
        found = self.document.get("spec")
        return found if isinstance(found, dict) else {}

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, order=True)
class Finding:
    """check: the id of the rule that was broken; path: where in the object; remedy: what to do about it."""

    overlay: str
    object: str
    path: str
    check: str
    message: str
    remedy: str = ""


def _strings(found: Any) -> dict[str, str]:
    """A map of names; what is none is the schema's business."""
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def at(document: Any, path: str, default: Any = None) -> Any:
    """What lies at a dotted path of keys, or default; numbers index lists."""
    for part in path.split("."):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return default
    return document


def listed(document: Any, path: str) -> list[Any]:
    """The list at a path; what is no list there is the schema's business, and none here."""
    found = at(document, path)
    return found if isinstance(found, list) else []


def join(path: str, part: str | int) -> str:
    """The path one step further: keys that hold a dot or a slash are quoted."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    quoted = f'["{part}"]' if any(c in part for c in "./ ") else part
    return f"{path}.{quoted}" if path and not quoted.startswith("[") else f"{path}{quoted}"


def walk(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of the tree with its path, the root first."""
    yield path, document
    if isinstance(document, dict):
        for key, value in document.items():
            yield from walk(value, join(path, str(key)))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from walk(value, join(path, index))
