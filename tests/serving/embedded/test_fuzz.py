"""Requests that nobody thought of, at the embedded API and at the ingress: no 5xx, no traceback, no lost answer."""

import contextlib
import copy
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from serving.embedded import discovery
from serving.embedded.api import application
from serving.embedded.state import State

TOKEN = "secret"
BASE = f"/{TOKEN}/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
OBJECT: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "movies", "namespace": "default"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "x"}, "runtime": "r", "storageUri": "file:///p"}}},
}
TYPES = {
    "PUT": ["application/json", "application/yaml"],
    "POST": ["application/json", "application/yaml", "text/plain"],
    "PATCH": [
        *("application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"),
        *("application/strategic-merge-patch+json", ""),
    ],
}
# Few enough for seconds, and the same each time: a build does not fail by chance.
BOUNDED = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
PLACES = [
    *([], ["metadata"], ["metadata", "name"], ["metadata", "annotations"], ["metadata", "labels"], ["spec"]),
    *(["metadata", "resourceVersion"], ["metadata", "managedFields"], ["spec", "predictor"], ["status"]),
    *(["spec", "predictor", "canaryTrafficPercent"], ["spec", "predictor", "minReplicas"], ["apiVersion"]),
    *(
        ["spec", "predictor", "model"],
        ["spec", "predictor", "model", "storageUri"],
        ["kind"],
        ["metadata", "namespace"],
    ),
]


def changed(place: list[str], value: Any) -> Any:
    if not place:
        return value
    document = copy.deepcopy(OBJECT)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return document


OBJECTS = st.builds(changed, st.sampled_from(PLACES), JSON)
PATCHES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]) | LEAVES,
            "path": st.sampled_from(["", "/", "/spec", "/spec/predictor/minReplicas", "/metadata/name", "/a/-1", "x"])
            | LEAVES,
            "from": st.sampled_from(["/spec", "/nothing", ""]) | LEAVES,
            "value": JSON,
        },
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("state")
    with TestClient(application(State(folder), TOKEN, lambda: True), raise_server_exceptions=False) as one:
        yield one


def settle(reply: Any) -> None:
    assert reply.status_code < 500, (reply.status_code, reply.text[:500])
    if reply.status_code >= 400 and reply.content and reply.status_code != 405:
        said = reply.json()
        assert said["kind"] == "Status"
        assert said["message"]
        assert "Traceback" not in said["message"]


def operations(version: str) -> Any:
    document = discovery.openapi(version)
    assert document is not None
    answers = {"default": {"description": "a Status"}}
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            operation["responses"] = answers
            if verb in ("post", "put", "patch"):
                kind = operation["x-kubernetes-group-version-kind"]["kind"]
                content = {"schema": {"$ref": f"#/components/schemas/{kind}"}}
                operation["requestBody"] = {"content": {"application/json": content}}
        verbs["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z0-9-]{1,9}$"}}
            for name in ("namespace", "name")
            if f"{{{name}}}" in path
        ]
    return schemathesis.openapi.from_dict(document).get_all_operations()


CASES = st.one_of(
    operation.ok().as_strategy(mode)
    for version in ("v1beta1", "v1alpha1")
    for operation in operations(version)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
)


@settings(BOUNDED, max_examples=40)
@given(case=CASES)
def test_what_the_served_openapi_describes_and_what_it_forbids(client: TestClient, case: Any) -> None:
    method, kinds = case.method.upper(), TYPES.get(case.method.upper(), [""])
    body = json.dumps(case.body).encode() if isinstance(case.body, dict | list | str | int | float) else b""
    query = {key: str(value) for key, value in (case.query or {}).items() if key not in ("watch", "dryRun")}
    headers = {"content-type": kinds[0]}
    settle(client.request(method, f"/{TOKEN}{case.formatted_path}", content=body, params=query, headers=headers))


@BOUNDED
@given(
    method=st.sampled_from(["POST", "PUT", "PATCH"]),
    kind=st.integers(0, 4),
    body=OBJECTS.map(json.dumps) | PATCHES.map(json.dumps) | st.text(max_size=60),
    there=st.booleans(),
    suffix=st.sampled_from(["", "/movies", "/movies/status", "/other"]),
)
@example("POST", 1, "&a [*a]", False, "")
@example("POST", 1, "? [a]\n: b", False, "")
@example("PATCH", 1, '[{"op": "test", "path": "/spec"}]', True, "/movies")
def test_any_object_and_any_patch(
    client: TestClient, method: str, kind: int, body: str, there: bool, suffix: str
) -> None:
    if there:
        client.post(BASE, json=OBJECT)
    kinds = TYPES[method]
    headers = {"content-type": kinds[kind % len(kinds)]}
    settle(client.request(method, BASE + suffix, content=body.encode("utf-8", "replace"), headers=headers))
    settle(client.get(BASE))
    if client.get(f"{BASE}/movies").status_code == 200:
        settle(client.get(f"{BASE}/movies", headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}))
        assert client.delete(f"{BASE}/movies").status_code == 200


@BOUNDED
@given(
    method=st.sampled_from(["GET", "DELETE", "OPTIONS", "HEAD", "POST"]),
    path=st.sampled_from([BASE, f"{BASE}/movies", f"/{TOKEN}/apis", f"/{TOKEN}/openapi/v3", f"/{TOKEN}/readyz", "/"])
    | st.text("az/%2e.~:\\\0é", max_size=30).map(lambda text: f"/{TOKEN}/{text}"),
    query=st.dictionaries(
        st.sampled_from(
            ["watch", "resourceVersion", "timeoutSeconds", "fieldSelector", "labelSelector", "dryRun", "limit", "x"]
        ),
        st.sampled_from(["1", "true", "-1", "0.01", "abc", "a=b", "metadata.name=x", "=", "!=", "é", "1e999", "nan"])
        | st.text(max_size=8),
        max_size=4,
    ),
    accept=st.sampled_from(["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "", "é", "text/html"]),
)
@example("GET", BASE, {"watch": "1", "resourceVersion": "abc"}, "application/json")
@example("GET", BASE, {"watch": "1", "timeoutSeconds": "abc"}, "application/json")
@example("GET", BASE, {"watch": "1", "timeoutSeconds": "nan"}, "application/json")
def test_any_path_and_query(client: TestClient, method: str, path: str, query: dict[str, str], accept: str) -> None:
    if query.get("watch", "").lower() in ("1", "true") and query.get("timeoutSeconds") not in ("abc", "nan"):
        query = query | {"timeoutSeconds": "0.01"}  # a watch lasts as long as it is asked to
    headers = {"accept": accept.encode("latin-1")}
    settle(client.request(method, path.replace("\0", "%00"), params=query, headers=headers))


def raw(port: int, sent: bytes) -> tuple[int, bytes]:
    """(status, body) of the first answer to these very bytes; fails where the connection ends without one.

    Status 0: none yet, to a request that announces what it does not send.
    """
    announced = any(word in sent.lower() for word in (b"\r\ncontent-length: 9", b"chunked"))
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2 if announced else 10) as sock:
        with contextlib.suppress(ConnectionError):  # what is too large is answered before all of it is read
            sock.sendall(sent)  # and no half-close: Envoy takes it for a client that went away
        try:
            while not whole(got) and (chunk := sock.recv(65_536)):
                got += chunk
        except TimeoutError:
            if announced and not got:
                return 0, b""
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1."), (sent[:300], got[:300])
    return int(head.split(b" ", 2)[1]), body


def whole(got: bytes) -> bool:
    """An answer with all that it announced; a connection that stays open is not waited for."""
    head, end, body = got.partition(b"\r\n\r\n")
    length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
    return bool(end) and length is not None and len(body) >= int(length)


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)


@settings(BOUNDED, max_examples=100)
@given(
    host=st.sampled_from([b"movies.default.localhost", b"nobody.localhost", b"", b"movies.default.localhost:99999"])
    | WORDS,
    method=st.sampled_from([b"POST", b"GET", b"CONNECT", b"G E T", b"TRACE", b"post"]),
    path=st.sampled_from([b"/v2/models/movies/infer", b"*", b"http://x/", b"//", b"/%00", b"/a b"]) | WORDS,
    headers=st.lists(
        st.sampled_from(
            [
                *(b"content-length: -1", b"content-length: 9", b"transfer-encoding: chunked", b"expect: 100-continue"),
                *(b"connection: upgrade", b"upgrade: websocket", b"te: trailers", b": x", b"x", b"a\0b: c"),
                *(b"x-envoy-max-retries: 9", b"x-slipway-user: 1", b"authorization: Bearer x", b"host: again"),
            ]
        )
        | st.tuples(WORDS, WORDS).map(b": ".join),
        max_size=4,
    ),
    body=st.binary(max_size=60),
)
@example(b"movies.default.localhost", b"POST", b"/v2/models/movies/infer", [b"x: " + b"y" * 70_000], b"")
@example(b"movies.default.localhost", b"POST", b"/v2/models/movies/infer", [b"content-length: 1048577"], b"x" * 1048577)
def test_any_bytes_at_the_ingress(
    ingress: int, host: bytes, method: bytes, path: bytes, headers: list[bytes], body: bytes
) -> None:
    lines = [method + b" " + path + b" HTTP/1.1", b"host: " + host, b"connection: close", *headers]
    sent = b"\r\n".join(lines) + b"\r\n\r\n" + body
    status, said = raw(ingress, sent)
    assert status < 500 or (status == 503 and b"error" in said), (status, said[:300], sent[:300])
    assert b"Traceback" not in said


@pytest.fixture(scope="module")
def ingress(_shared: Any) -> int:
    """Envoy with a service behind it that answers whatever comes."""
    _shared.deploy("one")
    port: int = _shared.settings.http_port
    return port


@pytest.mark.usefixtures("ingress")
def test_the_ingress_answers_after_all_of_that(request: pytest.FixtureRequest) -> None:
    shared = request.getfixturevalue("_shared")
    assert shared.ask()[0] == 200
    log = (shared.settings.home / "serving" / "logs" / "envoy.log").read_text()
    assert "assert failure" not in log
    assert "Caught" not in log
