"""A training handed to KubeRay and followed to its end, against the contract fake of the Kubernetes API (conftest.py).

What runs inside Ray (job.py) is run for real, over a real S3 server.
"""

import json
import re
import subprocess
import sys
import threading

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.train import kuberay, rayjob
from components.train.api import AwayError, Cluster, RefusedError
from components.train.job import Request
from slipway.errors import TrainingError
from slipway.settings import Settings, settings
from slipway.workloads.movies import simulator

NAMESPACE = "slipway-training"
BASE = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayjobs"
RUN = "2b6f1a9e-5d0c-4c39-9d1e-0a4b7c1f2d3e"
NAME = "slipway-train-2b6f1a9e5d0c4c399d1e0a4b7c1f2d3e"


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


INITIALIZING = {"jobDeploymentStatus": "Initializing", "rayClusterName": f"{NAME}-4fz2k"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
COMPLETE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def follow(job, **options):
    told = []
    kuberay.run(
        Cluster(NAMESPACE),
        job,
        lambda what, share, metrics: told.append((what, share)),
        **{"poll": 0.0, "wait": lambda _: None, **options},
    )
    return told


def test_a_job_is_followed_to_its_end_and_taken_away(api, capsys, wanted):
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
    assert follow(wanted()) == [
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
def test_a_failure_is_told_in_the_words_of_whoever_knows(api, script, message, remedy, wanted):
    api.script = [(*entry, *([], [], "")[len(entry) - 1 :]) for entry in script]
    with pytest.raises(TrainingError, match=re.compile(message, re.DOTALL)) as failed:
        follow(wanted(gpu=True), grace=0.0)
    assert remedy in failed.value.remedy
    assert api.deleted == [NAME], "nothing is left behind"


def test_without_a_gpu_the_remedy_does_not_speak_of_one(api, wanted):
    api.script = [(LATE, [], [], "")]
    with pytest.raises(TrainingError) as failed:
        follow(wanted())
    assert "GPU" not in failed.value.remedy
    assert "SLIPWAY_RAY_MEMORY" in failed.value.remedy


def test_a_secret_may_still_come(api, wanted):
    stuck = (INITIALIZING, [waiting("w-0", "CreateContainerConfigError", 'secret "x" not found')], [], "")
    api.script = [stuck, stuck, (RUNNING, [], [], ""), (COMPLETE, [], [], "")]
    assert "secret" in follow(wanted(), grace=60.0)[0][0]


QUOTA_OF_JOBS = 'rayjobs.ray.io "x" is forbidden: exceeded quota: runs, requested: count/rayjobs.ray.io=1, used: 8'


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [
        (403, QUOTA_OF_JOBS, "describe resourcequota"),
        (403, 'User "system:serviceaccount:a:b" cannot create resource "rayjobs"', "let this service account"),
        (404, "the server could not find the requested resource", "install KubeRay"),
    ],
)
def test_what_the_api_refuses_keeps_its_words(api, status, words, remedy, wanted):
    api.refuse["POST", BASE] = (status, words)
    with pytest.raises(RefusedError, match=re.escape(words)) as refused:
        follow(wanted())
    assert remedy in refused.value.remedy


def test_ctrl_c_takes_the_job_away(api, wanted):
    api.script = [(RUNNING, [], [], "")]

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(wanted(), wait=interrupt)
    assert api.deleted == [NAME]


def test_a_try_whose_step_was_lost_goes_on_and_another_training_does_not_take_its_place(api, wanted):
    api.jobs[NAME] = rayjob.render(wanted())
    api.script = [(RUNNING, [], [], ""), (COMPLETE, [], [], "")]
    follow(wanted())
    assert sum(verb == "POST" for verb, *_ in api.queries) == 1
    api.jobs[NAME] = rayjob.render(wanted(key="other"))
    with pytest.raises(RefusedError, match="already exists"):
        follow(wanted())


def test_an_api_that_is_away_for_a_moment_is_waited_for(api, wanted):
    path = ("GET", f"{BASE}/{NAME}")
    api.script = [(COMPLETE, [], [], "")]
    api.refuse[path] = (503, "etcdserver: leader changed")
    follow(wanted(), poll=1.0, wait=lambda _: api.refuse.pop(path, None))
    api.refuse[path] = (503, "etcdserver: leader changed")
    with pytest.raises(AwayError, match="leader changed"):
        follow(wanted(), poll=1.0, patience=2.0)


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
