"""What clients send, right and wrong, to the real server over one keep-alive connection."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

V1 = "/v1/models/movies:predict"


def v2(*inputs: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **rest}


def tensor(name: str, data: Any, shape: Any = None, datatype: Any = "INT64") -> dict[str, Any]:
    return {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data}


def user(data: Any, **rest: Any) -> dict[str, Any]:
    return tensor("user_id", data, **rest)


GOOD = v2(user([1]))


def outputs(reply: Any) -> dict[str, Any]:
    return {o["name"]: np.array(o["data"], dtype=object).reshape(o["shape"]).tolist() for o in reply.json["outputs"]}


def deep(levels: int) -> bytes:
    return b'{"inputs":' + b"[" * levels + b"]" * levels + b"}"


BAD_V2: dict[str, tuple[Any, str]] = {
    "empty body": (b"", "not JSON"),
    "malformed": (b'{"inputs": [', "not JSON"),
    "NaN": (b'{"inputs":[{"name":"user_id","shape":[1],"datatype":"INT64","data":[NaN]}]}', "not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', "not JSON"),
    "a list": ([], "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "deep nesting": (deep(900), "list of objects"),
    "deeper nesting": (deep(100_000), "not JSON"),
    "deep data": (v2(user(json.loads("[" * 500 + "]" * 500), shape=[1])), "nested"),
    "no inputs": ({}, "inputs is not a list"),
    "empty inputs": ({"inputs": []}, "inputs is not a list"),
    "inputs null": ({"inputs": None}, "inputs is not a list"),
    "inputs of numbers": ({"inputs": [1]}, "inputs is not a list"),
    "no name": (v2({"shape": [1], "datatype": "INT64", "data": [1]}), "no name"),
    "wrong name": (v2(tensor("userid", [1])), "there is no input 'userid'"),
    "an extra name": (v2(user([1]), tensor("age", [1])), "there is no input 'age'"),
    "twice": (v2(user([1]), user([2])), "sent twice"),
    "user missing": (v2(tensor("k", [3])), "user_id is missing"),
    "negative id": (v2(user([-1])), "negative"),
    "negative in a batch": (v2(user([1, 2, -7])), "-7 is negative"),
    "float id": (v2(user([1.0])), "send integers"),
    "float datatype": (v2(user([1.0], datatype="FP32")), "send INT64"),
    "string id": (v2(user(["1"])), "holds str"),
    "string datatype": (v2(user(["1"], datatype="BYTES")), "send INT64"),
    "bool id": (v2(user([True])), "holds bool"),
    "null id": (v2(user([None])), "holds null"),
    "object id": (v2(user([{}])), "holds dict"),
    "id beyond int64": (v2(user([2**63])), "beyond INT64"),
    "id beyond uint64": (v2(user([2**70])), "holds float"),
    "huge float": (b'{"inputs":[{"name":"user_id","shape":[1],"datatype":"INT64","data":[1e999]}]}', ""),
    "datatype unknown": (v2(user([1], datatype="INT128")), "send INT64"),
    "datatype missing": (v2({"name": "user_id", "shape": [1], "data": [1]}), "no datatype"),
    "datatype a number": (v2(user([1], datatype=7)), "no datatype"),
    "data missing": (v2({"name": "user_id", "shape": [1], "datatype": "INT64"}), "no data"),
    "data a number": (v2({"name": "user_id", "shape": [1], "datatype": "INT64", "data": 1}), "list of values"),
    "shape too long": (v2(user([1], shape=[2])), "1 values"),
    "shape of zero": (v2(user([], shape=[0])), "shape [0]"),
    "shape negative": (v2(user([1], shape=[-1])), "no usable shape"),
    "shape huge": (v2(user([1], shape=[2**31 - 1] * 8)), "1 values"),
    "shape of strings": (v2(user([1], shape=["1"])), "no usable shape"),
    "shape missing": (v2({"name": "user_id", "datatype": "INT64", "data": [1]}), "no usable shape"),
    "shape with a bool": (v2(user([1], shape=[True])), "no usable shape"),
    "two dimensions": (v2(user([1, 2], shape=[2, 1])), "shape [2, 1]"),
    "batch of 65": (v2(user([1] * 65)), "1..64"),
    "k zero": (v2(user([1]), tensor("k", [0])), "send 1..100"),
    "k 101": (v2(user([1]), tensor("k", [101])), "send 1..100"),
    "k negative": (v2(user([1]), tensor("k", [-5])), "send 1..100"),
    "two k": (v2(user([1]), tensor("k", [5, 5])), "one number"),
    "k a float": (v2(user([1]), tensor("k", [5.5])), "holds float"),
    "session of another batch": (v2(user([1]), tensor("session", [1, 2], [2, 1])), "beside 1 user ids"),
    "session flat in a batch": (v2(user([1, 2]), tensor("session", [1, 2])), "beside 2 user ids"),
    "session negative": (v2(user([1]), tensor("session", [-2], [1, 1])), "item -2"),
    "session padded first": (v2(user([1]), tensor("session", [-1, 10], [1, 2])), "only at the end"),
    "session too long": (v2(user([1]), tensor("session", [10] * 1001, [1, 1001])), "up to 1000"),
    "session of strings": (v2(user([1]), tensor("session", ["a"], [1, 1])), "holds str"),
    "output unknown": ({**GOOD, "outputs": [{"name": "logits"}]}, "there is no output 'logits'"),
    "output without name": ({**GOOD, "outputs": [{}]}, "no name"),
    "outputs a string": ({**GOOD, "outputs": "item_id"}, "outputs is not a list"),
    "parameters a list": ({**GOOD, "parameters": [1]}, "parameters is not an object"),
    "id a number": ({**GOOD, "id": 7}, "request id"),
    "id too long": ({**GOOD, "id": "x" * 1000}, "request id"),
    "bytes promised": (v2({**user([1]), "parameters": {"binary_data_size": 8}}), "binary_data_size"),
    "V1 body": ({"instances": [{"user_id": 1}]}, "inputs is not a list"),
}

BAD_V1: dict[str, tuple[Any, str]] = {
    "empty body": (b"", "not JSON"),
    "malformed": (b"{", "not JSON"),
    "a string": (b'"x"', "not a JSON object"),
    "V2 body": (GOOD, "no instances"),
    "instances an object": ({"instances": {"user_id": 1}}, "must be a list"),
    "no instance": ({"instances": []}, "not empty"),
    "instance a number": ({"instances": [1]}, "not an object"),
    "wrong key": ({"instances": [{"user": 1}]}, "there is no input 'user'"),
    "user missing": ({"instances": [{"k": 1}]}, "user_id is missing"),
    "user missing in one": ({"instances": [{"user_id": 1}, {"k": 1}]}, "user_id is missing in an instance"),
    "float id": ({"instances": [{"user_id": 1.5}]}, "holds float"),
    "string id": ({"instances": [{"user_id": "1"}]}, "holds str"),
    "null id": ({"instances": [{"user_id": None}]}, "holds null"),
    "bool id": ({"instances": [{"user_id": True}]}, "holds bool"),
    "list id": ({"instances": [{"user_id": [1]}]}, "nested"),
    "negative id": ({"instances": [{"user_id": -1}]}, "negative"),
    "huge id": ({"instances": [{"user_id": 2**64 - 1}]}, "beyond INT64"),
    "session a number": ({"instances": [{"user_id": 1, "session": 5}]}, "not a list"),
    "session null": ({"instances": [{"user_id": 1, "session": None}]}, "not a list"),
    "session nested": ({"instances": [{"user_id": 1, "session": [[1]]}]}, "nested"),
    "session negative": ({"instances": [{"user_id": 1, "session": [-3]}]}, "item -3"),
    "k differs": ({"instances": [{"user_id": 1, "k": 3}, {"user_id": 2, "k": 4}]}, "one k per request"),
    "k in one": ({"instances": [{"user_id": 1, "k": 3}, {"user_id": 2}]}, "one k per request"),
    "k null": ({"instances": [{"user_id": 1, "k": None}]}, "holds null"),
    "k an object": ({"instances": [{"user_id": 1, "k": {}}]}, "holds dict"),
    "65 instances": ({"instances": [{"user_id": 1}] * 65}, "1..64"),
    "2,000 instances": ({"instances": [{"user_id": 1}] * 2000}, "fewer"),
}


@pytest.fixture(scope="module")
def connection(movies_server):
    """One connection for the whole table: every refusal must leave it usable."""
    opened = movies_server.connect()
    yield opened
    opened.close()


def refused(server, connection, status: int, says: str, *args: Any, **kwargs: Any) -> None:
    reply = server.ask(*args, connection=connection, **kwargs)
    assert reply.status == status, reply.body
    error = reply.json["error"]
    assert says in error
    assert "→ " in error, "names no remedy"
    assert not error.rstrip().endswith("→"), "names no remedy"
    assert "Traceback" not in error
    assert server.ask(GOOD, connection=connection).status == 200, "the connection did not survive"


@pytest.mark.parametrize("case", BAD_V2)
def test_bad_v2_request(movies_server, connection, case):
    body, says = BAD_V2[case]
    refused(movies_server, connection, 400, says, body)


@pytest.mark.parametrize("case", BAD_V1)
def test_bad_v1_request(movies_server, connection, case):
    body, says = BAD_V1[case]
    refused(movies_server, connection, 400, says, body, path=V1)


@pytest.mark.parametrize(
    ("status", "says", "path", "method"),
    [
        (404, "GET /v2/models", "/v2/models/books/infer", "POST"),
        (404, "GET /v2/models", "/v1/models/books:predict", "POST"),
        (404, "GET /v2/models", "/v2/models/books/ready", "GET"),
        (404, "GET /v2/models", "/v2/models/%00%ff/infer", "POST"),
        (404, "version '9'", "/v2/models/movies/versions/9/infer", "POST"),
        (404, "version '9'", "/v2/models/movies/versions/9/ready", "GET"),
        (404, "there is nothing at", "/v1/models/movies:explain", "POST"),
        (404, "there is nothing at", "/docs", "GET"),
        (404, "there is nothing at", "//v2/models/movies/infer", "POST"),
        (405, "use POST", "/v2/models/movies/infer", "GET"),
        (405, "use POST", V1, "PUT"),
        (405, "use GET", "/v2/models/movies/ready", "DELETE"),
        (405, "use GET", "/metrics", "POST"),
        (403, "not open to clients", "/v2/repository/models/movies/unload", "POST"),
        (403, "not open to clients", "/v2/repository/models/movies/load", "POST"),
        (403, "not open to clients", "/v2/repository/index", "POST"),
    ],
)
def test_bad_path_or_method(movies_server, connection, status, says, path, method):
    body = GOOD if method in {"POST", "PUT"} else None
    refused(movies_server, connection, status, says, body, path=path, method=method)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "text/plain", ""],
)
@pytest.mark.parametrize("path", ["/v2/models/movies/infer", V1])
def test_content_types_do_not_matter(movies_server, path, content_type):
    body = {"instances": [{"user_id": 1}]} if path == V1 else GOOD
    assert movies_server.ask(body, path, headers={"content-type": content_type}).status == 200


def test_compressed_bodies_are_refused(movies_server, connection):
    body = gzip.compress(json.dumps(GOOD).encode())
    refused(movies_server, connection, 415, "send it plain", body, headers={"content-encoding": "gzip"})


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_40_mb_is_refused_without_being_kept(movies_server, connection, chunked):
    import psutil

    process = psutil.Process(movies_server.process.pid)
    before = process.memory_info().rss
    chunk = b" " * (1 << 20)
    body = (chunk for _ in range(40)) if chunked else chunk * 40
    connection.request("POST", V1, body=body, encode_chunked=chunked)
    reply = connection.getresponse()
    assert reply.status == 413
    assert "send fewer users" in json.loads(reply.read())["error"]
    assert process.memory_info().rss - before < 20 << 20
    assert movies_server.ask(GOOD, connection=connection).status == 200


def test_v2_answers_with_titles_and_where_they_come_from(movies_server, movies_package):
    reply = movies_server.ask({**GOOD, "id": "mine", "inputs": [user([1, 4]), tensor("k", [3])]})
    assert reply.status == 200
    document = reply.json
    assert document["id"] == "mine"
    assert document["model_name"] == "movies"
    parameters = document["parameters"]
    assert parameters["package_version"] == document["model_version"]
    assert parameters["revision"] == "rev-1"
    assert parameters["fallback"] == "none"
    answer = outputs(reply)
    assert np.shape(answer["item_id"]) == (2, 3)
    assert set(np.ravel(answer["item_id"])) <= set(movies_package.items)
    assert answer["title"][0][0] == f"Film № {answer['item_id'][0][0]}"
    assert set("+".join(np.ravel(answer["source"])).split("+")) <= {"ranker", "counts", "popular"}


def test_nested_data_and_own_version_are_accepted(movies_server):
    version = movies_server.ask(GOOD).json["model_version"]
    body = v2(user([1]), tensor("session", [[10, 12]], [1, 2]))
    assert movies_server.ask(body, f"/v2/models/movies/versions/{version}/infer").status == 200


def test_v1_answers_one_object_per_instance(movies_server):
    body = {"instances": [{"user_id": 1}, {"user_id": 10**9, "session": [10, 12, 14]}, {"user_id": 10**9}]}
    reply = movies_server.ask(body, V1, headers={"x-request-id": "abc"})
    assert reply.status == 200
    first, second, third = reply.json["predictions"]
    assert set(first) == {"item_id", "score", "source", "title"}
    assert len(first["item_id"]) == 10
    assert set("+".join(second["source"]).split("+")) <= {"ranker", "counts", "popular"}
    assert set(third["source"]) == {"popular"}
    assert reply.json["parameters"]["request_id"] == "abc"
    alone = movies_server.ask({"instances": [body["instances"][1]]}, V1).json["predictions"][0]
    assert alone["item_id"] == second["item_id"]


def test_selected_outputs_only(movies_server):
    reply = movies_server.ask({**GOOD, "outputs": [{"name": "score"}, {"name": "item_id"}]})
    assert [o["name"] for o in reply.json["outputs"]] == ["score", "item_id"]


def binary(inputs: list[tuple[str, np.ndarray]], sizes: list[int] | None = None, **rest: Any) -> tuple[bytes, dict]:
    described = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": "INT64",
            "parameters": {"binary_data_size": sizes[i] if sizes else array.nbytes},
        }
        for i, (name, array) in enumerate(inputs)
    ]
    head = json.dumps({"inputs": described, **rest}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return head + b"".join(array.tobytes() for _, array in inputs), headers


def test_v2_binary_in_and_out_equals_json(movies_server):
    body, headers = binary(
        [("user_id", np.array([1, 4])), ("session", np.array([[10, -1], [12, 14]])), ("k", np.array([4]))],
        outputs=[{"name": "item_id", "parameters": {"binary_data": True}}, {"name": "title"}],
        parameters={"binary_data_output": True},
    )
    reply = movies_server.ask(body, headers=headers)
    assert reply.status == 200, reply.body
    length = int(reply.headers["inference-header-content-length"])
    document = json.loads(reply.body[:length])
    tail, found = reply.body[length:], {}
    for output in document["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]], tail = tail[:size], tail[size:]
    assert tail == b""
    plain = outputs(
        movies_server.ask(
            v2(user([1, 4]), tensor("session", [10, -1, 12, 14], [2, 2]), tensor("k", [4])),
        )
    )
    assert np.frombuffer(found["item_id"], dtype="<i8").reshape(2, 4).tolist() == plain["item_id"]
    titles = found["title"]
    size = int.from_bytes(titles[:4], "little")
    assert titles[4 : 4 + size].decode() == plain["title"][0][0]


@pytest.mark.parametrize(
    ("says", "change"),
    [
        ("not a length", {"inference-header-content-length": "x"}),
        ("not a length", {"inference-header-content-length": "-1"}),
        ("not a length", {"inference-header-content-length": "99999999"}),
        ("not JSON", {"inference-header-content-length": "5"}),
        ("not JSON", {"inference-header-content-length": "0"}),
    ],
)
def test_bad_binary_header(movies_server, connection, says, change):
    body, headers = binary([("user_id", np.array([1]))])
    refused(movies_server, connection, 400, says, body, headers={**headers, **change})


@pytest.mark.parametrize(
    ("says", "size"),
    [("beyond the body", 9), ("bytes follow", 7), ("bytes follow", 0), ("binary_data_size", -8), ("beyond", 2**40)],
)
def test_bad_binary_size(movies_server, connection, says, size):
    body, headers = binary([("user_id", np.array([1]))], sizes=[size])
    refused(movies_server, connection, 400, says, body, headers=headers)


def test_binary_ids_are_checked_like_others(movies_server, connection):
    body, headers = binary([("user_id", np.array([-1]))])
    refused(movies_server, connection, 400, "negative", body, headers=headers)
    body, headers = binary([("user_id", np.array([1], dtype=np.int32))])
    refused(movies_server, connection, 400, "takes 8", body, headers=headers)


def test_100_parallel_requests_get_their_own_answers(movies_server, movies_package):
    def ask(number: int) -> tuple[str, list[int]]:
        reply = movies_server.ask({"id": f"r{number}", **v2(user([movies_package.users[number]]))})
        assert reply.status == 200
        return reply.json["id"], outputs(reply)["item_id"][0]

    alone = [ask(number) for number in range(100)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(100)))
    assert together == alone
    assert len({tuple(items) for _, items in alone}) > 50


def test_health_and_metadata(movies_server):
    def get(path):
        return movies_server.ask(path=path, method="GET")

    assert get("/").json == {"status": "alive"}
    assert get("/v2/health/live").json == {"live": True}
    assert get("/v2/health/ready").json == {"ready": True}
    assert get("/v2/models/movies/ready").json == {"name": "movies", "ready": True}
    assert get("/v1/models/movies").json == {"name": "movies", "ready": True}
    assert get("/v2/models").json == {"models": ["movies"]}
    described = get("/v2/models/movies").json
    assert [i["name"] for i in described["inputs"]] == ["user_id", "session", "k"]
    head = movies_server.ask(path="/v2/models/movies/ready", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_metrics_count_by_status_revision_and_fallback(movies_server):
    def count(start: str) -> float:
        text = movies_server.ask(path="/metrics", method="GET").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(start))

    labels = (
        'slipway_requests_total{{fallback="{}",model="movies",revision="rev-1",route="v2",status="{}",traffic="{}"}}'
    )
    good, bad = labels.format("popularity", 200, "live"), labels.format("", 400, "live")
    mirrored = labels.format("popularity", 200, "shadow")
    quick = 'slipway_request_seconds_bucket{le="0.0005",'
    before = count(good), count(bad), count(mirrored)
    movies_server.ask(v2(user([10**12])))
    movies_server.ask(v2(user([-1])))
    for host in ("movies.default.localhost-shadow", "movies.default.localhost-shadow:8080"):  # as Envoy mirrors
        movies_server.ask(v2(user([10**12])), headers={"host": host})
    assert (count(good), count(bad), count(mirrored)) == (before[0] + 1, before[1] + 1, before[2] + 2)
    text = movies_server.ask(path="/metrics", method="GET").body.decode()
    assert quick in text
    movies_server.ask(v2(user([1])))
    for stage in ("retrieval", "ranker", "rerank"):
        assert count(f'slipway_stage_seconds_count{{model="movies",revision="rev-1",stage="{stage}"}}') >= 1
    assert 'slipway_requests_running{model="movies",revision="rev-1"}' in text


def test_a_stage_that_misses_its_budget_shows_in_answer_and_metrics(start_server, movies_package, monkeypatch):
    monkeypatch.setenv("SLIPWAY_BUDGET_TOTAL_MS", "0.001")  # over before the ranker begins, on any machine
    hurried = start_server(movies_package.package)
    reply = hurried.ask(v2(user([movies_package.users[0]])))
    assert reply.status == 200
    assert (reply.json["parameters"]["fallback"], reply.json["parameters"]["lost"]) == ("counts", "ranker late")
    text = hurried.ask(path="/metrics", method="GET").body.decode()
    labels = 'cause="late",model="movies",revision="rev-1",stage="ranker"'
    assert f"slipway_stage_fallbacks_total{{{labels}}} 1.0" in text
    hurried.stop()


KEYS = [
    *["inputs", "instances", "name", "shape", "datatype", "data", "user_id", "session", "k", "parameters"],
    *["outputs", "id", "binary_data_size", "binary_data_output", "x"],
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
NEARLY = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["user_id", "session", "k", "x"]),
                    "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
                    "datatype": st.sampled_from(["INT64", "FP32", "BYTES", "int64"]) | JSON,
                    "data": st.lists(st.integers(-2, 200), max_size=4) | JSON,
                }
            ),
            max_size=4,
        )
    },
    optional={"outputs": JSON, "parameters": JSON, "id": JSON},
)
NEARLY_V1 = st.fixed_dictionaries(
    {
        "instances": st.lists(
            st.fixed_dictionaries(
                {"user_id": st.integers(-2, 400) | JSON},
                optional={"session": st.lists(st.integers(-2, 200) | JSON, max_size=4) | JSON, "k": JSON},
            ),
            max_size=4,
        )
    }
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON | NEARLY | NEARLY_V1, path=st.sampled_from(["/v2/models/movies/infer", V1]))
def test_no_json_gives_a_5xx(movies_server, connection, body, path):
    reply = movies_server.ask(json.dumps(body).encode(), path, connection=connection)
    assert reply.status == 200 or (400 <= reply.status < 500 and "error" in reply.json)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), length=st.none() | st.integers(-5, 300).map(str) | st.text("0123abc²", max_size=5))
def test_no_bytes_give_a_5xx(movies_server, connection, body, length):
    headers = {} if length is None else {"inference-header-content-length": length.encode("latin-1").decode("latin-1")}
    reply = movies_server.ask(body, headers=headers, connection=connection)
    assert 400 <= reply.status < 500
