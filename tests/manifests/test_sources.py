"""A file that nobody names and a patch of nothing are told, though kustomize builds without a word."""

from pathlib import Path

import pytest

from cluster import sources

BASE = """\
resources: [service.yaml, more.yaml]
configMapGenerator: [{name: settings, files: [a.yaml=settings.yaml]}]
patches:
  - {path: change.yaml, target: {kind: Service, name: web}}
"""
COMPONENT = """\
kind: Component
patches:
  - {target: {kind: Service, name: w.b}, patch: "[{op: add, path: /x, value: 1}]"}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "manifests"
    for folder, kustomization in (
        ("base", BASE),
        ("component", COMPONENT),
        ("top", "resources: [../base]\ncomponents: [../component]\n"),
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / "kustomization.yaml").write_text(kustomization)
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    (root / "base" / "service.yaml").write_text(service)
    (root / "base" / "more.yaml").write_text(f"{service}---\n{service.replace('web', 'other')}")
    (root / "base" / "change.yaml").write_text("- {op: add, path: /y, value: 1}\n")
    (root / "base" / "settings.yaml").write_text("a: 1\n")
    return root


def test_what_is_named_and_selects_something_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(sources.check(root)) == []
    monkeypatch.chdir(root.parent)
    assert list(sources.check(Path("manifests"))) == []


def test_a_file_that_nobody_names(root: Path) -> None:
    (root / "base" / "network.yaml").write_text("kind: NetworkPolicy\n")
    [found] = sources.check(root)
    assert (found.check, found.object) == ("unused-file", "base/network.yaml")
    assert "base/kustomization.yaml" in found.remedy


@pytest.mark.parametrize(
    ("folder", "before", "after", "says"),
    [
        ("base", "name: web", "name: wed", "there is no Service wed to be patched; there are: other, web"),
        ("base", "kind: Service,", "kind: Servce,", "there is no Servce web to be patched; there are: none"),
        ("component", "w.b", "wob", "there is no Service wob"),
    ],
)
def test_a_patch_that_selects_nothing(root: Path, folder: str, before: str, after: str, says: str) -> None:
    path = root / folder / "kustomization.yaml"
    path.write_text(path.read_text().replace(before, after))
    [found] = sources.check(root)
    assert (found.check, found.object) == ("patch-target", f"{folder}/kustomization.yaml")
    assert says in found.message
    assert found.remedy


def test_what_is_deleted_or_generated_can_be_selected(root: Path) -> None:
    (root / "top" / "kustomization.yaml").write_text(
        "resources: [../base]\ncomponents: [../component]\npatches:\n"
        '  - {target: {kind: ConfigMap, name: settings}, patch: "[{op: add, path: /x, value: 1}]"}\n'
        "  - target: {kind: Service, name: other}\n    patch: |-\n"
        "      $patch: delete\n      kind: Service\n      metadata: {name: other}\n"
    )
    assert list(sources.check(root)) == []
