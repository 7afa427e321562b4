"""The bootstrap: what it refuses, and the order of what it tells a cluster. There is no cluster here: `kubectl` is a
contract fake that keeps what it is told; `kubectl kustomize` is the real one.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cluster import bootstrap
from slipway.errors import ConfigError, NotReadyError, ServingError, SourceError

REPOSITORY = Path(__file__).resolve().parents[2]
INSTALL = b"kind: Deployment\n"
KUBECTL = """#!/bin/sh
[ "$1" = kustomize ] && exec "{real}" "$@"
echo "$*" >> "{folder}/told"
case "$1" in
  apply) case "$*" in *"--filename -"*) cat >> "{folder}/sent" ;; esac ;;
  get) cat "{folder}/applications" ;;
  rollout) if [ -f "{folder}/slow" ]; then echo "error: timed out waiting for the condition" >&2; exit 1; fi ;;
esac
"""


def application(name, wave, sync="Synced", health="Healthy", **status):
    metadata = {"name": name, "annotations": {"argocd.argoproj.io/sync-wave": str(wave)}}
    return {"metadata": metadata, "status": {"sync": {"status": sync}, "health": {"status": health}} | status}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    real = shutil.which("kubectl")
    if real is None:
        pytest.skip("there is no kubectl here to build manifests with")
    (tmp_path / "kubectl").write_text(KUBECTL.format(real=real, folder=tmp_path))
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "install.yaml").write_bytes(INSTALL)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(bootstrap, "SHA256", hashlib.sha256(INSTALL).hexdigest())
    monkeypatch.setattr(bootstrap, "POLL", 0.01)
    return tmp_path


@pytest.fixture
def checkout(tmp_path):
    """The repository's own manifests, with a repository that is somebody's."""
    for folder in ("argocd", "apps"):
        shutil.copytree(REPOSITORY / "manifests" / folder, tmp_path / "clone" / "manifests" / folder)
    path = tmp_path / "clone" / "manifests" / "argocd" / "repository" / "repository.yaml"
    path.write_text(path.read_text().replace("git.example.com", "git.example.org"))
    return tmp_path / "clone"


def test_argo_cd_comes_first_then_the_root_and_everything_is_followed(cluster, checkout):
    for environment in ("staging", "canary"):
        path = checkout / "manifests" / "apps" / environment / "package.yaml"
        path.write_text(path.read_text().replace("0" * 12, "a" * 12))
    items = [application("slipway", 0, health="Degraded"), application("platform", 2), application("argocd", 0)]
    # Nothing was promoted to production: its service has no package, and makes the root as unhealthy as itself.
    items += [
        application("staging", 4),
        application("canary", 4),
        application("production", 4, "OutOfSync", "Degraded"),
    ]
    (cluster / "applications").write_text(json.dumps({"items": items}))
    words = ["bootstrap", "--root", str(checkout), "--install", str(cluster / "install.yaml")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = (cluster / "told").read_text().splitlines()
    verbs = [line.split()[0] for line in told]
    assert verbs[:3] == ["version", "apply", "apply"]
    assert all("--server-side" in line for line in told if line.startswith("apply"))
    assert told[2 + len(bootstrap.CONTROLLERS)].startswith("rollout status")
    assert "manifests/argocd/root" in told[3 + len(bootstrap.CONTROLLERS)]
    assert json.loads((cluster / "sent").read_text())["kind"] == "Namespace"
    assert [a.name for a in bootstrap.applications()][:3] == ["argocd", "slipway", "platform"]
    assert "no package yet in production" in done.output
    with pytest.raises(NotReadyError, match="production: OutOfSync"):
        bootstrap.wait(lambda _: None, 0.05)


def test_a_repository_that_is_nobodys_is_refused_before_a_cluster_is_asked(cluster):
    refused = CliRunner().invoke(app, ["bootstrap", "--root", str(REPOSITORY)])
    assert isinstance(refused.exception, ConfigError)
    assert "repository.yaml" in refused.exception.remedy
    assert not (cluster / "told").exists()


def test_a_folder_that_is_no_checkout_is_told_by_its_name(cluster, tmp_path):
    refused = CliRunner().invoke(app, ["bootstrap", "--root", str(tmp_path)]).exception
    assert isinstance(refused, ConfigError)
    assert (f"{tmp_path} holds no manifests/argocd/root" in refused.message, "--root" in refused.remedy) == (True, True)


def test_another_file_than_the_pinned_one_is_refused(cluster, checkout):
    with pytest.raises(SourceError, match=r"not Argo CD v3\.4\.7"):
        bootstrap.bring(None, lambda _: INSTALL + b" ")
    assert bootstrap.bring(None, lambda _: INSTALL) == INSTALL
    (cluster / "install.yaml").write_bytes(b"other")
    words = ["bootstrap", "--root", str(checkout), "--install", str(cluster / "install.yaml")]
    assert isinstance(CliRunner().invoke(app, words).exception, SourceError)
    assert not (cluster / "told").exists()


def test_what_does_not_become_healthy_is_named_with_its_own_words(cluster):
    broken = {"conditions": [{"message": "path manifests/streams does not exist"}]}
    items = [application("slipway", 0), application("streams", 3, "Unknown", "Missing", **broken)]
    (cluster / "applications").write_text(json.dumps({"items": items}))
    with pytest.raises(NotReadyError, match="streams: Unknown, Missing path manifests/streams does not exist"):
        bootstrap.wait(lambda _: None, 0.05)


def test_argo_cd_that_does_not_start_ends_it_before_the_root(cluster, checkout):
    (cluster / "slow").touch()
    with pytest.raises(ServingError, match="timed out"):
        bootstrap.install(INSTALL, checkout, lambda _: None, 60)
    assert "argocd/root" not in (cluster / "told").read_text()


def test_the_version_is_that_of_the_definitions_that_the_manifests_are_held_against():
    from cluster import crds

    source = crds.pins().sources["argo-cd"]
    assert (source.tag, source.commit) == (bootstrap.VERSION, bootstrap.COMMIT)
