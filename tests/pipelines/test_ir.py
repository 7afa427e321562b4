"""What is checked in is what the source compiles to, and the gate and cache settings are in it."""

import subprocess
import sys

import yaml

from pipelines import ir


def pipeline_spec():
    return next(yaml.safe_load_all(ir.COMPILED.read_text()))


def test_the_checked_in_ir_is_current():
    assert ir.is_current(), "run `slipway compile` and commit pipelines/compiled/training.yaml"


def test_the_ir_does_not_depend_on_the_process():
    code = "from pipelines import ir; import sys; sys.stdout.write(ir.compile_ir())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout == ir.compile_ir()


def test_register_and_deploy_stand_behind_the_gate():
    spec = pipeline_spec()
    assert set(spec["root"]["dag"]["tasks"]) == {"ingest", "train", "evaluate", "condition-1"}
    gate = spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"]
    assert "evaluate-Output" in gate
    assert gate.endswith("== true")
    assert "register" in spec["components"]["comp-condition-1"]["dag"]["tasks"]


def test_nothing_is_installed_at_container_start():
    for executor in pipeline_spec()["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_deploy_is_never_cached_and_the_rest_is():
    spec = pipeline_spec()
    tasks = {}
    for dag in [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]:
        tasks |= dag["tasks"]
    cached = {
        name: task["cachingOptions"].get("enableCache", False)
        for name, task in tasks.items()
        if "condition" not in name
    }
    assert cached == {"ingest": True, "train": True, "evaluate": True, "register": True, "deploy": False}
