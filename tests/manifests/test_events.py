"""manifests/events is what the code takes: its policy, its commands, its address, and the digests that CI writes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from cli import trigger
from cli.main import app
from cluster import pins
from slipway.settings import Settings

ROOT = Path(__file__).resolve().parents[2] / "manifests"
DIGEST = "sha256:" + "ab" * 32


def built(folder):
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here to build manifests with")
    text = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    found = {}
    for document in yaml.safe_load_all(text):
        kind, name = document["kind"], document["metadata"]["name"]
        found[kind, name.rpartition("-")[0] if kind == "ConfigMap" else name] = document  # theirs end in a hash
    return found


@pytest.fixture(scope="module")
def events():
    return built(ROOT / "events")


def test_the_policy_is_one_that_the_service_takes():
    policy = trigger.read_policy(ROOT / "events" / "policy.yaml")
    assert policy.deploy is False, "on the cluster a merged promotion deploys"


def test_every_command_exists_with_its_options(events):
    deployment = events["Deployment", "slipway-trigger"]["spec"]["template"]["spec"]["containers"]
    jobs = [d["spec"]["jobTemplate"]["spec"]["template"] for (kind, _), d in events.items() if kind == "CronJob"]
    assert len(jobs) == 2
    for container in (*deployment, *(c for job in jobs for c in job["spec"]["containers"])):
        words = [*container["command"], *container.get("args", [])][1:]
        known = get_command(app)
        for word in words[:2]:
            known = known.commands[word]
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words[:2], "--help"]).output
        assert all(word in shown for word in words if word.startswith("--"))


def test_every_variable_is_a_setting(events):
    [container] = events["Deployment", "slipway-trigger"]["spec"]["template"]["spec"]["containers"]
    names = {*(e["name"] for e in container["env"]), *events["ConfigMap", "slipway-images"]["data"]}
    assert {name.removeprefix("SLIPWAY_").lower() for name in names} <= set(Settings.model_fields)


def test_alertmanager_posts_where_the_service_listens(events):
    port = events["Service", "slipway-trigger"]["spec"]["ports"][0]["port"]
    url = f"http://slipway-trigger.slipway-training:{port}/alerts"
    files = [p.read_text() for p in (ROOT / "observability").rglob("*") if p.suffix in {".yaml", ".yml"}]
    assert any(url in text or url.replace(".slipway-training:", ".slipway-training.svc:") in text for text in files)


def test_a_digest_that_ci_writes_reaches_the_runs_that_are_submitted(tmp_path):
    for part in ("events", "site"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for name in ("pipeline", "training", "serving"):
        pins.pin(f"slipway-{name}", f"registry.example.com/slipway/{name}@{DIGEST}", tmp_path)
    changed = built(tmp_path / "events")
    images = changed["ConfigMap", "slipway-images"]["data"]
    assert images["SLIPWAY_TRAINING_IMAGE"] == f"registry.example.com/slipway/training@{DIGEST}"
    [container] = changed["Deployment", "slipway-trigger"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == images["SLIPWAY_IMAGE"] == f"registry.example.com/slipway/pipeline@{DIGEST}"
