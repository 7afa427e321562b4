"""What each step's pod is given, read from the compiled pipelines as Kubeflow reads them."""

import pytest
import yaml

from components.image import PIPELINE, TRAINING
from pipelines import ir
from pipelines.placement import CREDENTIALS, GPU, NEEDS, REQUIRED, SETTINGS, USER

VERDICTS = {"validate", "stage", "canary"}


def documents(pipeline):
    return list(yaml.load_all(ir.path(pipeline).read_text(), yaml.CSafeLoader))


def executors(pipeline):
    """{step: (container, what only Kubernetes knows)}"""
    spec, platform = documents(pipeline)
    known = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = {label: e["container"] for label, e in spec["deploymentSpec"]["executors"].items()}
    assert containers.keys() == known.keys(), "no step is left without its settings"
    return {label.removeprefix("exec-"): (container, known[label]) for label, container in containers.items()}


STEPS = [(pipeline, step) for pipeline in ir.PIPELINES for step in executors(pipeline)]


def tasks(pipeline):
    spec = documents(pipeline)[0]
    found = {}
    for dag in [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]:
        found |= dag["tasks"]
    return found


@pytest.mark.parametrize(("pipeline", "step"), STEPS)
def test_every_step_has_its_image_resources_settings_and_room(pipeline, step):
    container, platform = executors(pipeline)[step]
    assert container["image"] == (TRAINING if step in {"train", "evaluate", "optimise"} else PIPELINE)
    resources = container["resources"]
    assert {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources)
    required, optional = platform["configMapAsEnv"]
    assert {required["configMapName"], optional["configMapName"]} == {SETTINGS}
    assert not required["optional"], "a pod without its store must not start"
    assert {k["envVar"] for k in required["keyToEnv"]} == set(REQUIRED)
    assert optional["optional"]
    assert [s["secretName"] for s in platform["secretAsEnv"]] == [CREDENTIALS]
    assert {m["mountPath"] for m in platform["emptyDirMounts"]} == {"/tmp", "/home/slipway"}
    assert all(m["sizeLimit"] for m in platform["emptyDirMounts"])
    assert platform["securityContext"] == {"runAsUser": str(USER), "runAsGroup": str(USER), "runAsNonRoot": True}
    assert platform["podMetadata"]["labels"]["app.kubernetes.io/name"] == step
    assert int(platform["activeDeadlineSeconds"]) == 60 * NEEDS[step].minutes
    assert platform["fieldPathAsEnv"][0]["name"] == "SLIPWAY_PIPELINE_RUN"


@pytest.mark.parametrize(("pipeline", "step"), STEPS)
def test_a_verdict_is_asked_for_once_and_the_rest_is_tried_again_later(pipeline, step):
    policy = tasks(pipeline)[step].get("retryPolicy")
    if step in VERDICTS:
        assert policy is None
    else:
        assert policy["maxRetryCount"] >= 1
        assert policy["backoffDuration"] == "30s"
        assert policy["backoffFactor"] > 1


def test_nothing_secret_is_compiled_in():
    names = {e["name"] for pipeline in ir.PIPELINES for c, _ in executors(pipeline).values() for e in c.get("env", [])}
    assert names == {"SLIPWAY_TRAINING_IMAGE"}


def test_a_gpu_is_the_pipelines_parameter():
    container, platform = executors("training")["train"]
    accelerator = container["resources"]["accelerator"]
    assert accelerator["resourceType"] == GPU
    assert accelerator["resourceCount"] == "{{$.inputs.parameters['pipelinechannel--train_gpus']}}"
    assert platform["nodeSelector"]["nodeSelectorJson"] == {"componentInputParameter": "train_node_selector"}
    assert platform["tolerations"] == [{"tolerationJson": {"componentInputParameter": "train_tolerations"}}]
    parameters = documents("training")[0]["root"]["inputDefinitions"]["parameters"]
    defaults = {name: parameters[f"train_{name}"]["defaultValue"] for name in ("gpus", "node_selector", "tolerations")}
    assert defaults == {"gpus": "0", "node_selector": {}, "tolerations": []}, "none unless asked for"


def test_this_machine_tries_once_and_takes_the_images_that_it_has():
    text = ir.tried_once(ir.with_images(ir.path("training").read_text(), {PIPELINE: "abc", TRAINING: "def"}))
    assert "retryPolicy" not in text
    spec = next(yaml.load_all(text, yaml.CSafeLoader))
    images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert images == {"abc", "def"}
    train = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert train["env"] == [{"name": "SLIPWAY_TRAINING_IMAGE", "value": "def"}], "Ray's pods run the same image"
