"""Submitting and following a run against a contract fake of Kubeflow Pipelines' API (conftest.py)."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console

from cli.cluster import show
from components.image import PIPELINE, TRAINING
from components.pods import Trouble
from pipelines.parameters import EtlParameters, Parameters
from pipelines.runners import cluster
from pipelines.runners.kubeflow import AwayError, Kubeflow
from slipway.errors import ConfigError, PipelineError
from slipway.settings import Settings

IMAGE = f"registry.example.com/slipway/pipeline@sha256:{'a' * 64}"
TRAIN = f"registry.example.com/slipway/training@sha256:{'b' * 64}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def env(fake, home):
    return Settings(home=home, kfp_endpoint=fake.endpoint, image=IMAGE, training_image=TRAIN)


def follow(run_id, env, changed=lambda _: None, **options):
    return cluster.follow(run_id, Kubeflow(env), changed, poll=0.0, **options)


@pytest.fixture
def run(fake, env):
    return cluster.submit(Parameters(), env)


def test_what_is_submitted(fake, env):
    parameters = Parameters(num_workers=2, use_gpu=True, train_overrides='{"train": {"epochs": 3}}')
    run_id = cluster.submit(parameters, env)
    [run], [pipeline], [experiment] = fake.runs.values(), fake.pipelines.values(), fake.experiments.values()
    assert (run["run_id"], pipeline["display_name"], experiment["display_name"]) == (
        run_id,
        "slipway-training",
        "movies",
    )
    assert run["service_account"] == "slipway-runner"
    assert run["display_name"].startswith("movies-2")
    asked = run["runtime_config"]["parameters"]
    assert asked["num_workers"] == 2
    assert asked["use_gpu"] is True
    assert len(asked["code_version"]) == 16
    assert "train_gpus" not in asked, "the workers have the GPUs"
    [(version, text)] = fake.uploads.items()
    assert version.startswith(asked["code_version"])
    images = {
        label: e["container"]["image"]
        for label, e in next(yaml.safe_load_all(text))["deploymentSpec"]["executors"].items()
    }
    assert images["exec-ingest"] == IMAGE
    assert images["exec-train"] == TRAIN
    assert PIPELINE not in text
    assert TRAINING not in text


def test_the_same_code_is_uploaded_once_and_another_image_is_another_version(fake, env):
    for _ in range(2):
        cluster.submit(Parameters(), env)
    assert (len(fake.pipelines), len(fake.versions), len(fake.runs), len(fake.experiments)) == (1, 1, 2, 1)
    cluster.submit(Parameters(), env.model_copy(update={"image": IMAGE.replace("aaa", "ccc")}))
    assert len(fake.versions) == 2
    cluster.submit(EtlParameters(), env)
    assert {p["display_name"] for p in fake.pipelines.values()} == {"slipway-training", "slipway-etl"}


def test_a_training_without_workers_gets_the_gpu_itself(fake, env):
    cluster.submit(Parameters(use_gpu=True), env)
    [run] = fake.runs.values()
    asked = run["runtime_config"]["parameters"]
    assert asked["train_gpus"] == "1"
    assert asked["train_node_selector"] == {"slipway.dev/pool": "gpu"}
    [toleration] = asked["train_tolerations"]
    assert (toleration["key"], toleration["effect"]) == ("nvidia.com/gpu", "NoSchedule")


@pytest.mark.parametrize(
    ("change", "parameters", "match"),
    [
        ({"image": "registry.example.com/slipway/pipeline:latest"}, Parameters(), "SLIPWAY_IMAGE.*digest"),
        ({"training_image": f"x@sha256:{'g' * 64}"}, Parameters(), "SLIPWAY_TRAINING_IMAGE.*digest"),
        ({"kfp_endpoint": None}, Parameters(), "endpoint"),
        ({}, Parameters(data="/data/ml-1m"), "cannot read '/data/ml-1m'"),
        ({}, Parameters(data="lake"), "cannot read the lake"),
        ({}, Parameters(slo="/home/me/slo.yaml"), "a file of this machine"),
        ({"kfp_token_file": Path("/nowhere/token")}, Parameters(), "no file /nowhere/token"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(fake, env, change, parameters, match):
    with pytest.raises(ConfigError, match=match) as refused:
        cluster.submit(parameters, env.model_copy(update=change))
    assert refused.value.remedy
    assert not fake.tokens


def test_the_token_is_read_anew_for_each_call(fake, env, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    kubeflow = Kubeflow(env.model_copy(update={"kfp_token_file": token}))
    kubeflow.schedules()
    token.write_text("second")
    kubeflow.schedules()
    assert fake.tokens[-2:] == ["Bearer first", "Bearer second"]


def test_a_run_is_followed_to_its_end_with_the_states_of_its_steps(fake, env, run):
    ingest, train = fake.task("ingest", 100, "SUCCEEDED", executor="SKIPPED"), fake.task("train", 200, "RUNNING")
    fake.script = [
        ("PENDING", []),
        ("RUNNING", [*ingest, *fake.task("train", 200, "RUNNING", executor="PENDING")]),
        ("RUNNING", [*ingest, *train]),
        ("RUNNING", [*ingest, *fake.task("train", 200, "RUNNING", tries=("FAILED", "RUNNING"))]),
        (
            "SUCCEEDED",
            [
                *ingest,
                *fake.task("train", 200, "SUCCEEDED", tries=("FAILED", "SUCCEEDED")),
                *fake.task("evaluate", 300, "SUCCEEDED"),
                fake.node("condition-1", 400, "SUCCEEDED"),
                *fake.task("register", 500, "SUCCEEDED"),
            ],
        ),
    ]
    seen = []
    ended = follow(run, env, lambda step: seen.append((step.name, step.state, step.what)))
    assert seen == [
        ("ingest", "cached", ""),
        ("train", "running", "waiting for its pod"),
        ("train", "running", ""),
        ("train", "running", "try 2"),
        ("train", "done", ""),
        ("evaluate", "done", ""),
        ("register", "done", ""),
    ]
    assert ended.admitted
    assert ended.link == f"{fake.endpoint}/#/runs/details/{run}"
    assert {s.name: s.seconds for s in ended.steps}["evaluate"] == 9.0


def test_a_step_that_waits_says_why_and_one_that_never_starts_is_given_up(fake, env, run):
    fake.script = [("RUNNING", fake.task("train", 200, "RUNNING", executor="PENDING"))]
    pod = "wf-x-system-container-impl-202"
    full = Trouble(pod, "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
    absent = Trouble(pod, "ErrImagePull", "manifest unknown")
    answers, seen = [[full], [full], [absent], [absent]], []
    with pytest.raises(PipelineError, match="cannot start: ErrImagePull: manifest unknown") as stuck:
        cluster.follow(
            run,
            Kubeflow(env),
            lambda step: seen.append(step.what),
            why=lambda _: answers.pop(0),
            poll=1.0,
            grace=1.0,
            wait=lambda _: None,
        )
    assert seen == [f"waiting for its pod: {full}", f"waiting for its pod: {absent}"]
    assert "SLIPWAY_TRAINING_IMAGE" in stuck.value.remedy
    assert f"slipway cancel {run}" in stuck.value.remedy
    assert not answers


def test_a_gpu_pool_of_size_0_is_waited_for_and_then_named(fake, env, run):
    fake.script = [("RUNNING", fake.task("train", 200, "RUNNING", executor="PENDING"))]
    none = Trouble("wf-x-system-container-impl-202", "Unschedulable", "0/4 nodes: 4 Insufficient nvidia.com/gpu.")
    looks = []
    with pytest.raises(PipelineError, match=r"cannot start: Unschedulable: .*nvidia.com/gpu") as stuck:
        cluster.follow(
            run,
            Kubeflow(env),
            lambda step: None,
            why=lambda _: looks.append(1) or [none],
            poll=1.0,
            grace=0.0,
            room=3.0,
            wait=lambda _: None,
        )
    assert len(looks) == 4, "another run may end, or a machine come: not the patience of what never can"
    assert "a pool of size 0 never has one" in stuck.value.remedy
    assert f"slipway cancel {run}" in stuck.value.remedy


def test_a_closed_gate_is_no_failure_and_is_told(fake, env, run):
    fake.script = [("SUCCEEDED", [*fake.task("evaluate", 300, "SUCCEEDED"), fake.node("condition-1", 400, "SKIPPED")])]
    assert follow(run, env).admitted is False
    fake.script = [("SUCCEEDED", fake.task("load", 300, "SUCCEEDED"))]
    assert follow(run, env).admitted is None, "the ETL pipeline has no gate"


EVENT = '::slipway:: {"event": "error", "step": "ingest", "message": "no ratings", "remedy": "bring some"}\n'


@pytest.mark.parametrize(
    ("log", "message", "remedy"),
    [
        (f"12:00 starting\n{EVENT}exit status 1\n", "step 'ingest' failed: no ratings", "bring some"),
        ("one\ntwo\nKilled\n", r"its pod wf-x-retry-system-container-impl-111 said last:\none\ntwo\nKilled", "see"),
        (None, "left no log.*evicted, ran out of memory", "kubectl describe pod -l pipeline/runid="),
    ],
)
def test_a_failure_has_the_words_of_the_step_that_failed(fake, env, run, log, message, remedy):
    fake.script = [("FAILED", fake.task("ingest", 100, "FAILED", tries=("FAILED", "FAILED")))]
    if log is not None:
        fake.logs["wf-x-retry-system-container-impl-111"] = log
    with pytest.raises(PipelineError, match=re.compile(message, re.DOTALL)) as failed:
        follow(run, env)
    assert remedy in failed.value.remedy
    assert run in failed.value.remedy


def test_kubeflows_own_words_where_no_step_ran(fake, env, run):
    fake.script = [("FAILED", [], {"code": 13, "message": "workflow exceeded its quota"})]
    with pytest.raises(PipelineError, match="ended as FAILED: workflow exceeded its quota"):
        follow(run, env)


def test_an_api_that_is_away_is_waited_for_but_not_for_ever(fake, env, run):
    path = ("GET", f"/apis/v2beta1/runs/{run}")
    fake.script = [("SUCCEEDED", [])]
    fake.refuse[path] = (503, {"message": "upstream connect error"})
    waited = []

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            del fake.refuse[path]

    assert cluster.follow(run, Kubeflow(env), lambda _: None, poll=1.0, wait=wait).run_id == run
    fake.refuse[path] = (503, {"message": "upstream connect error"})
    with pytest.raises(AwayError, match="503: upstream connect error"):
        cluster.follow(run, Kubeflow(env), lambda _: None, poll=1.0, patience=2.0, wait=lambda _: None)


def test_a_refusal_has_the_apis_words_and_a_remedy(fake, env):
    fake.refuse["POST", "/apis/v2beta1/runs"] = (403, {"code": 7, "message": "User cannot create runs in namespace x"})
    with pytest.raises(PipelineError, match="would not start the run: 403: User cannot create runs") as refused:
        cluster.submit(Parameters(), env)
    assert "SLIPWAY_KFP_TOKEN_FILE" in refused.value.remedy
    with pytest.raises(PipelineError, match="404: Run nothing not found"):
        follow("nothing", env)


def test_nobody_at_the_endpoint(env, free_port):
    with pytest.raises(AwayError, match="cannot be reached") as away:
        Kubeflow(
            env.model_copy(update={"kfp_endpoint": f"http://127.0.0.1:{free_port}", "kfp_namespace": "x"})
        ).schedules()
    assert "SLIPWAY_KFP_ENDPOINT" in away.value.remedy


@pytest.fixture
def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


# --- on the screen


def slipway(env, *arguments):
    """A process of its own, as people start it."""
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(env.home),
        "SLIPWAY_HOME": str(env.home),
        "SLIPWAY_KFP_ENDPOINT": env.kfp_endpoint,
        "SLIPWAY_IMAGE": env.image,
        "SLIPWAY_TRAINING_IMAGE": env.training_image,
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.Popen(
        [Path(sys.executable).with_name("slipway"), *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_ctrl_c_leaves_the_run_and_says_how_to_find_it_again(fake, env, run):
    fake.script = [("RUNNING", fake.task("train", 200, "RUNNING"))]
    process = slipway(env, "follow", run)
    shown = ""
    for line in process.stdout:
        shown += line
        if "train" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert f"the run goes on; follow it again: slipway follow {run}" in said
    assert f"slipway cancel {run}" in said
    assert "run the same command again" not in said, "that would start a second one"


def test_the_gates_exit_code_and_a_cancelled_run(fake, env, run):
    fake.script = [("SUCCEEDED", fake.task("evaluate", 300, "SUCCEEDED"))]
    shown = io.StringIO()
    with pytest.raises(typer.Exit) as ended:
        show(Console(file=shown), run, env)
    assert ended.value.exit_code == 3
    assert "refused the challenger" in shown.getvalue()
    Kubeflow(env).terminate(run)
    with pytest.raises(PipelineError, match="was cancelled"):
        follow(run, env)
