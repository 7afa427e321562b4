import copy
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from slipway.errors import ManifestError
from slipway.inferenceservice import check_storage_uri, render
from slipway.package import Manifest, Signature, Snapshot

CRDS = Path(os.environ.get("SLIPWAY_TEST_CRDS", Path(__file__).parents[3] / "shared" / "crds")) / "kserve"

MANIFEST = Manifest(
    workload="movies",
    version="0123456789ab",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    git_commit="a" * 40,
    pipeline_run="run-7",
    data=Snapshot(uri="file:///data", sha256="b" * 64, events=10),
    signature=Signature(inputs=(), outputs=()),
    metrics={},
    files={},
)
USUAL: dict[str, Any] = {
    "name": "movies",
    "namespace": "default",
    "storage_uri": "s3://models/movies/0123456789ab",
    "image": "slipway:1",
}


def closed(schema: Any) -> Any:
    """A CRD's schema that takes no field which it does not name."""
    if isinstance(schema, dict):
        schema = {name: closed(value) for name, value in schema.items()}
        if schema.get("x-kubernetes-int-or-string"):
            return {"type": ["integer", "string"]}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


@pytest.fixture(scope="module")
def crds() -> dict[str, Any]:
    if not CRDS.is_dir():
        pytest.skip(f"KServe's CRDs are not in {CRDS}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for plural in ("inferenceservices", "servingruntimes"):
        crd = yaml.load((CRDS / f"serving.kserve.io_{plural}.yaml").read_text(), loader)
        for version in crd["spec"]["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return found


def check(crds: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(crds[document["apiVersion"], document["kind"]]).validate(document)


def test_documents_are_what_kserves_crds_say(crds: dict[str, Any]) -> None:
    for arguments in (USUAL, USUAL | {"canary_traffic_percent": 10}, USUAL | {"deployment_mode": "Standard"}):
        for document in render(MANIFEST, **arguments):
            check(crds, document)


def test_the_check_refuses_a_field_that_kserve_does_not_know(crds: dict[str, Any]) -> None:
    service = copy.deepcopy(render(MANIFEST, **USUAL)[1])
    service["spec"]["predictor"]["canaryTrafficPercen"] = 10
    with pytest.raises(jsonschema.ValidationError, match="canaryTrafficPercen"):
        check(crds, service)


def test_an_answer_leads_back_to_its_run() -> None:
    metadata = render(MANIFEST, **USUAL)[1]["metadata"]
    assert metadata["labels"]["slipway.dev/package-version"] == "0123456789ab"
    assert metadata["labels"]["slipway.dev/workload"] == "movies"
    assert metadata["annotations"]["slipway.dev/pipeline-run"] == "run-7"
    assert metadata["annotations"]["slipway.dev/git-commit"] == "a" * 40
    assert metadata["annotations"]["slipway.dev/data-sha256"] == "b" * 64


def test_the_runtime_is_named_and_never_selected_by_itself() -> None:
    runtime, service = render(MANIFEST, **USUAL)
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    assert [one["autoSelect"] for one in runtime["spec"]["supportedModelFormats"]] == [False]
    container = runtime["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/{{.Name}}/ready"
    assert {"name": "OMP_NUM_THREADS", "value": container["resources"]["limits"]["cpu"]} in container["env"]


def test_no_canary_is_no_field() -> None:
    assert "canaryTrafficPercent" not in render(MANIFEST, **USUAL)[1]["spec"]["predictor"]
    dark = render(MANIFEST, **USUAL, canary_traffic_percent=0)[1]
    assert dark["spec"]["predictor"]["canaryTrafficPercent"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canary_traffic_percent": 10, "deployment_mode": "Standard"}, "silently ignores"),
        ({"canary_traffic_percent": 101}, r"not in 0\.\.100"),
        ({"canary_traffic_percent": -1}, r"not in 0\.\.100"),
        ({"storage_uri": "models:/movies@challenger"}, "storageUri"),
        ({"storage_uri": "mlflow-artifacts:/1"}, "storageUri"),
        ({"name": "Movies"}, "DNS label"),
        ({"namespace": "a/b"}, "DNS label"),
        ({"min_replicas": -1}, "min_replicas"),
    ],
)
def test_what_kserve_would_misunderstand_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        render(MANIFEST, **(USUAL | change))


@pytest.mark.parametrize(
    "uri",
    [
        *("file:///x/../../etc", "file:///x/%2e%2e/y", "file:///x/%252e%252e/y", "file:///x/.%2E", "file:///./x"),
        *(
            "file:///",
            "file:////x",
            "file:///x//y",
            "file:///x?y=1",
            "file:///x#y",
            "file:///x\\..\\y",
            "file:///x%5c..%5cy",
        ),
        *("file:///x%00", "file:///x\n", "file:///a b", "file://host/x", "file:///" + "x" * 1100),
        *("s3://bucket", "s3://bucket/", "s3://bucket/../other/key", "s3://bucket/a//b", "s3://user:pass@bucket/x"),
        *("s3://Bucket/x", "s3://b%75cket/x", "s3://bucket/x?versionId=1", "s3:///x", "http://bucket/x", "../x", ""),
    ],
)
def test_a_storage_uri_names_one_place(uri: str) -> None:
    with pytest.raises(ManifestError, match="storageUri"):
        check_storage_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["file:///x", "file:///x/a%20b/", "s3://models/movies/0123456789ab", "file:///x/..y/z...", "s3://a.b-c/d+e=f"],
)
def test_usual_storage_uris_are_taken(uri: str) -> None:
    check_storage_uri(uri)
