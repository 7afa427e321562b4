"""The real kubectl against the embedded KServe."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.embedded import stack


def manifest(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(documents)


@pytest.mark.parametrize("side", ["--server-side=false", "--server-side=true"])
def test_apply_get_patch_delete(serving: Any, eventually: Callable[..., None], side: str) -> None:
    said = serving.kubectl("apply", side, "-f", "-", stdin=manifest(serving.documents("one")))
    assert "inferenceservice.serving.kserve.io/movies" in said
    serving.kubectl("wait", "isvc/movies", "--for=condition=Ready", "--timeout=30s")
    header, row = serving.kubectl("get", "isvc").strip().splitlines()
    columns = ["NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION", "AGE"]
    assert header.split() == columns
    assert row.split()[:3] == ["movies", f"http://movies.default.localhost:{serving.settings.http_port}", "True"]
    uri = serving.package("two")
    patch = {"spec": {"predictor": {"canaryTrafficPercent": 30, "model": {"storageUri": uri}}}}
    serving.kubectl("patch", "isvc", "movies", "--type", "merge", "-p", json.dumps(patch))
    eventually(lambda: serving.kubectl("get", "isvc").splitlines()[1].split()[3:5] == ["70", "30"])
    remove = [{"op": "remove", "path": "/spec/predictor/canaryTrafficPercent"}]
    serving.kubectl("patch", "isvc", "movies", "--type", "json", "-p", json.dumps(remove))
    eventually(lambda: {serving.ask()[1]["answer"] for _ in range(10)} == {"two"})
    assert "movies-00002" in serving.kubectl("describe", "isvc", "movies")
    serving.kubectl("apply", side, "--force-conflicts" if "true" in side else "--overwrite", "-f", "-",
                    stdin=manifest(serving.documents("one")))  # fmt: skip
    eventually(lambda: serving.ask()[1]["answer"] == "one")
    serving.kubectl("delete", "isvc/movies", "servingruntime/standin")
    assert "No resources found" in serving.kubectl("get", "isvc,servingruntimes")


def test_what_is_refused_names_the_field(serving: Any) -> None:
    documents = serving.documents("one", canaryTraficPercent=1)
    said = serving.kubectl("apply", "-f", "-", stdin=manifest(documents), check=False)
    assert 'unknown field "spec.predictor.canaryTraficPercent"' in said
    said = serving.kubectl("apply", "-f", "-", stdin=manifest(serving.documents("one", logger={})), check=False)
    assert "the embedded KServe does not support it" in said
    assert "No resources found" in serving.kubectl("get", "isvc")


def test_a_stale_object_does_not_replace_a_newer_one(serving: Any) -> None:
    serving.kubectl("apply", "-f", "-", stdin=manifest(serving.documents("one")))
    stale = serving.kubectl("get", "isvc", "movies", "-o", "json")
    serving.kubectl("patch", "isvc", "movies", "--type", "merge", "-p", '{"spec":{"predictor":{"timeout":9}}}')
    said = serving.kubectl("replace", "-f", "-", stdin=stale, check=False)
    assert "please apply your changes to the latest version and try again" in said
    assert serving.kubectl("get", "isvc", "movies", "-o", "jsonpath={.spec.predictor.timeout}") == "9"


def test_diff_explain_and_watch(serving: Any, eventually: Callable[..., None], tmp_path: Path) -> None:
    text = manifest(serving.documents("one"))
    serving.kubectl("apply", "-f", "-", stdin=text)
    explained = serving.kubectl("explain", "isvc.spec.predictor")
    assert "canaryTrafficPercent\t<integer>" in explained
    assert "model\t<ModelSpec> -required-" in explained
    changed = text.replace(serving.package("one"), serving.package("two"))
    assert serving.package("two") in serving.kubectl("diff", "-f", "-", stdin=changed, check=False)
    seen = tmp_path / "watched"
    with seen.open("w") as output:
        command = ["kubectl", "--kubeconfig", str(stack.kubeconfig(serving.settings)), "get", "isvc", "-w"]
        watch = subprocess.Popen(command, stdout=output)
    try:
        eventually(lambda: "movies-00001" in seen.read_text())  # it watches
        serving.kubectl("apply", "-f", "-", stdin=changed)
        eventually(lambda: "movies-00002" in seen.read_text())
    finally:
        watch.kill()
        watch.wait()
