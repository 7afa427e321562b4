"""The RayJob that is asked for: taken by the real CRD, on its pool, restricted, ended whatever happens."""

import pytest

from components.train import rayjob

NAME = "slipway-train-2b6f1a9e5d0c4c399d1e0a4b7c1f2d3e"


@pytest.mark.parametrize("gpu", [False, True])
def test_the_crd_takes_what_is_rendered_and_nothing_else(gpu, wanted, refused):
    document = rayjob.render(wanted(gpu=gpu))
    assert refused(document) == []
    document["spec"]["ttlSeconds"] = 1
    assert any("ttlSeconds" in found for found in refused(document)), "the check must be one"


def test_a_job_ends_whatever_happens_and_its_name_fits(wanted):
    document = rayjob.render(wanted())
    assert document["metadata"]["name"] == NAME
    assert len(NAME) <= 47, "KubeRay refuses a longer one"
    spec = document["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"], spec["backoffLimit"]) == (43200, 1800, 0)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no task runs on the head"


@pytest.mark.parametrize("gpu", [False, True])
def test_one_worker_to_a_pod_on_its_pool(gpu, wanted):
    cluster = rayjob.render(wanted(gpu=gpu))["spec"]["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (2, 2, 2)
    assert group["rayStartParams"] == {"num-cpus": "1"} | ({"num-gpus": "1"} if gpu else {})
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if gpu else None)
    assert pod["nodeSelector"] == {"slipway.dev/pool": "gpu" if gpu else "cpu"}
    assert ("tolerations" in pod) == gpu
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in container["env"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]


def test_every_pod_is_restricted_and_reads_its_settings_by_reference(wanted):
    spec = rayjob.render(wanted(gpu=True))["spec"]
    cluster = spec["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]]
    for template in [*templates, spec["submitterPodTemplate"]]:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert container["image"] == wanted().image
    for template in templates:
        [container] = template["spec"]["containers"]
        settings_from, credentials = container["envFrom"]
        assert settings_from == {"configMapRef": {"name": "slipway-settings"}}
        assert credentials["secretRef"]["optional"], "a workload identity needs no keys"
        [shm] = [v for v in template["spec"]["volumes"] if v["name"] == "shm"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "4915Mi"}
