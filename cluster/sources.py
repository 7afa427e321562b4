"""What kustomize takes without a word though nothing comes of it: files that nobody names, patches of nothing.

Knows the kustomizations and the files beside them, as they are written; builds nothing.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.objects import Finding
from cluster.overlays import FILE, TAKES_IN, Loader

Documents = Mapping[Path, tuple[Any, ...]]  # the folder of a kustomization, or a file → what is written there


def check(root: Path) -> Iterator[Finding]:
    """Files that are no YAML are overlays.read_sources' to tell."""
    root = root.resolve()
    written = {path: _read(path) for path in sorted([*root.rglob("*.yaml"), *root.rglob("*.yml")])}
    kustomizations = {path.parent: documents[0] for path, documents in written.items() if _is_one(path, documents)}
    yield from _unused(root, written, kustomizations)
    yield from _patches(root, written, kustomizations)


def _unused(root: Path, written: Documents, kustomizations: Mapping[Path, Any]) -> Iterator[Finding]:
    named = {
        (folder / text.rpartition("=")[2]).resolve()
        for folder, content in kustomizations.items()
        for text in _texts(content)
        if "\n" not in text and len(text) < 200
    }
    for path in written:
        if path.name != FILE and path.resolve() not in named:
            message = "no kustomization names it: nothing in it is applied"
            yield _found(root, path, "", "unused-file", message, f"name it in {path.parent.name}/{FILE}, or remove it")


def _patches(root: Path, written: Documents, kustomizations: Mapping[Path, Any]) -> Iterator[Finding]:
    reached = {folder: _reached(folder, kustomizations) for folder in kustomizations}
    for folder, content in kustomizations.items():
        for index, patch in enumerate(content.get("patches") or []):
            target = patch.get("target") if isinstance(patch, dict) else None
            if not isinstance(target, dict) or not {"kind", "name"} & target.keys():
                continue
            # A component patches what the kustomizations that take it in have.
            around = [places for places in reached.values() if folder in places]
            things = {one for places in around for place in places for one in _things(place, written, kustomizations)}
            if not any(_selects(target, kind, name) for kind, name in things):
                kind = str(target.get("kind", "object"))
                there = sorted({name for of, name in things if of == kind})
                message = f"there is no {kind} {target.get('name', '')}".rstrip()
                message += f" to be patched; there are: {', '.join(there) or 'none'}"
                remedy = "correct the target, or remove the patch"
                yield _found(root, folder / FILE, f"patches[{index}].target", "patch-target", message, remedy)


def _selects(target: Mapping[str, Any], kind: str, name: str) -> bool:
    """kustomize takes both as regular expressions for the whole."""
    try:
        return bool(
            re.fullmatch(str(target.get("kind", ".*")), kind) and re.fullmatch(str(target.get("name", ".*")), name)
        )
    except re.error:
        return True  # the build says what is wrong with it


def _reached(folder: Path, kustomizations: Mapping[Path, Any]) -> frozenset[Path]:
    """This folder, what it takes in, what that takes in …; files too."""
    found: set[Path] = set()
    left = [folder]
    while left:
        place = left.pop()
        if place in found:
            continue
        found.add(place)
        content = kustomizations.get(place) or {}
        for key in TAKES_IN:
            left += [(place / entry).resolve() for entry in content.get(key) or [] if isinstance(entry, str)]
    return frozenset(found)


def _things(place: Path, written: Documents, kustomizations: Mapping[Path, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of what is written in a file, or made by a kustomization's generators."""
    for document in written.get(place, ()):
        if isinstance(document, dict) and isinstance(document.get("metadata"), dict):
            yield str(document.get("kind", "")), str(document["metadata"].get("name", ""))
    content = kustomizations.get(place) or {}
    for key, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
        for entry in content.get(key) or []:
            yield kind, str(entry.get("name", "")) if isinstance(entry, dict) else ""


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)


def _read(path: Path) -> tuple[Any, ...]:
    try:
        return tuple(yaml.load_all(path.read_text(), Loader=Loader))
    except (yaml.YAMLError, UnicodeDecodeError):
        return ()


def _is_one(path: Path, documents: tuple[Any, ...]) -> bool:
    return path.name == FILE and len(documents) == 1 and isinstance(documents[0], dict)


def _found(root: Path, path: Path, where: str, check_: str, message: str, remedy: str) -> Finding:
    return Finding("sources", str(path.relative_to(root)), where, check_, message, remedy)
