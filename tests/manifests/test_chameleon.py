"""The manifests on Chameleon: what has to differ from AWS does, by what Terraform makes there; none of AWS is left."""

import re
import shutil
from functools import cache
from typing import Any

import pytest

from cluster import overlays
from cluster.objects import Object

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the overlays; it is not here")

TERRAFORM = overlays.ROOT.parent / "terraform" / "chameleon"
HOST = "chi.tacc.chameleoncloud.org:7480"


@cache
def built() -> tuple[Object, ...]:
    """Everything that a cluster there runs: its own overlays, and the others where it has none."""
    found = overlays.find()
    here = [one for one in found if one.world == "chameleon"]
    assert {one.name.partition("/")[0] for one in here} == {"chameleon"}
    rest = [one for one in found if not one.instead_of and one.name not in {mine.instead_of for mine in here}]
    return tuple(thing for one in overlays.build_all([*here, *rest]) for thing in one.objects)


def one(kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    [found] = [o for o in built() if (o.kind, o.name) == (kind, name) and namespace in (None, o.namespace)]
    return found.document


def default(stack: str, variable: str) -> str:
    text = (TERRAFORM / stack / "variables.tf").read_text()
    found = re.search(rf'variable "{variable}" {{.*?default\s+= (.*?)\n(?=  validation|}})', text, re.DOTALL)
    assert found, variable
    return found[1]


def test_nothing_of_aws_is_left() -> None:
    strange = re.compile(r"amazonaws\.com|arn:aws|ebs\.csi|SecretsManager|cluster-autoscaler")
    assert not [str(o) for o in built() if strange.search(str(o.document.get("spec")) + str(o.document.get("data")))]
    assert not [str(o) for o in built() if "eks.amazonaws.com/role-arn" in o.annotations]


def test_every_reader_of_the_store_is_told_where_it_is() -> None:
    settings = [o for o in built() if o.kind == "ConfigMap" and o.name == "slipway-settings"]
    assert len(settings) == 6
    for thing in settings:
        data = thing.document["data"]
        assert data["SLIPWAY_S3_ENDPOINT_URL"] == data["AWS_ENDPOINT_URL_S3"] == f"https://{HOST}", thing.namespace
    for kind, name, key in (
        ("ConfigMap", "kfp-launcher", "providers"),
        ("ConfigMap", "artifact-repositories", "slipway"),
        ("ConfigMap", "inferenceservice-config", "credentials"),
    ):
        text = one(kind, name)["data"][key]
        assert HOST in text
        assert "AWS_SECRET_ACCESS_KEY" in text, "keys, for want of an identity"


def test_the_store_of_secrets_may_be_read_for_every_entry_that_is_asked_for() -> None:
    asked = set()
    for thing in (o for o in built() if o.kind == "ExternalSecret"):
        entries = [*thing.spec.get("data", []), *thing.spec.get("dataFrom", [])]
        asked |= {(entry.get("remoteRef") or entry["extract"])["key"] for entry in entries}
    [rule] = one("Role", "external-secrets", "slipway-secrets")["rules"]
    assert set(rule["resourceNames"]) == asked
    assert rule["verbs"] == ["get"]


def test_the_databases_disk_is_the_volume_that_terraform_attaches_to_the_door() -> None:
    volume = one("PersistentVolume", "slipway-postgres")["spec"]
    size = re.search(r"postgres = (\d+)", default("storage", "volumes"))
    assert size
    assert volume["capacity"]["storage"] == f"{size[1]}Gi"
    claim = one("StatefulSet", "postgres")["spec"]["volumeClaimTemplates"][0]["spec"]
    assert claim["resources"]["requests"]["storage"] == volume["capacity"]["storage"]
    nodes = re.findall(r'(\w+) = { pool = "cpu"', default("cluster", "nodes"))
    [term] = volume["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"]
    assert term == {"key": "kubernetes.io/hostname", "operator": "In", "values": [sorted(nodes)[0]]}
    assert set(volume) & {"csi", "local"} == {"local"}


def test_gpu_workers_go_where_terraform_labels_and_taints() -> None:
    output = (TERRAFORM / "cluster" / "outputs.tf").read_text()
    gpu = one("RayCluster", "slipway")["spec"]["workerGroupSpecs"][1]
    assert gpu["groupName"] == "gpu"
    assert gpu["maxReplicas"] == 1
    spec = gpu["template"]["spec"]
    assert '"slipway.dev/pool" = node.pool' in output
    assert spec["nodeSelector"] == {"slipway.dev/pool": "gpu"}
    [toleration] = spec["tolerations"]
    assert f'"{toleration["key"]}={toleration["value"]}:{toleration["effect"]}"' in output
    operator = one("Application", "gpu-operator")["spec"]["source"]["helm"]["valuesObject"]
    assert (operator["driver"]["enabled"], operator["toolkit"]["enabled"]) == (False, True)


def test_no_node_has_a_zone_so_nobody_insists_on_one() -> None:
    for thing in built():
        text = str(thing.document)
        if "topology.kubernetes.io/zone" in text:
            assert thing.kind == "KafkaNodePool", str(thing)
            spread = thing.spec["template"]["pod"]["topologySpreadConstraints"]
            assert spread[0]["whenUnsatisfiable"] == "ScheduleAnyway"


def test_the_door_takes_what_comes_to_its_own_address() -> None:
    service = one("Application", "istio-gateway")["spec"]["source"]["helm"]["valuesObject"]["service"]
    assert service["type"] == "ClusterIP"
    assert service["externalIPs"]
    opened = re.search(r"for port in \[(.*?)\]", (TERRAFORM / "cluster" / "main.tf").read_text())
    assert opened
    assert {"80", "443"} == set(opened[1].split(", ")), "the ports of Istio's gateway"
