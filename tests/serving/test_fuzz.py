"""Requests that nobody thought of, at every route of the model server: no 5xx, no traceback, no dropped connection."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

GOOD = json.dumps(
    {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1]}]}, separators=(",", ":")
).encode()
LENGTH = "inference-header-content-length"
NO_HTTP = b"Invalid HTTP request received."  # uvicorn's own, before there is a request
ROUTES = (
    *(
        "/",
        "/v2",
        "/v1/models",
        "/v2/models",
        "/v2/models/movies",
        "/v2/models/movies/ready",
        "/v2/models/movies/infer",
    ),
    *("/v1/models/movies", "/v1/models/movies:predict", "/v1/feedback", "/metrics", "/v2/health/ready"),
    *("/v2/health/live", "/v2/repository/index", "/v2/models/movies/versions/1/infer", "/v2/models//infer"),
)
# Few enough for seconds, and the same each time: a build does not fail by chance.
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)

schema = schemathesis.openapi.from_dict(yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text()))
CASES = st.one_of(
    operation.ok().as_strategy(mode)
    for operation in schema.get_all_operations()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
NUMBERS = st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=5)
JSON = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@pytest.fixture(scope="module")
def fuzzed(start_server: Any, movies_package: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that captures, so that feedback is open; its stream is not there, and it keeps everything on disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CAPTURE", "true")
        patch.setenv("SLIPWAY_EVENTS_URL", "redis://127.0.0.1:9/0")
        patch.setenv("SLIPWAY_HOME", str(tmp_path_factory.mktemp("fuzzed")))
        server = start_server(movies_package.package)
    yield server
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]
    assert "could not be answered" not in log, log[-3000:]
    assert server.process.poll() is None


def settle(server: Any, connection: Any, reply: Any) -> None:
    """The answer is one that was meant, and the connection answers the next request too, unless it said its end."""
    if reply.body == NO_HTTP:
        assert reply.status == 400
    elif reply.status >= 400:
        assert reply.status < 500, (reply.status, reply.body)
        said = json.loads(reply.body)["error"] if reply.body else ""  # HEAD has none
        assert "Traceback" not in said
    if reply.headers.get("connection") != "close":
        assert server.ask(GOOD, connection=connection).status == 200


@BOUNDED
@given(case=CASES)
def test_what_the_protocol_describes_and_what_it_forbids(fuzzed: Any, case: Any) -> None:
    content = b"" if not isinstance(case.body, dict | list | str | int | float) else json.dumps(case.body).encode()
    headers = {name: str(value) for name, value in (case.headers or {}).items() if str(value).isprintable()}
    headers = {n: v for n, v in headers.items() if v.isascii() and n.lower() not in ("content-length", "host")}
    path = case.formatted_path.replace("\n", "%0A")
    if not path.isascii() or " " in path or not path.isprintable():
        return
    connection = fuzzed.connect()
    reply = fuzzed.ask(content, path=path, method=case.method.upper(), headers=headers, connection=connection)
    settle(fuzzed, connection, reply)
    connection.close()


@BOUNDED
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO"]),
    path=st.sampled_from(ROUTES) | st.text("abz/:.%2e0v\\?#=&~-_", max_size=40).map("/".__add__),
    headers=st.dictionaries(
        st.sampled_from(
            ["content-type", LENGTH, "x-request-id", "accept", "content-encoding", "x-slipway-user", "traceparent"]
        ),
        TEXT,
        max_size=4,
    ),
    content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_method_path_header_and_body(
    fuzzed: Any, method: str, path: str, headers: dict[str, str], content: bytes
) -> None:
    connection = fuzzed.connect()
    reply = fuzzed.ask(content, path=path, method=method, headers=headers or {"accept": "*/*"}, connection=connection)
    settle(fuzzed, connection, reply)
    connection.close()


@BOUNDED
@given(
    entry=st.fixed_dictionaries(
        {
            "name": st.sampled_from(["user_id", "session", "k", "", "title"]) | NUMBERS,
            "datatype": st.sampled_from(["INT64", "FP32", "BYTES", "int64"]) | NUMBERS,
            "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        },
        optional={
            "data": JSON,
            "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), NUMBERS, max_size=2) | NUMBERS,
        },
    ),
    tail=st.binary(max_size=40),
    off=st.integers(-3, 3) | st.just(None),
    rest=st.dictionaries(st.sampled_from(["id", "parameters", "outputs", "x"]), JSON, max_size=3),
)
@example({"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1 << 63]}, b"", None, {})
@example({"name": "user_id", "datatype": "INT64", "shape": [1 << 31, 1 << 31], "data": []}, b"", None, {})
@example({"name": "user_id", "datatype": "INT64", "shape": [1], "data": [float("nan")]}, b"", None, {})
def test_tensors_in_json_and_in_binary(
    fuzzed: Any, entry: dict[str, Any], tail: bytes, off: int | None, rest: dict[str, Any]
) -> None:
    head = json.dumps({"inputs": [entry], **rest}).encode()
    headers = {"content-type": "application/octet-stream"} | ({} if off is None else {LENGTH: str(len(head) + off)})
    connection = fuzzed.connect()
    settle(fuzzed, connection, fuzzed.ask(head + tail, headers=headers, connection=connection))
    connection.close()


@settings(BOUNDED, max_examples=60)
@given(
    events=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                name: NUMBERS | st.sampled_from(["click", "e1", 1, 12, 1_795_282_900_000, -1, 1 << 70])
                for name in ("event_id", "request_id", "user", "item", "timestamp", "action", "rating", "extra")
            },
        )
        | JSON,
        max_size=3,
    )
)
def test_feedback(fuzzed: Any, events: list[Any]) -> None:
    connection = fuzzed.connect()
    reply = fuzzed.ask({"events": events}, path="/v1/feedback", connection=connection)
    assert reply.status in (202, 400), (reply.status, reply.body)
    settle(fuzzed, connection, reply)
    connection.close()
