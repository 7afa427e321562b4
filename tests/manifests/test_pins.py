"""A digest is written where the image is named, and no other byte changes."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from cluster import pins
from slipway.errors import ConfigError

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
FLOW = """\
# Everybody.
resources: [../base]
images:
  # What CI built last.
  - {name: slipway-serving, newName: registry.example.com/slipway/serving, newTag: 0.1.0}
  - {name: slipway-pipeline, newName: registry.example.com/slipway/pipeline, newTag: 0.1.0}
# The end.
"""
BLOCK = """\
images:
  - name: slipway-serving   # ours
    newName: registry.example.com/slipway/serving
    newTag: 0.1.0
"""
BARE = "images:\n  - name: slipway-serving\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (("staging", FLOW), ("canary", BLOCK), ("production", BARE)):
        folder = tmp_path / "manifests" / "apps" / name
        folder.mkdir(parents=True)
        (folder / "kustomization.yaml").write_text(text)
    return tmp_path / "manifests"


def read(root: Path, name: str) -> str:
    return (root / "apps" / name / "kustomization.yaml").read_text()


def test_a_digest_takes_the_tags_place(root: Path) -> None:
    assert pins.pin("staging", f"slipway-serving={DIGEST}", root) == [root / "apps/staging/kustomization.yaml"]
    expected = FLOW.replace("serving, newTag: 0.1.0", f"serving, digest: {DIGEST}")
    assert read(root, "staging") == expected
    assert (read(root, "canary"), read(root, "production")) == (BLOCK, BARE)


def test_a_digest_takes_an_older_ones_place_and_the_same_changes_nothing(root: Path) -> None:
    pins.pin("staging", f"slipway-serving={DIGEST}", root)
    pins.pin("staging", f"slipway-serving={OTHER}", root)
    assert read(root, "staging") == FLOW.replace("serving, newTag: 0.1.0", f"serving, digest: {OTHER}")
    assert pins.pin("staging", f"slipway-serving={OTHER}", root) == []


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("canary", BLOCK, BLOCK.replace("newTag: 0.1.0", f"digest: {DIGEST}")),
        ("production", BARE, f"images:\n  - name: slipway-serving\n    digest: {DIGEST}\n"),
    ],
)
def test_every_way_of_writing_an_image(root: Path, name: str, before: str, after: str) -> None:
    assert read(root, name) == before
    pins.pin(name, f"slipway-serving={DIGEST}", root)
    assert read(root, name) == after


def test_what_ci_built_goes_wherever_the_image_runs(root: Path) -> None:
    changed = pins.pin("serving", f"registry.example.org/team/serving@{DIGEST}", root)
    assert [path.parent.name for path in changed] == ["canary", "production", "staging"]
    [serving, pipeline] = yaml.safe_load(read(root, "staging"))["images"]
    assert serving == {"name": "slipway-serving", "newName": "registry.example.org/team/serving", "digest": DIGEST}
    assert pipeline["newTag"] == "0.1.0"


@pytest.mark.parametrize(
    ("where", "what", "says"),
    [
        ("staging", "slipway-serving=sha256:abc", "is no digest"),
        ("staging", "slipway-serving=0.2.0", "is no digest"),
        ("staging", "slipway-serving=sha256:" + "0" * 64, "is no digest"),
        ("staging", "slipway-serving=sha256:" + "AB" * 32, "is no digest"),
        ("stagin", f"slipway-serving={DIGEST}", "no environment 'stagin'.*canary, production, staging"),
        ("../../etc", f"slipway-serving={DIGEST}", "no environment"),
        ("staging", f"slipway-servin={DIGEST}", "runs no slipway-servin.*slipway-pipeline, slipway-serving"),
        ("servin", f"registry.example.com/serving@{DIGEST}", "no overlay runs slipway-servin"),
        ("serving", f"a b@{DIGEST}", "is no image of a registry"),
    ],
)
def test_bad_input_changes_nothing_and_names_the_choice(root: Path, where: str, what: str, says: str) -> None:
    before = [read(root, name) for name in ("staging", "canary", "production")]
    with pytest.raises(ConfigError, match="(?s)" + says) as refused:
        pins.pin(where, what, root)
    assert refused.value.remedy
    assert [read(root, name) for name in ("staging", "canary", "production")] == before


def test_the_command_writes_in_the_checkout_in_which_one_stands(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "argocd" / "root").mkdir(parents=True)
    (root / "argocd" / "root" / "kustomization.yaml").write_text("resources: []\n")
    monkeypatch.chdir(root / "apps" / "canary")
    run = CliRunner().invoke(app, ["manifests", "pin", "staging", f"slipway-serving={DIGEST}"])
    assert run.exit_code == 0, run.output
    assert f"digest: {DIGEST}" in read(root, "staging")


@pytest.mark.parametrize("command", [["pin", "staging", f"slipway-serving={DIGEST}"], ["list"]], ids=lambda c: c[0])
def test_outside_of_a_checkout_nothing_is_guessed(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifests" / "apps").mkdir(parents=True)  # another project's
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no checkout of Slipway") as refused:
        CliRunner().invoke(app, ["manifests", *command], catch_exceptions=False)
    assert "--root" in refused.value.remedy
    with pytest.raises(ConfigError, match=r"no kustomization\.yaml under"):
        CliRunner().invoke(app, ["manifests", *command, "--root", str(tmp_path)], catch_exceptions=False)
