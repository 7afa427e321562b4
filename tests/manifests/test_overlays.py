"""What is applied, what it builds, and what is wrong with the files themselves. kubectl kustomize is the real one."""

import shutil
from pathlib import Path

import pytest

from cluster import overlays
from slipway.errors import ConfigError

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {A: b}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """apps/base in staging and production; apps/standard stands in for production; a component; a transformer."""
    folder = tmp_path / "manifests"
    files = {
        "apps/base/kustomization.yaml": "resources: [map.yaml]\n",
        "apps/base/map.yaml": MAP,
        "apps/more/kustomization.yaml": "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\n"
        "commonAnnotations: {a: b}\n",
        "apps/staging/kustomization.yaml": "namespace: staging\nresources: [../base]\ncomponents: [../more]\n",
        "apps/production/kustomization.yaml": "namespace: production\nresources: [../base]\n",
        "apps/standard/kustomization.yaml": "metadata:\n  annotations: {slipway.dev/instead-of: apps/production}\n"
        "resources: [../production]\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def names(found: list[overlays.Overlay]) -> list[str]:
    return [overlay.name for overlay in found]


def test_what_nobody_takes_in_is_applied(root: Path) -> None:
    found = overlays.find(root)
    assert names(found) == ["apps/production", "apps/staging", "apps/standard"]
    assert (found[2].instead_of, found[2].world) == ("apps/production", "standard")


def test_what_an_application_names_is_applied_too(root: Path) -> None:
    application = (
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source:\n    path: manifests/apps/base\n"
    )
    (root / "application.yaml").write_text(application)
    assert "apps/base" in names(overlays.find(root))


def test_an_overlay_is_chosen_by_folder_and_a_part_of_one_too(root: Path) -> None:
    chosen = overlays.choose(["manifests/apps/staging/", "apps/base"], root)
    assert [(o.name, o.applied) for o in chosen] == [("apps/staging", True), ("apps/base", False)]
    assert names(overlays.choose(["staging"], root)) == ["apps/staging"]
    with pytest.raises(ConfigError, match="there is no overlay 'apps/prod'") as refused:
        overlays.choose(["apps/prod"], root)
    assert "apps/production" in refused.value.remedy


def test_a_folder_without_kustomizations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no kustomization\.yaml"):
        overlays.find(tmp_path)


def test_built_objects_know_their_overlay_and_namespace(root: Path) -> None:
    [production, staging, standard] = overlays.build_all(overlays.find(root))
    assert [str(o) for o in (*production.objects, *staging.objects)] == [
        "ConfigMap production/settings",
        "ConfigMap staging/settings",
    ]
    assert standard.objects[0].overlay == "apps/standard"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resources: [absent.yaml]\n", "absent.yaml"),
        ("resources: [map.yaml]\nresourcs: []\n", "resourcs"),
        ("resources: [https://example.invalid/x.yaml]\n", "example.invalid"),
    ],
)
def test_what_cannot_be_built_is_a_finding(root: Path, text: str, says: str) -> None:
    (root / "apps/base/kustomization.yaml").write_text(text)
    [overlay] = overlays.choose(["apps/staging"], root)
    [finding] = overlays.build(overlay).findings
    assert (finding.check, finding.overlay) == ("build", "apps/staging")
    assert says in finding.message
    assert "kubectl kustomize" in finding.remedy


def test_a_doubled_key_is_a_finding_in_any_file(root: Path) -> None:
    (root / "apps/staging/patch.yaml").write_text("- op: replace\n  path: /a\n  path: /b\n  value: 1\n")
    [finding] = overlays.read_sources(root)
    assert (finding.object, finding.check) == ("apps/staging/patch.yaml", "yaml")
    assert "'path' is there twice" in finding.message


@pytest.mark.parametrize(
    "scalar", ["yes", "On", "1.10", "0444", "12:30", "2026-11-22", "1e3", "1_000", "n", "2026-11-22T03:00:00Z"]
)
def test_a_scalar_that_readers_of_yaml_disagree_about_is_a_finding(root: Path, scalar: str) -> None:
    (root / "apps/staging/patch.yaml").write_text(f"data:\n  key: {scalar}\n")
    [finding] = overlays.read_sources(root)
    assert (finding.check, finding.path) == ("yaml-scalar", "line 2")
    (root / "apps/staging/patch.yaml").write_text(f'data:\n  key: "{scalar}"\n')
    assert list(overlays.read_sources(root)) == []


@pytest.mark.parametrize("scalar", ["true", "1", "0.5", "100Mi", "v1.10", "1.2.3", "0 3 * * *", "10.0.0.0/8", "0"])
def test_a_scalar_that_all_read_alike_is_none(root: Path, scalar: str) -> None:
    (root / "apps/staging/patch.yaml").write_text(f"data:\n  key: {scalar}\n")
    assert list(overlays.read_sources(root)) == []
