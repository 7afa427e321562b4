"""A training handed to KubeRay, against a contract fake of the Kubernetes API: no cluster exists here.

The fake keeps objects, refuses a RayJob that the real CRD would refuse (KubeRay 1.7), and answers with the statuses,
events and pod states that KubeRay, the scheduler and the kubelet write (their words are copied from them). What runs
inside Ray (job.py) is run for real, over a real S3 server.
"""

import json
import os
import re
import subprocess
import sys
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from cluster import schemas
from cluster.crds import Definitions
from cluster.objects import Object
from components.train import kuberay, rayjob
from components.train.api import AwayError, Cluster, RefusedError
from components.train.job import Request
from slipway.errors import TrainingError
from slipway.settings import Settings, settings
from slipway.workloads.movies import simulator

CRDS = Path(os.environ.get("SLIPWAY_TEST_CRDS", Path(__file__).parents[3] / "shared" / "crds"))
NAMESPACE = "slipway-training"
BASE = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs"
RUN = "2b6f1a9e-5d0c-4c39-9d1e-0a4b7c1f2d3e"
NAME = "slipway-train-2b6f1a9e5d0c4c399d1e0a4b7c1f2d3e"


def wanted(**changes):
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


# --- what is asked for


@pytest.mark.skipif(definitions() is None, reason=f"no definitions of KubeRay in {CRDS}: set SLIPWAY_TEST_CRDS")
@pytest.mark.parametrize("gpu", [False, True])
def test_the_crd_takes_what_is_rendered_and_nothing_else(gpu):
    document = rayjob.render(wanted(gpu=gpu))
    assert refused_by_the_crd(document) == []
    document["spec"]["ttlSeconds"] = 1
    assert any("ttlSeconds" in found for found in refused_by_the_crd(document)), "the check must be one"


def test_a_job_ends_whatever_happens_and_its_name_fits():
    document = rayjob.render(wanted())
    assert document["metadata"]["name"] == NAME
    assert len(NAME) <= 47, "KubeRay refuses a longer one"
    spec = document["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"], spec["backoffLimit"]) == (43200, 1800, 0)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no task runs on the head"


@pytest.mark.parametrize("gpu", [False, True])
def test_one_worker_to_a_pod_on_its_pool(gpu):
    cluster = rayjob.render(wanted(gpu=gpu))["spec"]["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (2, 2, 2)
    assert group["rayStartParams"] == {"num-cpus": "1"} | ({"num-gpus": "1"} if gpu else {})
    pod = group["template"]["spec"]
    [container] = pod["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if gpu else None)
    assert pod["nodeSelector"] == {"slipway.dev/pool": "gpu" if gpu else "cpu"}
    assert ("tolerations" in pod) == gpu
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in container["env"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]


def test_every_pod_is_restricted_and_reads_its_settings_by_reference():
    spec = rayjob.render(wanted(gpu=True))["spec"]
    cluster = spec["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]]
    for template in [*templates, spec["submitterPodTemplate"]]:
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert container["image"] == wanted().image
    for template in templates:
        [container] = template["spec"]["containers"]
        settings_from, credentials = container["envFrom"]
        assert settings_from == {"configMapRef": {"name": "slipway-settings"}}
        assert credentials["secretRef"]["optional"], "a workload identity needs no keys"
        [shm] = [v for v in template["spec"]["volumes"] if v["name"] == "shm"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "4915Mi"}


# --- following it


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


def waiting(name, reason, message):
    state = {"waiting": {"reason": reason, "message": message}}
    return pod(
        name,
        containerStatuses=[
            {"name": "ray-worker", "state": state, "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
        ],
    )


def unschedulable(name, message):
    return pod(
        name, conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    )


def event(name, reason, message):
    about = {"kind": "RayCluster", "name": name, "namespace": NAMESPACE}
    return {
        "metadata": {"name": f"{name}.1", "creationTimestamp": "2026-11-22T03:00:00Z"},
        "involvedObject": about,
        "type": "Warning",
        "reason": reason,
        "message": message,
    }


def said(**fields):
    return "::slipway:: " + json.dumps({"step": "train", **fields})


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


INITIALIZING = {"jobDeploymentStatus": "Initializing", "rayClusterName": f"{NAME}-4fz2k"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
COMPLETE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def follow(job=None, **options):
    told = []
    kuberay.run(
        Cluster(NAMESPACE),
        job or wanted(),
        lambda what, share, metrics: told.append((what, share)),
        **{"poll": 0.0, "wait": lambda _: None, **options},
    )
    return told


def test_a_job_is_followed_to_its_end_and_taken_away(api, capsys):
    first = f"2026-11-22T03:00:01.1Z {said(event='progress', what='train ranker', share=0.1, metrics={})}\n"
    ray = "2026-11-22T03:00:01.12Z (RayTrainWorker pid=7) Setting up process group\n"
    second = f"2026-11-22T03:00:01.123Z {said(event='progress', what='train ranker', share=0.9, metrics={})}\n"
    api.script = [
        ({}, [], [], ""),
        (INITIALIZING, [unschedulable("w-0", "0/3 nodes are available: 3 Insufficient cpu.")], [], ""),
        (RUNNING, [], [], first),
        (RUNNING, [], [], first + ray),
        (COMPLETE, [], [], first + ray + second),
    ]
    assert follow() == [
        ("waiting for Ray's pods", 0.0),
        ("waiting for Ray's pods: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.", 0.0),
        ("train ranker", 0.1),
        ("train ranker", 0.9),
    ], "each line once, also those said between two looks"
    assert capsys.readouterr().out.count("Setting up process group") == 1
    assert api.deleted == [NAME]


GPUS = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available"
LATE = {"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded", "message": "The RayJob has passed …"}
APP = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}
OWN = said(event="error", message="the loss is not finite", remedy="lower the learning rate")
RAY = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
LOST = f"{RAY}ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory."
QUOTA = 'pods "w-0" is forbidden: exceeded quota: training, requested: requests.cpu=4, used: 30, limited: 32'


@pytest.mark.parametrize(
    ("script", "message", "remedy"),
    [
        pytest.param(
            [(INITIALIZING, [unschedulable("w-0", GPUS)], [], ""), (LATE, [], [], "")],
            r"did not all run within 1800 s; Unschedulable: 0/4 nodes .* Insufficient nvidia.com/gpu",
            "a pool of size 0 never has one",
            id="gpu-pool-of-size-0",
        ),
        pytest.param(
            [
                (INITIALIZING, [], [event(f"{NAME}-4fz2k", "FailedToCreateWorkerPod", QUOTA)], ""),
                (LATE, [], [], ""),
            ],
            "FailedToCreateWorkerPod: .*exceeded quota: training",
            "fewer workers",
            id="quota-of-pods",
        ),
        pytest.param(
            [(INITIALIZING, [waiting("w-0", "CreateContainerConfigError", 'configmap "slipway-settings" not found')])],
            'pod w-0 cannot start: CreateContainerConfigError: configmap "slipway-settings" not found',
            "create the ConfigMap or Secret",
            id="missing-configmap",
        ),
        pytest.param(
            [(INITIALIZING, [waiting("w-0", "ErrImagePull", "registry.example.com/x@sha256:bb: not found")])],
            "cannot start: ErrImagePull: registry.example.com/x@sha256:bb: not found",
            "SLIPWAY_TRAINING_IMAGE",
            id="wrong-digest",
        ),
        pytest.param(
            [(APP | {"message": RAY + OWN}, [], [], "")],
            "^the loss is not finite",
            "lower the learning rate",
            id="the-trainings-own-words",
        ),
        pytest.param(
            [(APP | {"message": LOST}, [], [], "")],
            r"ended as FAILED \(AppFailed\): .*node running low on memory",
            "describe rayjob",
            id="rays-own-words",
        ),
        pytest.param(
            [({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "…"}, [], [], "")],
            "did not end within 43200 s",
            "SLIPWAY_RAY_DEADLINE_SECONDS",
            id="deadline",
        ),
        pytest.param(
            [({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED", "message": "stopped by a person"},)],
            "ended as STOPPED .*stopped by a person",
            "goes on from its checkpoint",
            id="stopped",
        ),
    ],
)
def test_a_failure_is_told_in_the_words_of_whoever_knows(api, script, message, remedy):
    api.script = [(*entry, *([], [], "")[len(entry) - 1 :]) for entry in script]
    with pytest.raises(TrainingError, match=re.compile(message, re.DOTALL)) as failed:
        follow(wanted(gpu=True), grace=0.0)
    assert remedy in failed.value.remedy
    assert api.deleted == [NAME], "nothing is left behind"


def test_without_a_gpu_the_remedy_does_not_speak_of_one(api):
    api.script = [(LATE, [], [], "")]
    with pytest.raises(TrainingError) as failed:
        follow()
    assert "GPU" not in failed.value.remedy
    assert "SLIPWAY_RAY_MEMORY" in failed.value.remedy


def test_a_secret_may_still_come(api):
    stuck = (INITIALIZING, [waiting("w-0", "CreateContainerConfigError", 'secret "x" not found')], [], "")
    api.script = [stuck, stuck, (RUNNING, [], [], ""), (COMPLETE, [], [], "")]
    assert "secret" in follow(grace=60.0)[0][0]


QUOTA_OF_JOBS = 'rayjobs.ray.io "x" is forbidden: exceeded quota: runs, requested: count/rayjobs.ray.io=1, used: 8'


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (403, QUOTA_OF_JOBS, "describe resourcequota"),
        (403, 'User "system:serviceaccount:a:b" cannot create resource "rayjobs"', "let this service account"),
        (404, "the server could not find the requested resource", "install KubeRay"),
    ],
)
def test_what_the_api_refuses_keeps_its_words(api, status, words, remedy):
    api.refuse["POST", BASE] = (status, words)
    with pytest.raises(RefusedError, match=re.escape(words)) as refused:
        follow()
    assert remedy in refused.value.remedy


def test_ctrl_c_takes_the_job_away(api):
    api.script = [(RUNNING, [], [], "")]

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(wait=interrupt)
    assert api.deleted == [NAME]


def test_a_try_whose_step_was_lost_goes_on_and_another_training_does_not_take_its_place(api):
    api.jobs[NAME] = rayjob.render(wanted())
    api.script = [(RUNNING, [], [], ""), (COMPLETE, [], [], "")]
    follow()
    assert sum(verb == "POST" for verb, *_ in api.queries) == 1
    api.jobs[NAME] = rayjob.render(wanted(key="other"))
    with pytest.raises(RefusedError, match="already exists"):
        follow()


def test_an_api_that_is_away_for_a_moment_is_waited_for(api):
    path = ("GET", f"{BASE}/{NAME}")
    api.script = [(COMPLETE, [], [], "")]
    api.refuse[path] = (503, "etcdserver: leader changed")
    follow(poll=1.0, wait=lambda _: api.refuse.pop(path, None))
    api.refuse[path] = (503, "etcdserver: leader changed")
    with pytest.raises(AwayError, match="leader changed"):
        follow(poll=1.0, patience=2.0)


def test_a_store_that_pods_cannot_read_is_refused(tmp_path):
    request = Request(workload="movies", profile="demo", overrides="{}", num_workers=2, use_gpu=False)
    env = Settings(home=tmp_path, training_namespace=NAMESPACE)
    with pytest.raises(TrainingError, match="cannot read file:///") as refused:
        kuberay.train(request, tmp_path, tmp_path / "out", f"file://{tmp_path}", "abc123", env, lambda *_: None)
    assert "SLIPWAY_STORE_URI" in refused.value.remedy


# --- all of it, but for Kubernetes and Ray

TINY = {
    "simulate": simulator.TINY.model_dump(),
    "train": {"epochs": 2, "tokens_per_step": 1024, "warmup_steps": 10, "ranker": {"dim": 32, "max_len": 30}},
}


@pytest.mark.slow
def test_what_runs_inside_ray_brings_the_models_back(api, tmp_path, monkeypatch):
    """The controller is the fake's: it starts the entry point as a process and gives what it prints as the log."""
    from components.ingest import step as ingest

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SLIPWAY_S3_ENDPOINT_URL": endpoint,
        "SLIPWAY_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="lake")
    overrides = json.dumps(TINY)
    ingest.run("movies", "demo", overrides, "simulated", tmp_path / "data")

    def start(job):
        api.script = [(RUNNING, [], [], "")]
        threading.Thread(target=run, args=(job,), daemon=True).start()

    def run(job):
        command = job["spec"]["entrypoint"].split()
        assert command[:3] == ["python", "-m", "components.train.job"]
        ended = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=300, check=False)
        log = "".join(f"2026-11-22T03:00:00.{n:09}Z {line}\n" for n, line in enumerate(ended.stdout.splitlines(), 1))
        status = COMPLETE if ended.returncode == 0 else APP | {"message": f"exit code {ended.returncode}"}
        api.script = [(RUNNING, [], [], log), (status, [], [], log)]

    api.created = start
    env = Settings(
        home=tmp_path / "home",
        training_namespace=NAMESPACE,
        store_uri="s3://lake/slipway",
        s3_endpoint_url=endpoint,
        pipeline_run=RUN,
    )
    request = Request(workload="movies", profile="demo", overrides=overrides, num_workers=0, use_gpu=False)
    told = []
    try:
        arguments = (tmp_path / "data", tmp_path / "model", "s3://lake/slipway/checkpoints/abc123", "abc123", env)
        metrics = kuberay.train(request, *arguments, lambda what, *_: told.append(what))
        again = kuberay.train(request, *arguments, lambda what, *_: told.append(f"again: {what}"))
        bad = request.model_copy(update={"overrides": '{"train": {"epoch": 3}}'})
        elsewhere = (tmp_path / "data", tmp_path / "m", "s3://lake/slipway/checkpoints/other", "abc123", env)
        with pytest.raises(TrainingError, match="epoch"):
            kuberay.train(bad, *elsewhere, lambda *_: None)
    finally:
        server.stop()
        settings.cache_clear()
    assert metrics == again
    assert metrics["validation_ndcg10_ranker"] >= 0
    assert (tmp_path / "model" / "training.json").is_file()
    assert "train ranker" in told
    assert not any(what.startswith("again") for what in told), "a training that is done is not done again"
    assert api.deleted == [NAME, NAME]
