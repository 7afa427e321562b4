"""The repository's own manifests: nothing is found, and the mistakes that people make are, before any cluster."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cluster import overlays, validation
from cluster.crds import Definitions

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")


@pytest.fixture(scope="module")
def checked(definitions: Definitions) -> validation.Report:
    return validation.check([], definitions)


def test_nothing_is_found(checked: validation.Report) -> None:
    shown = "\n".join(f"{f.check} {f.overlay}: {f.object} {f.path}: {f.message}" for f in checked.findings)
    assert not checked.findings, shown


def test_every_object_has_a_schema_and_every_rule_ran(checked: validation.Report) -> None:
    assert checked.unvalidated == 0
    assert checked.rules.unevaluated == {}
    assert len(checked.objects) > 200
    assert len(checked.kinds) > 25


def test_each_environment_is_there_and_is_looked_at(checked: validation.Report) -> None:
    names = {overlay.name for overlay in checked.overlays}
    assert {"apps/staging", "apps/canary", "apps/production", "apps/standard"} <= names


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    root = tmp_path / "manifests"
    shutil.copytree(overlays.ROOT, root)
    (tmp_path / "docs").symlink_to(overlays.ROOT.parent / "docs")  # the runbooks that alerts name
    return root


def change(name: str, pattern: str, new: str) -> Callable[[Path], None]:
    def planted(root: Path) -> None:
        text, count = re.subn(pattern, new, (root / name).read_text(), count=1)
        assert count == 1, f"{name} has no {pattern}"
        (root / name).write_text(text)

    return planted


# The ways in which a person breaks an environment: each refused here, with the remedy, where a cluster would take it.
PLANTED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "production lowered to no replicas": (
        change("apps/production/size.yaml", r"minReplicas: \d+", "minReplicas: 0"),
        *("production-replicas", "0 replicas in production"),
    ),
    "a quota that is too small": (
        change("apps/production/size.yaml", r'requests.cpu: "\d+"', 'requests.cpu: "4"'),
        *("quota", "and 4 may be"),
    ),
    "an unknown environment": (
        change("apps/production/kustomization.yaml", "environment: production", "environment: live"),
        *("environment", "there is no environment 'live'"),
    ),
    "a missing secret": (
        change("apps/base/kustomization.yaml", r"  - credentials.yaml\n", ""),
        *("ref-secret", "there is no Secret slipway-credentials"),
    ),
    "production stopped by an annotation": (
        change(
            "apps/production/size.yaml",
            r"name: movies\nspec:",
            "name: movies\n  annotations: {serving.kserve.io/stop: 'true'}\nspec:",
        ),
        *("production-replicas", "nobody would be answered"),
    ),
    "an unknown environment in the site": (
        change("site/site.yaml", "environment: production", "environment: live"),
        *("site", "there is no environment 'live'"),
    ),
    "a wrong digest": (
        change(
            "apps/production/kustomization.yaml", r"slipway/serving, \w+: [^}]+", "slipway/serving, digest: sha256:12"
        ),
        *("image-version", "is no digest"),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_in_production_is_refused(name, copied, definitions) -> None:
    plant, check, says = PLANTED[name]
    plant(copied)
    found = validation.check(["apps/production"], definitions, copied).findings
    assert [f for f in found if f.check == check and says in f.message and f.remedy], found


@pytest.mark.slow
def test_what_is_not_built_is_told_without_all_that_follows_from_it(copied: Path, definitions) -> None:
    change("streams/kafka/topics.yaml", "name: production.feedback", "name: production.events")(copied)
    report = validation.check(["apps/production"], definitions, copied)
    assert {(f.check, f.overlay) for f in report.findings} == {("build", "streams")}
    assert report.lints == 0


@pytest.mark.slow
def test_the_command_shows_all_and_exits_with_1_on_a_finding(copied: Path, crds: Path, tmp_path, monkeypatch) -> None:
    from slipway.settings import settings

    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    change("apps/production/size.yaml", r"minReplicas: \d+", "minReplicas: 0")(copied)
    command = ["manifests", "check", "apps/production", "apps/staging", "--crds", str(crds), "--root", str(copied)]
    run = CliRunner().invoke(app, command)
    settings.cache_clear()
    assert run.exit_code == 1, run.output
    assert "production-replicas apps/production: InferenceService slipway-production/movies" in run.output
    assert "0 replicas in production: nobody would be answered" in run.output
    assert re.search(r"apps/staging +\d+", run.output)
    assert "0 without a schema" in run.output


def test_list_names_what_stands_in_for_what() -> None:
    run = CliRunner().invoke(app, ["manifests", "list"])
    assert run.exit_code == 0
    assert re.search(r"apps/standard +apps/production", run.output)


def test_rules_lists_each() -> None:
    from cluster import lints

    run = CliRunner().invoke(app, ["manifests", "rules"], env={"COLUMNS": "200"})
    assert run.exit_code == 0
    assert all(name in run.output for name in lints.ALL)


def test_without_definitions_it_says_how_to_get_them(tmp_path: Path) -> None:
    from slipway.errors import ConfigError

    with pytest.raises(ConfigError, match="no definitions") as refused:
        validation.folder_of_definitions(None, tmp_path)
    assert "fetch-crds" in refused.value.remedy
