"""A contract fake of the Kubernetes API for trainings handed to KubeRay: no cluster exists here.

It keeps objects, refuses a RayJob that the real CRD would refuse (KubeRay 1.7), and answers with the statuses, events
and pod states that KubeRay, the scheduler and the kubelet write (their words are copied from them).
"""

import json
import os
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from cluster import schemas
from cluster.crds import Definitions
from cluster.objects import Object
from components.train import rayjob

CRDS = Path(os.environ.get("SLIPWAY_TEST_CRDS", Path(__file__).parents[3] / "shared" / "crds"))
NAMESPACE = "slipway-training"
BASE = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs"
RUN = "2b6f1a9e-5d0c-4c39-9d1e-0a4b7c1f2d3e"
NAME = "slipway-train-2b6f1a9e5d0c4c399d1e0a4b7c1f2d3e"


def _wanted(**changes):
    given = {
        "run": RUN,
        "key": "abc123",
        "uri": "s3://lake/slipway/checkpoints/abc123",
        "namespace": NAMESPACE,
        "image": f"registry.example.com/slipway/training@sha256:{'b' * 64}",
        "workers": 2,
        "gpu": False,
        "cpus": 4,
        "memory": "16Gi",
        "wait": 1800,
        "deadline": 43200,
    }
    return rayjob.Wanted(**given | changes)


@cache
def definitions():
    """None where there are none: then the fake takes every RayJob."""
    return Definitions(CRDS) if (CRDS / "kuberay").is_dir() else None


def refused_by_the_crd(document):
    return [str(f) for f in schemas.check(Object("test", document), definitions()).findings] if definitions() else []


@pytest.fixture(scope="session")
def wanted():
    """wanted(gpu=True) → rayjob.Wanted of one training, with these changes."""
    return _wanted


@pytest.fixture(scope="session")
def refused():
    """refused(document) → what KubeRay's CRD says against it; skipped where there is no CRD."""
    if definitions() is None:
        pytest.skip(f"no definitions of KubeRay in {CRDS}: set SLIPWAY_TEST_CRDS")
    return refused_by_the_crd


class Fake(ThreadingHTTPServer):
    """The Kubernetes API: RayJobs, pods, events, logs. script: (status, pods, events, log), one for each look at the
    job, the last for ever.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs, self.deleted, self.script = {}, [], [({}, [], [], "")]
        self.refuse, self.queries = {}, []
        self.created = lambda job: None

    def answer(self, verb, path, query, body):
        self.queries.append((verb, path, query))
        if (verb, path) in self.refuse:
            status, message = self.refuse[verb, path]
            return status, {"kind": "Status", "status": "Failure", "message": message, "code": status}
        if (verb, path) == ("POST", BASE):
            assert query["fieldValidation"] == "Strict"
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, {"message": f'rayjobs.ray.io "{name}" already exists'}
            if found := refused_by_the_crd(body):
                return 422, {"message": "; ".join(found)}
            self.jobs[name] = body
            self.created(body)
            return 201, body
        if path.startswith(f"{BASE}/"):
            name = path.rpartition("/")[2]
            if name not in self.jobs:
                return 404, {"message": f'rayjobs.ray.io "{name}" not found'}
            if verb == "DELETE":
                assert query["propagationPolicy"] == "Background"
                self.deleted.append(name)
                del self.jobs[name]
                return 200, {}
            if len(self.script) > 1:
                self.now = self.script.pop(0)
            else:
                self.now = self.script[0]
            return 200, self.jobs[name] | {"status": self.now[0]}
        _, pods, events, log = self.now
        if path.endswith("/log"):
            assert query["container"] == "ray-job-submitter"
            return (200, log) if log else (400, {"message": "container is waiting to start: ContainerCreating"})
        if path == f"/api/v1/namespaces/{NAMESPACE}/pods":
            if query["labelSelector"] == f"job-name={NAME}":
                return 200, {"kind": "PodList", "items": [pod(f"{NAME}-x")] if log else []}
            assert query["labelSelector"] == "slipway.dev/training=abc123"
            return 200, {"kind": "PodList", "items": pods}
        assert (path, query["fieldSelector"]) == (f"/api/v1/namespaces/{NAMESPACE}/events", "type=Warning")
        return 200, {"kind": "EventList", "items": events}


class Handler(BaseHTTPRequestHandler):
    def _serve(self):
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.server.answer(self.command, parts.path, query, json.loads(raw) if raw else {})
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_):
        pass


def pod(name, **status):
    return {"metadata": {"name": name}, "spec": {"containers": []}, "status": status}


@pytest.fixture
def api(tmp_path, monkeypatch):
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    kubeconfig = tmp_path / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    address = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    user = {"name": "u", "user": {"token": "t"}}
    kubeconfig.write_text(
        yaml.safe_dump({"contexts": [context], "clusters": [address], "users": [user], "current-context": "c"})
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    yield server
    server.shutdown()
    server.server_close()
