"""A small cluster in which every rule holds (sound/), and what breaks it: JSON pointers into its objects."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.crds import Definitions
from cluster.estate import Estate
from cluster.objects import Document, Object

HERE = Path(__file__).parent
POOLS = {"cpu": 3, "gpu": 1, "tpu": 0}
FOLDERS = ("apps/production", "argocd", "infrastructure", "platform")


def definitions_folder() -> Path | None:
    """Where tests find the CRDs: $SLIPWAY_TEST_CRDS; else where fetch-crds puts them, or ../shared/crds beside the
    checkout.
    """
    named = os.environ.get("SLIPWAY_TEST_CRDS")
    usual = [HERE.parents[1] / ".slipway" / "cache" / "crds", HERE.parents[2] / "shared" / "crds"]
    for folder in [Path(named)] if named else usual:
        if any(folder.glob("*/*.yaml")):
            return folder
    return None


@pytest.fixture(scope="session")
def crds() -> Path:
    folder = definitions_folder()
    if folder is None:
        pytest.skip("the CRDs are not here: slipway manifests fetch-crds")
    return folder


@pytest.fixture(scope="session")
def definitions(crds: Path, tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return Definitions(crds, tmp_path_factory.mktemp("parsed"))


@pytest.fixture(scope="session")
def _documents() -> list[tuple[str, Document]]:
    return [
        (path.stem.replace(".", "/"), document)
        for path in sorted((HERE / "sound").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


@pytest.fixture
def sound(_documents: list[tuple[str, Document]]) -> list[Object]:
    return [Object(overlay, copy.deepcopy(document)) for overlay, document in _documents]


def make_repository(root: Path) -> Path:
    """What the sound cluster names by path."""
    for folder in FOLDERS:
        (root / "manifests" / folder).mkdir(parents=True)
        (root / "manifests" / folder / "kustomization.yaml").write_text("resources: []\n")
    environments = root / "terraform" / "aws" / "cluster" / "environments"
    environments.mkdir(parents=True)
    pools = "".join(f'  {kind} = {{ kind = "{kind}", max_size = {size} }}\n' for kind, size in POOLS.items())
    (environments / "production.tfvars").write_text(f"pools = {{\n{pools}}}\n")
    storage = root / "terraform" / "aws" / "storage"
    storage.mkdir(parents=True)
    (storage / "main.tf").write_text('module "storage" {\n  secrets = ["slipway"]\n}\n')
    (root / "docs" / "runbooks").mkdir(parents=True)
    (root / "docs" / "runbooks" / "rollback.md").write_text("# Rollback\n")
    return root


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def estate(repository: Path):
    def whole(things: list[Object]) -> Estate:
        return Estate(tuple(things), tuple(things), repository, FOLDERS)

    return whole


def plant(things: list[Object], mistake: Mapping[str, Any]) -> list[Object]:
    """The objects with a mistake: set (pointer → value), remove (pointers), add (a document), drop (the object)."""
    [thing] = [t for t in things if str(t) == mistake["object"]] or [None]
    for pointer, value in mistake.get("set", {}).items():
        parent, key = _parent(thing.document, pointer)
        if isinstance(parent, list) and key == "-":
            parent.append(value)
        elif isinstance(parent, list):
            parent[int(key)] = value
        else:
            parent[key] = value
    for pointer in mistake.get("remove", []):
        parent, key = _parent(thing.document, pointer)
        del parent[int(key) if isinstance(parent, list) else key]
    fresh = [Object(t.overlay, t.document) for t in things if not (mistake.get("drop") and t is thing)]
    return [*fresh, Object("platform", mistake["add"])] if "add" in mistake else fresh


def _parent(document: Any, pointer: str) -> tuple[Any, str]:
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document.setdefault(part, {})
    return document, last


@pytest.fixture(scope="session")
def planter():
    return plant
