"""What is checked in is what the source compiles to, and the gate and cache settings are in it."""

import subprocess
import sys

import pytest
import yaml

from pipelines import ir


def pipeline_spec(pipeline="training"):
    return next(yaml.safe_load_all(ir.path(pipeline).read_text()))


@pytest.mark.parametrize("pipeline", ir.PIPELINES)
def test_the_checked_in_ir_is_current(pipeline):
    assert ir.is_current(pipeline), f"run `slipway compile` and commit pipelines/compiled/{pipeline}.yaml"


def test_the_ir_does_not_depend_on_the_process():
    code = "from pipelines import ir; import sys; sys.stdout.write(ir.compile_ir('etl'))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout == ir.compile_ir("etl")


def test_everything_that_others_see_stands_behind_the_gate():
    spec = pipeline_spec()
    assert set(spec["root"]["dag"]["tasks"]) == {"ingest", "train", "evaluate", "condition-1"}
    gate = spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"]
    assert "evaluate-Output" in gate
    assert gate.endswith("== true")
    behind = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert {"optimise", "register"} < set(behind)


def test_traffic_comes_after_staging_at_once_or_judged():
    dags = {name: c["dag"]["tasks"] for name, c in pipeline_spec()["components"].items() if "dag" in c}
    (staged,) = [tasks for tasks in dags.values() if "stage" in tasks]
    (choice,) = [task for name, task in staged.items() if name != "stage"]
    assert choice["dependentTasks"] == ["stage"]
    branches = dags[choice["componentRef"]["name"]].values()
    conditions = {
        step: branch["triggerPolicy"]["condition"]
        for branch in branches
        for step in dags[branch["componentRef"]["name"]]
    }
    at_once = "inputs.parameter_values['pipelinechannel--policy'] == ''"
    assert conditions == {"deploy": at_once, "canary": f"!({at_once})"}


@pytest.mark.parametrize("pipeline", ir.PIPELINES)
def test_nothing_is_installed_at_container_start(pipeline):
    for executor in pipeline_spec(pipeline)["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def cached(spec):
    """{task: whether an earlier result may be taken}"""
    tasks = {}
    for dag in [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]:
        tasks |= dag["tasks"]
    return {
        name: task["cachingOptions"].get("enableCache", False)
        for name, task in tasks.items()
        if "condition" not in name
    }


def test_deploy_is_never_cached_and_the_rest_is():
    found = cached(pipeline_spec())
    kept = dict.fromkeys(("ingest", "train", "evaluate", "optimise", "register"), True)
    assert found == kept | dict.fromkeys(("stage", "deploy", "canary"), False)


def test_what_looks_at_the_lake_is_never_cached_and_comes_in_order():
    spec = pipeline_spec("etl")
    assert cached(spec) == {"load": False, "validate": False, "features": False, "ingest": True}
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["validate"]["dependentTasks"] == ["load"]
    assert tasks["features"]["dependentTasks"] == ["validate"]
    assert set(tasks["ingest"]["dependentTasks"]) == {"load", "validate"}
