"""Which image an overlay runs, in its kustomization.yaml, and how to change it without touching another byte.

slipway manifests pin staging slipway-serving=sha256:…          # one environment
slipway manifests pin serving <registry>/serving@sha256:…       # wherever that image runs: what CI built last
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.overlays import FILE
from slipway.errors import ConfigError

OURS = "slipway-"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+")
EMPTY = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Image:
    """An entry of images: name as the manifests write it; version: ":tag", "@digest" or ""."""

    overlay: str
    name: str
    new_name: str
    version: str


def images(root: Path) -> list[Image]:
    """What each overlay runs."""
    found = []
    for path in sorted(root.rglob(FILE)):
        for entry in _entries(path):
            pairs = {key.value: value.value for key, value in entry.value}
            version = (
                f"@{pairs['digest']}" if pairs.get("digest") else f":{pairs['newTag']}" if "newTag" in pairs else ""
            )
            overlay = str(path.parent.relative_to(root))
            found.append(Image(overlay, pairs.get("name", ""), pairs.get("newName", ""), version))
    return found


def pin(where: str, what: str, root: Path) -> list[Path]:
    """Write a digest; the files that were changed. See the module for the two forms. Raises ConfigError."""
    if "=" in what:
        name, _, reference = what.partition("=")
        folders = [_folder(where, root)]
    else:
        name, reference = where, what
        folders = sorted({root / image.overlay for image in images(root) if image.name == _ours(name)})
    name = _ours(name)
    new_name, _, digest = reference.rpartition("@")
    _check(new_name, digest)
    known = sorted({i.name for i in images(root) if not folders or root / i.overlay in folders})
    changed = []
    for folder in folders:
        path = folder / FILE
        text = path.read_text()
        entry = next((e for e in _entries(path) if ("name", name) in [(k.value, v.value) for k, v in e.value]), None)
        if entry is None:
            raise ConfigError(f"{where} runs no {name}", f"choose one of: {', '.join(known) or 'none'}")
        written = _write(text, entry, new_name, digest)
        if written != text:
            path.write_text(written)
            changed.append(path)
    if not folders:
        raise ConfigError(f"no overlay runs {name}", f"choose one of: {', '.join(known) or 'none'}")
    return changed


def _ours(name: str) -> str:
    return name if name.startswith(OURS) else f"{OURS}{name}"


def _check(new_name: str, digest: str) -> None:
    if not DIGEST.fullmatch(digest) or digest == EMPTY:
        remedy = "copy what the registry answered to the push: buildah push --digestfile"
        raise ConfigError(f"{digest!r} is no digest: sha256: and 64 hexadecimal digits", remedy)
    if new_name and not NAME.fullmatch(new_name):
        raise ConfigError(f"{new_name!r} is no image of a registry", "write <registry>/<name>@sha256:…")


def _folder(where: str, root: Path) -> Path:
    bare = where.strip("/").removeprefix(f"{root.name}/")
    for folder in (root / "apps" / bare, root / bare):
        if bare and (folder / FILE).is_file():
            return folder
    known = sorted({image.overlay for image in images(root)})
    environments = [name.removeprefix("apps/") for name in known]
    raise ConfigError(f"there is no environment {where!r}", f"choose one of: {', '.join(environments)}")


def _entries(path: Path) -> Sequence[yaml.MappingNode]:
    try:
        root = yaml.compose(path.read_text())  # with the places of each scalar, to change it where it stands
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {error}", "correct it") from error
    if not isinstance(root, yaml.MappingNode):
        return []
    lists = [value for key, value in root.value if key.value == "images"]
    return [
        e for one in lists if isinstance(one, yaml.SequenceNode) for e in one.value if isinstance(e, yaml.MappingNode)
    ]


def _write(text: str, entry: yaml.MappingNode, new_name: str, digest: str) -> str:
    """The file's text with this entry's newName and digest; a tag gives its place to the digest."""
    keys = {key.value: (key, value) for key, value in entry.value}
    edits: list[tuple[int, int, str]] = []
    if new_name and "newName" in keys:
        edits.append((keys["newName"][1].start_mark.index, keys["newName"][1].end_mark.index, new_name))
    place = keys.get("digest") or keys.get("newTag")
    if place is not None:
        edits.append((place[0].start_mark.index, place[1].end_mark.index, f"digest: {digest}"))
    else:
        end = keys["name"][1].end_mark.index
        between = ", " if entry.flow_style else f"\n{' ' * keys['name'][0].start_mark.column}"
        edits.append((end, end, f"{between}digest: {digest}"))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text
