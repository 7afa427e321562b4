"""Definitions: pinned by hash, fetched once, refused when they are other ones."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from cluster import crds
from cluster.crds import Definitions
from slipway.errors import SourceError


def small() -> tuple[str, crds.File]:
    """The smallest pinned file: enough to try what is true of each."""
    return "kubeflow-pipelines", next(
        f for f in crds.pins().sources["kubeflow-pipelines"].files if "scheduled" in f.path
    )


def test_every_pinned_file_is_the_one_that_is_here(crds: Path) -> None:
    from cluster.crds import pins

    for name, source in pins().sources.items():
        for file in source.files:
            assert hashlib.sha256((crds / name / file.name).read_bytes()).hexdigest() == file.sha256, file.path


def test_each_kind_is_pinned_once_and_is_in_its_file(definitions: Definitions) -> None:
    kinds = [kind for source in crds.pins().sources.values() for file in source.files for kind in file.kinds]
    assert len(kinds) == len(set(kinds))
    for kind in kinds:
        group, _, name = kind.partition("/")
        assert definitions.versions(group, name), kind


def test_what_is_read_twice_comes_from_its_json(crds: Path, tmp_path: Path) -> None:
    first = Definitions(crds, tmp_path).get("kubeflow.org", "ScheduledWorkflow", "v1beta1")
    assert list(tmp_path.glob("*.json"))
    assert Definitions(crds, tmp_path).get("kubeflow.org", "ScheduledWorkflow", "v1beta1") == first


def test_another_file_than_the_pinned_one_is_refused(crds: Path, tmp_path: Path) -> None:
    source, file = small()
    (tmp_path / source).mkdir()
    shutil.copy(crds / source / file.name, tmp_path / source / file.name)
    (tmp_path / source / file.name).chmod(0o644)
    with (tmp_path / source / file.name).open("a") as more:
        more.write("\n# one line more\n")
    with pytest.raises(SourceError, match="is not the file that is pinned"):
        Definitions(tmp_path).get("kubeflow.org", "ScheduledWorkflow", "v1beta1")


def test_a_missing_file_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="fetch-crds"):
        Definitions(tmp_path).get("ray.io", "RayJob", "v1")


def test_fetch_brings_each_file_once(crds: Path, tmp_path: Path) -> None:
    from cluster.crds import RAW, fetch, pins

    urls = []

    def get(url: str) -> bytes:
        """The repository's file, from the folder that has it: no internet in a test."""
        urls.append(url)
        repository, commit = url.removeprefix(f"{RAW}/").split("/")[:2], url.split("/")[5]
        name = next(n for n, s in pins().sources.items() if s.repository == "/".join(repository) and s.commit == commit)
        return (crds / name / url.rpartition("/")[2]).read_bytes()

    told: list[str] = []
    count = fetch(tmp_path, told.append, get)
    assert count == len(told) == len(urls) == sum(len(s.files) for s in pins().sources.values())
    assert fetch(tmp_path, told.append, get) == 0
    assert Definitions(tmp_path).get("ray.io", "RayJob", "v1") is not None


def test_fetch_keeps_nothing_that_is_not_pinned(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not the file that is pinned"):
        crds.fetch(tmp_path, lambda _: None, lambda _: b"kind: Other\n")
    assert not list(tmp_path.rglob("*.yaml"))


def test_fetch_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crds, "RAW", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(SourceError, match="cannot be had"):
        crds.fetch(tmp_path, lambda _: None)


def test_terraform_brings_up_the_kubernetes_that_is_meant_here() -> None:
    variables = Path(__file__).parents[2] / "terraform" / "aws" / "cluster" / "variables.tf"
    declared = re.search(
        r'variable "kubernetes_version" \{.*?default\s*=\s*"([\d.]+)"', variables.read_text(), re.DOTALL
    )
    assert declared is not None
    assert declared[1] == crds.pins().kubernetes
