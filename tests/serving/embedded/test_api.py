"""The API's contract with Kubernetes clients, asked in process: no server, no port."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from serving.embedded.api import application
from serving.embedded.state import State

TOKEN = "secret"
ISVC = f"/{TOKEN}/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
OBJECT: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "movies", "namespace": "default"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "x"}, "runtime": "r", "storageUri": "file:///p"}}},
}
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


@pytest.fixture
def client(state: State) -> TestClient:
    return TestClient(application(state, TOKEN, lambda: True), raise_server_exceptions=False)


def changed(**predictor: Any) -> dict[str, Any]:
    document = copy.deepcopy(OBJECT)
    document["spec"]["predictor"].update(predictor)
    return document


def limited(**limits: Any) -> dict[str, Any]:
    document = copy.deepcopy(OBJECT)
    document["spec"]["predictor"]["model"]["resources"] = {"limits": limits}
    return document


def annotated(name: str, value: str) -> dict[str, Any]:
    return OBJECT | {"metadata": {"name": "m", "annotations": {name: value}}}


def test_nothing_answers_without_the_secret_path(client: TestClient) -> None:
    for path in ("/", "/version", "/apis", ISVC.replace(TOKEN, "guess")):
        assert client.get(path).status_code == 404
    assert client.get(f"/{TOKEN}/version").status_code == 200


def test_create_get_list_delete(client: TestClient) -> None:
    created = client.post(ISVC, json=OBJECT)
    assert created.status_code == 201
    assert created.json()["metadata"]["generation"] == 1
    assert client.get(f"{ISVC}/movies").json() == created.json()
    assert client.get(ISVC).json()["items"] == [created.json()]
    assert client.get(ISVC.replace("/namespaces/default", "")).json()["items"] == [created.json()]
    assert client.get(ISVC.replace("/default/", "/other/")).json()["items"] == []
    again = client.post(ISVC, json=OBJECT)
    assert (again.status_code, again.json()["reason"]) == (409, "AlreadyExists")
    assert client.delete(f"{ISVC}/movies").status_code == 200
    gone = client.get(f"{ISVC}/movies")
    assert (gone.status_code, gone.json()["kind"], gone.json()["reason"]) == (404, "Status", "NotFound")


def test_a_stale_resource_version_is_a_conflict(client: TestClient) -> None:
    first = client.post(ISVC, json=OBJECT).json()
    assert client.put(f"{ISVC}/movies", json=changed(minReplicas=2)).status_code == 200
    answer = client.put(f"{ISVC}/movies", json=first)
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")


@pytest.mark.parametrize("kind", ["application/merge-patch+json", "application/apply-patch+yaml"])
def test_a_status_written_while_a_patch_arrives_is_no_conflict(client: TestClient, state: State, kind: str) -> None:
    client.post(ISVC, json=OBJECT)

    def slowly() -> Any:
        yield json.dumps(changed(minReplicas=2)).encode()[:20]
        found = state.get("inferenceservices", "default", "movies")
        state.put("inferenceservices", found | {"status": {"url": "x"}}, status=True)
        yield json.dumps(changed(minReplicas=2)).encode()[20:]

    answer = client.patch(f"{ISVC}/movies", content=slowly(), headers={"content-type": kind})
    assert answer.status_code == 200
    assert answer.json()["status"] == {"url": "x"}
    assert answer.json()["spec"]["predictor"]["minReplicas"] == 2


def test_another_name_than_the_urls_is_refused(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    other = OBJECT | {"metadata": {"name": "films", "namespace": "default"}}
    assert client.put(f"{ISVC}/movies", json=other).status_code == 400
    assert client.patch(f"{ISVC}/movies", content=json.dumps(other), headers=APPLY).status_code == 400
    assert client.post(ISVC.replace("/default/", "/other/"), json=OBJECT).status_code == 400


def test_merge_patch_and_generation(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    answer = client.patch(f"{ISVC}/movies", json={"spec": {"predictor": {"canaryTrafficPercent": 10}}}, headers=MERGE)
    assert answer.json()["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert answer.json()["metadata"]["generation"] == 2
    answer = client.patch(f"{ISVC}/movies", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert answer.json()["metadata"]["generation"] == 2


def test_server_side_apply_creates_changes_and_takes_back(client: TestClient) -> None:
    url = f"{ISVC}/movies?fieldManager=slipway&force=true"
    first = client.patch(url, content=yaml.safe_dump(changed(canaryTrafficPercent=10)), headers=APPLY)
    assert first.status_code == 201
    second = client.patch(url, content=json.dumps(OBJECT), headers=APPLY)
    assert "canaryTrafficPercent" not in second.json()["spec"]["predictor"]
    third = client.patch(url, content=json.dumps(OBJECT), headers=APPLY)
    assert third.json()["metadata"]["resourceVersion"] == second.json()["metadata"]["resourceVersion"]


def test_status_is_a_subresource(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    answer = client.patch(f"{ISVC}/movies/status", json={"status": {"url": "x"}, "spec": None}, headers=MERGE)
    assert answer.json()["status"] == {"url": "x"}
    assert answer.json()["spec"] == OBJECT["spec"]
    answer = client.put(f"{ISVC}/movies", json=changed(minReplicas=3) | {"status": {"url": "forged"}})
    assert answer.json()["status"] == {"url": "x"}


def test_dry_run_stores_nothing(client: TestClient, state: State) -> None:
    assert client.post(f"{ISVC}?dryRun=All", json=OBJECT).status_code == 201
    assert state.list("inferenceservices") == []
    client.post(ISVC, json=OBJECT)
    before = state.list("inferenceservices")
    assert client.patch(f"{ISVC}/movies?dryRun=All", json={"spec": {}}, headers=MERGE).status_code == 200
    assert client.patch(f"{ISVC}/movies/status?dryRun=All", json={"status": {}}, headers=MERGE).status_code == 200
    assert client.delete(f"{ISVC}/movies?dryRun=All").status_code == 200
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "dryRun": ["All"]}
    assert client.request("DELETE", f"{ISVC}/movies", json=options).status_code == 200  # as kubectl says it
    assert state.list("inferenceservices") == before


def test_a_deletion_of_what_is_another_object_by_now_is_refused(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    for stale in ({"uid": "another"}, {"resourceVersion": "1"}):
        answer = client.request("DELETE", f"{ISVC}/movies", json={"preconditions": stale})
        assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert client.request("DELETE", f"{ISVC}/movies", content=b"[").status_code == 400
    assert client.delete(f"{ISVC}/movies").status_code == 200


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        (changed(canaryTraficPercent=1), 400, 'unknown field "spec.predictor.canaryTraficPercent"'),
        (changed(explainer={}), 400, "the embedded KServe does not support it"),
        (changed(canaryTrafficPercent=101), 422, "spec.predictor.canaryTrafficPercent: Input should be less"),
        (changed(canaryTrafficPercent="10"), 422, "spec.predictor.canaryTrafficPercent: Input should be a valid int"),
        (changed(minReplicas=-1), 422, "'MinReplicas' cannot be less than 0"),  # KServe's own words
        (changed(maxReplicas=-1), 422, "'MaxReplicas' cannot be less than 0"),
        (changed(minReplicas=3, maxReplicas=2), 422, "'MinReplicas' cannot be greater than MaxReplicas"),
        (limited(memory="1 GB"), 422, "'1 GB' is not a quantity; write e.g. 500m, 2, 512Mi or 1Gi"),
        (limited(cpu=0), 422, "limits.cpu must be more than 0"),
        (annotated("slipway.dev/mirror-percent", "101"), 422, 'write a whole number from "0" to "100"'),
        (annotated("slipway.dev/sticky-header", "x: y"), 422, "write a header's name in lower case"),
        (annotated("serving.kserve.io/deploymentMode", "Standard"), 422, "deploymentMode Standard is not supported"),
        (OBJECT | {"spec": {}}, 422, "spec.predictor: Field required"),
        (OBJECT | {"apiVersion": "serving.kserve.io/v1"}, 422, "apiVersion"),
        (OBJECT | {"metadata": {"name": "../../etc"}}, 422, "metadata.name"),
        (OBJECT | {"metadata": {"name": "A"}}, 422, "metadata.name"),
        (OBJECT | {"metadata": []}, 400, "metadata must be an object"),
    ],
)
def test_a_bad_object_is_refused_by_field(client: TestClient, document: Any, code: int, message: str) -> None:
    answer = client.post(ISVC, json=document)
    assert (answer.status_code, answer.json()["kind"]) == (code, "Status")
    assert message in answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"\xff", {"content-type": "application/json"}, 400),
        (b"a: [", {"content-type": "application/yaml"}, 400),
        (b"!!python/object/apply:os.system [id]", {"content-type": "application/yaml"}, 400),
        (b"x" * (2 << 20), {"content-type": "application/json"}, 413),
    ],
)
def test_a_bad_body_is_refused(client: TestClient, content: bytes, headers: dict[str, str], code: int) -> None:
    answer = client.post(ISVC, content=content, headers=headers)
    assert (answer.status_code, answer.json()["kind"]) == (code, "Status")


def test_an_unknown_patch_type_and_selector_are_refused(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    strategic = {"content-type": "application/strategic-merge-patch+json"}
    assert client.patch(f"{ISVC}/movies", content=b"{}", headers=strategic).status_code == 415
    assert client.get(f"{ISVC}?fieldSelector=spec.x=1").status_code == 400
    assert client.get(f"{ISVC}?labelSelector=a in (b)").status_code == 400
    assert len(client.get(f"{ISVC}?fieldSelector=metadata.name=movies").json()["items"]) == 1
    assert client.get(f"{ISVC}?labelSelector=a=b").json()["items"] == []


def test_a_watch_tells_what_is_there(client: TestClient) -> None:
    client.post(ISVC, json=OBJECT)
    answer = client.get(f"{ISVC}?watch=1&timeoutSeconds=0.2")
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "movies")]
    version = events[0]["object"]["metadata"]["resourceVersion"]
    assert client.get(f"{ISVC}?watch=true&timeoutSeconds=0.2&resourceVersion={version}").text == ""


def test_every_open_api_schema_is_closed(client: TestClient) -> None:
    index = client.get(f"/{TOKEN}/openapi/v3").json()["paths"]
    for path in index.values():
        schemas = client.get(path["serverRelativeURL"]).json()["components"]["schemas"]
        assert all(s["additionalProperties"] is False for name, s in schemas.items() if name != "Metadata")


def test_the_python_client_library_works(serving: Any, eventually: Callable[..., None]) -> None:
    from kubernetes import client, config

    from serving.embedded import stack

    api = client.CustomObjectsApi(config.new_client_from_config(str(stack.kubeconfig(serving.settings))))
    where = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")
    runtime, service = serving.documents("one")
    api.create_namespaced_custom_object("serving.kserve.io", "v1alpha1", "default", "servingruntimes", runtime)
    api.create_namespaced_custom_object(*where, service)
    eventually(lambda: serving.condition().get("status") == "True")
    assert [o["metadata"]["name"] for o in api.list_namespaced_custom_object(*where)["items"]] == ["movies"]
    stale = api.get_namespaced_custom_object(*where, "movies")
    stale["metadata"]["resourceVersion"] = "1"
    with pytest.raises(client.ApiException) as error:
        api.replace_namespaced_custom_object(*where, "movies", stale)
    assert error.value.status == 409
    api.delete_namespaced_custom_object(*where, "movies")
    with pytest.raises(client.ApiException) as error:
        api.get_namespaced_custom_object(*where, "movies")
    assert error.value.status == 404
