"""A home of its own, parameters of the smallest world in which the whole line still works, and a contract fake of
Kubeflow Pipelines' API: nothing real exists here.

The fake speaks the paths, verbs and fields of the installed kfp_server_api, and refuses whatever is not among them; its
runs look as Kubeflow makes them of Argo's nodes (apiserver/server/api_converter.go).
"""

import email
import json
import re
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api
import pytest

from pipelines.parameters import Parameters, split_overrides
from slipway.settings import Settings
from slipway.workloads.movies import simulator

TINY = {
    "simulate": simulator.TINY.model_dump(),
    "train": {"epochs": 6, "tokens_per_step": 1024, "warmup_steps": 30, "ranker": {"dim": 64, "max_len": 50}},
    "optimise": {"users": 50, "rounds": 3, "requests": 2},
}


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def tiny():
    """tiny(train={"epochs": 3}) → Parameters without deployment; sections are merged over TINY."""

    def parameters(**sections):
        overrides = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in {*TINY, *sections}}
        return Parameters(deploy=False, **split_overrides(json.loads(json.dumps(overrides))))

    return parameters


# --- Kubeflow Pipelines

API = Path(kfp_server_api.__file__).parent / "api"
KNOWN = {  # of kfp_server_api: (verb, path as a pattern), as the client's source has them
    (verb, re.sub(r"\{[^}]+\}", "[^/:]+", path))
    for file in API.glob("*.py")
    for path, verb in re.findall(r"'(/apis/v2beta1/[^']*)', '([A-Z]+)'", file.read_text())
} | {("GET", "/apis/v1alpha1/runs/[^/]+/nodes/[^/]+/log")}  # apiserver/main.go


def contract(model, body):
    """The fields of one of the API's messages, and no other."""
    fields = set(getattr(kfp_server_api, model).attribute_map.values())
    assert set(body) <= fields, f"{set(body) - fields} are no fields of {model}"
    return body


def node(name, number, state, children=(), template="", began="2026-11-22T03:00:00Z", ended="2026-11-22T03:00:09Z"):
    """As api_converter.go makes a task detail of an Argo node: states, times and children, and no word of an error."""
    detail = {"run_id": "r", "display_name": name, "state": state, "start_time": began, "end_time": ended}
    detail |= {"pod_name": f"wf-x{f'-{template}' if template else ''}-{number}"}
    return contract(
        "V2beta1PipelineTaskDetail", detail | {"child_tasks": [{"pod_name": f"wf-x-{child}"} for child in children]}
    )


def task(name, number, state, executor=None, tries=()):
    """A step: its driver, its node, its executor; and the executor's tries where it has some."""
    executor = executor or state
    found = [node(f"{name}-driver", number + 1, "SUCCEEDED", template="system-container-driver")]
    found.append(node(name, number, state, [number + 2]))
    found.append(
        node("executor", number + 2, executor, [number + 10 + i for i in range(len(tries))], "system-container-impl")
    )
    return found + [
        node(f"executor({i})", number + 10 + i, tried, (), "retry-system-container-impl")
        for i, tried in enumerate(tries)
    ]


class Fake(ThreadingHTTPServer):
    """Kubeflow Pipelines' API, in memory. script: what `get_run` answers, one after another, the last for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pipelines, self.versions, self.experiments, self.runs, self.schedules = {}, {}, {}, {}, {}
        self.uploads, self.tokens, self.script, self.logs, self.refuse = {}, [], [], {}, {}
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.node, self.task = node, task

    def answer(self, verb, path, query, body):
        """(status, JSON or text)"""
        assert any(v == verb and re.fullmatch(p, path) for v, p in KNOWN), f"the API has no {verb} {path}"
        if (verb, path) in self.refuse:
            return self.refuse[verb, path]
        wanted = {p["stringValue"] for p in json.loads(query.get("filter", '{"predicates": []}'))["predicates"]}
        rest = path.removeprefix("/apis/v2beta1/")
        kind, _, name = rest.partition("/")

        def listed(things, field):
            found = [t for t in things.values() if not wanted or t["display_name"] in wanted]
            return 200, ({field: found} if found else {})

        if kind == "healthz":
            return 200, {"multi_user": False}
        if kind == "experiments":
            if verb == "GET":
                return listed(self.experiments, "experiments")
            return 200, self._keep(self.experiments, "experiment_id", contract("V2beta1Experiment", body))
        if rest == "pipelines":
            if verb == "GET":
                return listed(self.pipelines, "pipelines")
            return 200, self._keep(self.pipelines, "pipeline_id", contract("V2beta1Pipeline", body))
        if rest == "pipelines/upload_version":
            assert query["pipelineid"] in self.pipelines
            made = {"pipeline_id": query["pipelineid"], "display_name": query["name"]}
            made = self._keep(self.versions, "pipeline_version_id", contract("V2beta1PipelineVersion", made))
            self.uploads[query["name"]] = body
            return 200, made
        if rest.endswith("/versions"):
            return listed(self.versions, "pipeline_versions")
        if rest == "runs":
            contract("V2beta1Run", body)
            contract("V2beta1RuntimeConfig", body["runtime_config"])
            assert body["pipeline_version_reference"]["pipeline_version_id"] in self.versions
            assert body["experiment_id"] in self.experiments
            return 200, self._keep(self.runs, "run_id", body)
        if kind == "runs" and verb == "GET":
            if name not in self.runs:
                return 404, {"code": 5, "message": f"Run {name} not found", "details": []}
            state, details, *error = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            said = {"state": state, "run_details": {"task_details": details}}
            return 200, contract("V2beta1Run", self.runs[name] | said | ({"error": error[0]} if error else {}))
        if kind == "runs" and rest.endswith(":terminate"):
            self.script = [("CANCELED", [])]
            return 200, {}
        if rest == "recurringruns" and verb == "POST":
            contract("V2beta1RecurringRun", body)
            return 200, self._keep(self.schedules, "recurring_run_id", body | {"status": "ENABLED"})
        if rest == "recurringruns":
            return listed(self.schedules, "recurringRuns")
        if kind == "recurringruns":
            name, _, act = name.partition(":")
            if verb == "DELETE":
                del self.schedules[name]
            else:
                self.schedules[name]["status"] = {"enable": "ENABLED", "disable": "DISABLED"}[act]
            return 200, {}
        pod = path.split("/")[-2]
        return (200, self.logs[pod]) if pod in self.logs else (500, {"error_message": f'pods "{pod}" not found'})

    def _keep(self, things, key, body):
        made = body | {key: str(uuid.uuid4()), "created_at": "2026-11-22T03:00:00Z"}
        things[made[key]] = made
        return made


class Handler(BaseHTTPRequestHandler):
    def _serve(self):
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/"):
            form = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
            body = form.get_payload()[0].get_payload(decode=True).decode()
        else:
            body = json.loads(raw) if raw else {}
        self.server.tokens.append(self.headers.get("authorization"))
        status, answer = self.server.answer(self.command, unquote(parts.path), query, body)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815

    def log_message(self, *_):
        pass


@contextmanager
def _answering():
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def kubeflow():
    """with kubeflow() as fake: the API answers at fake.endpoint."""
    return _answering


@pytest.fixture
def fake(kubeflow):
    with kubeflow() as server:
        yield server
