"""What Argo CD is told: one repository, an order, projects that allow what their Applications build and no more."""

import re
import shutil
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.inferenceservice import ANNOTATION
from slipway.rollout import service
from slipway.rollout.state import STATE, WORD, Applied, Phase, State, Version

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the overlays; it is not here")

ROOT = Path(__file__).parents[2]
ARGOCD = ROOT / "manifests" / "argocd"

Document = dict[str, Any]


@cache
def build(path: str) -> tuple[Document, ...]:
    command = ["kubectl", "kustomize", str(ROOT / path)]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(one for one in yaml.safe_load_all(built) if one)


def named(path: str, kind: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in build(path) if one["kind"] == kind}


CLUSTERS = ("argocd/applications", "argocd/standard", "chameleon/argocd")  # what a root may name


def applications(cluster: str = CLUSTERS[0]) -> dict[str, Document]:
    return named(f"manifests/{cluster}", "Application")


def projects() -> dict[str, Document]:
    return named("manifests/argocd/root", "AppProject") | named("manifests/argocd/applications", "AppProject")


def wave(application: Document) -> int:
    return int(application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def test_the_repository_is_named_in_one_place() -> None:
    places = [path for path in ARGOCD.rglob("*.yaml") if "git.example.com" in path.read_text()]
    assert [path.name for path in places] == ["repository.yaml"]
    said = yaml.safe_load(places[0].read_text())["data"]
    for folder in ("root", "applications", "standard"):
        for one in named(f"manifests/argocd/{folder}", "Application").values():
            assert (one["spec"]["source"]["repoURL"], one["spec"]["source"]["targetRevision"]) == (
                *(said["url"], said["revision"]),
            )
        for one in named(f"manifests/argocd/{folder}", "AppProject").values():
            assert one["spec"]["sourceRepos"] == [said["url"]]
        assert not named(f"manifests/argocd/{folder}", "ConfigMap").get("repository"), "it is never applied"


def test_order_and_projects_are_those_of_the_readme() -> None:
    rows = re.findall(r"^\| (\d) \| `([\w-]+)` \| ([\w/-]+) \| ([\w-]+) \|$", (ARGOCD / "README.md").read_text(), re.M)
    found = {
        (str(wave(one)), name, one["spec"]["source"]["path"].removeprefix("manifests/"), one["spec"]["project"])
        for name, one in applications().items()
    }
    assert found == set(rows)
    assert [number for number, *_ in rows] == sorted(number for number, *_ in rows)
    first = min(wave(one) for one in applications().values())
    assert all(wave(one) < first for one in build("manifests/argocd/applications") if one["kind"] == "AppProject"), (
        "a project is there before who is in it"
    )


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_application_builds_what_its_project_allows(cluster: str) -> None:
    assert refused(cluster) == []


def refused(cluster: str) -> list[str]:
    """What Argo CD would not apply, in words."""
    found = []
    for name, application in applications(cluster).items():
        spec = application["spec"]
        path, project = spec["source"]["path"], projects()[spec["project"]]["spec"]
        if not (ROOT / path / "kustomization.yaml").is_file():
            found.append(f"{name}: there is no {path}/kustomization.yaml")
            continue
        try:
            built = build(path)
        except subprocess.CalledProcessError as error:
            found.append(f"{name}: {error.stderr.strip()}")
            continue
        spaces = [one["namespace"] for one in project["destinations"]]
        cluster = {(one["group"], one["kind"]) for one in project["clusterResourceWhitelist"]}
        inside = {(one["group"], one["kind"]) for one in project["namespaceResourceWhitelist"]}
        if not any(fnmatch(spec["destination"]["namespace"], space) for space in spaces):
            found.append(f"{name}: {spec['project']} may not write to {spec['destination']['namespace']}")
        for one in built:
            group, namespace = one["apiVersion"].rpartition("/")[0], one["metadata"].get("namespace")
            what = f"{name}: {group} {one['kind']} {one['metadata']['name']}"
            if namespace is None and (group, one["kind"]) not in cluster:
                found.append(f"{what}: has no namespace, or is not allowed in the cluster")
            elif namespace is not None and not any(fnmatch(namespace, space) for space in spaces):
                found.append(f"{what}: {spec['project']} may not write to {namespace}")
            elif namespace is not None and not {(group, one["kind"]), ("*", "*")} & inside:
                found.append(f"{what}: not among the kinds of {spec['project']}")
    return found


def test_what_a_rollout_writes_is_ignored_and_nothing_else() -> None:
    ignored = {name: set(pointers(application)) for name, application in applications().items()}
    for environment in ("canary", "production"):
        assert ignored[environment] == written_by_a_rollout()
    in_git = {"/spec/predictor/model/storageUri", f"/metadata/labels/{ANNOTATION}~1package-version"}
    assert ignored["staging"] == written_by_a_rollout() - in_git, "Argo CD itself brings staging's package"
    for environment in ("staging", "canary", "production"):
        options = applications()[environment]["spec"]["syncPolicy"]["syncOptions"]
        assert {"RespectIgnoreDifferences=true", "ServerSideApply=true"} <= set(options)
    assert not pointers(named("manifests/argocd/standard", "Application")["production"])


def pointers(application: Document) -> list[str]:
    return [
        pointer
        for one in application["spec"].get("ignoreDifferences", [])
        if one["kind"] == "InferenceService"
        for pointer in one["jsonPointers"]
    ]


def written_by_a_rollout() -> set[str]:
    """Of what the manifests have, or Argo CD would find new: everything that a rollout's patches set."""
    state = State(
        id="20261122-000000-000",
        phase=Phase.CANARY,
        candidate=Version(uri="s3://b/two"),
        stable=Version(uri="s3://b/one"),
        champion=None,
        policy="p",
        since=0.0,
        started=0.0,
        renewed=0.0,
        applied=Applied(uri="s3://b/two", percent=5, mirror=10),
        stable_revision="movies-00001",
    )
    described = {"metadata": {"labels": {f"{ANNOTATION}/package-version": "0123456789ab"}, "annotations": {}}}
    patch = service.describe(service.change(state, Applied(uri="s3://b/one")), described, "x-slipway-user")
    patch["metadata"]["annotations"][WORD] = "{}"
    assert {STATE, service.MIRROR, service.STICKY} <= set(patch["metadata"]["annotations"])
    return set(leaves(patch))


def leaves(document: Document, path: str = "") -> list[str]:
    found = []
    for key, value in document.items():
        here = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        found += leaves(value, here) if isinstance(value, dict) else [here]
    return found


def test_a_rollout_that_goes_back_is_not_tried_again_by_a_sync() -> None:
    """With waves or hooks a sync lasts until the Job ends, fails with it, and is tried again."""
    for environment in ("canary", "production"):
        for one in build(f"manifests/apps/{environment}"):
            noted = one["metadata"].get("annotations") or {}
            assert not {"argocd.argoproj.io/sync-wave", "argocd.argoproj.io/hook"} & set(noted), one["metadata"]["name"]


def test_production_changes_in_its_window_or_by_hand() -> None:
    [window] = projects()["slipway-apps"]["spec"]["syncWindows"]
    assert window["applications"] == ["production"]
    assert (window["kind"], window["manualSync"]) == ("allow", True)
    assert len(window["schedule"].split()) == 5
