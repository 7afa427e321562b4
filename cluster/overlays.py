"""The kustomizations that are applied, and what each builds. Knows folders and kubectl kustomize; judges no object.

A folder with a kustomization.yaml is applied when no other kustomization takes it in, or when an Argo CD Application
names it. One that stands in for another (the same objects, another way) says so, and for which kind of cluster:

    metadata:
      name: standard                            # those of one name go together; default: the folder's
      annotations:
        slipway.dev/instead-of: apps/canary     # relative to manifests/
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cluster.objects import Document, Finding, Object
from slipway.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1] / "manifests"
FILE = "kustomization.yaml"
MARK = Path("manifests") / "argocd" / "root"  # what `slipway bootstrap` applies: every checkout has it
INSTEAD = "slipway.dev/instead-of"
COMPONENT = "Component"
TAKES_IN = ("resources", "components", "bases", "transformers", "generators", "validators")
TRAP = re.compile(
    r"0\d+|[-+]?\d[\d_]*_\d*|\d+(:[0-5]?\d)+(\.\d*)?|\d{4}-\d\d?-\d\d?([Tt ].*)?|\d+\.\d*0|[-+]?\d[\d.]*[eE][-+]?\d+"
)
WORDS = frozenset({"yes", "no", "on", "off", "y", "n"})
BUILD_SECONDS = 60


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """slipway.config.UniqueLoader's strictness at libyaml's speed: a doubled key is an error; dates stay strings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", key.start_mark)
            seen.add(name)
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_yaml_str)


@dataclass(frozen=True)
class Overlay:
    """name: the folder relative to the manifests' root; instead_of: the overlay that it stands in for, or "".

    world: the kind of cluster in which it does so, or "". applied: as it is; what is only a part of an overlay can be
    looked at too.
    """

    name: str
    path: Path
    instead_of: str = ""
    world: str = ""
    applied: bool = True


@dataclass(frozen=True)
class Built:
    overlay: Overlay
    objects: tuple[Object, ...] = ()
    findings: tuple[Finding, ...] = ()


def here(given: Path | None = None) -> Path:
    """The manifests of the checkout in which one stands, wherever the package was installed from; or the folder given.

    A checkout is the nearest folder above that has manifests/argocd/root. Raises ConfigError outside of one, and for a
    folder that holds no kustomization.
    """
    if given is not None:
        if not any(given.rglob(FILE)):
            raise ConfigError(f"there is no {FILE} under {given}", "name the folder manifests/ of a checkout: --root")
        return given
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / MARK / FILE).is_file():
            return folder / MARK.parts[0]
    raise ConfigError(
        f"{Path.cwd()} is in no checkout of Slipway: there is no {MARK} in it or above",
        "go to the checkout that is meant, or name its manifests: --root",
    )


def find(root: Path = ROOT) -> list[Overlay]:
    """What is applied, by name. Raises ConfigError when there is nothing, or a kustomization cannot be read."""
    files = sorted(root.rglob(FILE))
    if not files:
        raise ConfigError(
            f"there is no {FILE} under {root}", "run it in the repository, or name another folder: --root"
        )
    read = {path.parent.resolve(): _read(path) for path in files}
    taken = {
        (folder / entry).resolve()
        for folder, content in read.items()
        for key in TAKES_IN
        for entry in content.get(key) or []
        # What one stands in for is applied where that one is not.
        if isinstance(entry, str) and (folder / entry).resolve() != (root / (_instead(content) or FILE)).resolve()
    }
    named = {(root.parent / path).resolve() for path in _sources(root)}
    return [
        _overlay(root, folder, content)
        for folder, content in sorted(read.items())
        if content.get("kind") != COMPONENT and (folder not in taken or folder in named)
    ]


def choose(names: Sequence[str], root: Path = ROOT) -> list[Overlay]:
    """The overlays of these names, each a folder of manifests/ (or its path), applied itself or not.

    Raises ConfigError naming those that there are.
    """
    known = {overlay.name: overlay for overlay in find(root)}
    chosen = []
    for name in names:
        bare = name.strip("/").removeprefix(f"{root.name}/")
        bare = f"apps/{bare}" if f"apps/{bare}" in known else bare  # an environment, by its own name
        folder = root / bare
        if bare in known:
            chosen.append(known[bare])
        elif bare and (folder / FILE).is_file():
            chosen.append(replace(_overlay(root, folder.resolve(), _read(folder / FILE)), applied=False))
        else:
            raise ConfigError(f"there is no overlay {name!r}", f"choose of: {', '.join(known)}")
    return chosen


def build_all(overlays: Sequence[Overlay]) -> list[Built]:
    """In the order given. Raises ConfigError where there is no kubectl."""
    if shutil.which("kubectl") is None:
        raise ConfigError("there is no kubectl on this machine", "install it: https://kubernetes.io/docs/tasks/tools/")
    with ThreadPoolExecutor(max_workers=4) as pool:  # each waits for a process
        return list(pool.map(build, overlays))


def build(overlay: Overlay) -> Built:
    """What `kubectl kustomize` makes of it; what it, or YAML, refuses is a finding."""

    def failed(check: str, message: str, remedy: str) -> Built:
        return Built(overlay, findings=(Finding(overlay.name, FILE, "", check, message, remedy),))

    command = ["kubectl", "kustomize", str(overlay.path)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return failed("build", f"not built within {BUILD_SECONDS} s", "take in only files of this repository")
    if run.returncode:
        said = " ".join(line for line in run.stderr.splitlines() if not line.startswith("#")).strip()
        said = re.sub(r'^E\d+ .*?"command failed" err=[<"]\s*|\s*[>"]$', "", said)
        said = said.replace(f"{overlay.path.parents[1]}/", "")
        return failed("build", re.sub(r"\s+", " ", said), f"see: kubectl kustomize {overlay.path}")
    try:
        documents = [d for d in yaml.load_all(run.stdout, Loader=Loader) if d is not None]
    except yaml.YAMLError as error:
        return failed("build", f"what was built is no YAML: {error}", f"see: kubectl kustomize {overlay.path}")
    return Built(overlay, tuple(Object(overlay.name, d) for d in documents if isinstance(d, dict)))


def read_sources(root: Path = ROOT) -> Iterator[Finding]:
    """What is wrong with the files themselves, which kustomize would build without a word.

    Doubled keys (in patches too), and plain scalars that YAML 1.1 (kubectl, Helm) and YAML 1.2 read differently or
    that lose their last zero: 1.10, 0444, 12:30, 2026-11-22, on, yes.
    """
    for path in sorted([*root.rglob("*.yaml"), *root.rglob("*.yml")]):
        name = str(path.relative_to(root))
        try:
            for node in yaml.compose_all(path.read_text(), Loader=Loader):
                yield from _traps(node, name)
            list(yaml.load_all(path.read_text(), Loader=Loader))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            yield Finding("sources", name, "", "yaml", str(error).replace("\n", " "), "write each key once, as YAML")


def _traps(node: yaml.Node | None, name: str) -> Iterator[Finding]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _traps(key, name)
            yield from _traps(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _traps(value, name)
    elif (
        isinstance(node, yaml.ScalarNode)
        and not node.style
        and (TRAP.fullmatch(node.value) or node.value.lower() in WORDS)
    ):
        yield Finding(
            "sources",
            name,
            f"line {node.start_mark.line + 1}",
            "yaml-scalar",
            f"{node.value} is read as something else by another reader of YAML, or loses a digit",
            f'quote it: "{node.value}", or write true, false or a plain decimal number',
        )


def _read(path: Path) -> Document:
    try:
        content = yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} cannot be read: {error}", "correct it; each key once") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} is no kustomization", "see: https://kubectl.docs.kubernetes.io/references/kustomize/"
        )
    return content


def _overlay(root: Path, folder: Path, content: Document) -> Overlay:
    name, instead_of = str(folder.relative_to(root.resolve())), _instead(content)
    world = str((content.get("metadata") or {}).get("name") or folder.name) if instead_of else ""
    return Overlay(name, folder, instead_of, world)


def _instead(content: Document) -> str:
    return str(((content.get("metadata") or {}).get("annotations") or {}).get(INSTEAD, "")).strip("/")


def _sources(root: Path) -> frozenset[str]:
    """The paths that Argo CD Applications apply, as they are written: relative to the repository."""
    found: set[str] = set()
    for path in root.rglob("*.yaml"):
        text = path.read_text(errors="replace")
        if "argoproj.io" in text:
            found |= set(re.findall(r"^\s*(?:- )?path:\s*[\"']?(manifests/[\w./-]+)", text, re.MULTILINE))
    return frozenset(found)
