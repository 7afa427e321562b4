"""Submitting, following and scheduling against a contract fake of Kubeflow Pipelines' API: nothing real exists here.

The fake speaks the paths, verbs and fields of the installed kfp_server_api, and refuses whatever is not among them; its
runs look as Kubeflow makes them of Argo's nodes (apiserver/server/api_converter.go).
"""

import email
import io
import json
import re
import signal
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api
import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from cli import schedule
from cli.cluster import show
from components.image import PIPELINE, TRAINING
from components.pods import Trouble
from pipelines.parameters import EtlParameters, Parameters
from pipelines.runners import cluster, schedules
from pipelines.runners.kubeflow import AwayError, Kubeflow
from slipway.errors import ConfigError, PipelineError
from slipway.settings import Settings, settings

IMAGE = f"registry.example.com/slipway/pipeline@sha256:{'a' * 64}"
TRAIN = f"registry.example.com/slipway/training@sha256:{'b' * 64}"
API = Path(kfp_server_api.__file__).parent / "api"
KNOWN = {  # (verb, path as a pattern), as the client's source has them
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


@pytest.fixture
def fake():
    server = Fake()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


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
    ingest, train = task("ingest", 100, "SUCCEEDED", executor="SKIPPED"), task("train", 200, "RUNNING")
    fake.script = [
        ("PENDING", []),
        ("RUNNING", [*ingest, *task("train", 200, "RUNNING", executor="PENDING")]),
        ("RUNNING", [*ingest, *train]),
        ("RUNNING", [*ingest, *task("train", 200, "RUNNING", tries=("FAILED", "RUNNING"))]),
        (
            "SUCCEEDED",
            [
                *ingest,
                *task("train", 200, "SUCCEEDED", tries=("FAILED", "SUCCEEDED")),
                *task("evaluate", 300, "SUCCEEDED"),
                node("condition-1", 400, "SUCCEEDED"),
                *task("register", 500, "SUCCEEDED"),
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
    fake.script = [("RUNNING", task("train", 200, "RUNNING", executor="PENDING"))]
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


def test_a_closed_gate_is_no_failure_and_is_told(fake, env, run):
    fake.script = [("SUCCEEDED", [*task("evaluate", 300, "SUCCEEDED"), node("condition-1", 400, "SKIPPED")])]
    assert follow(run, env).admitted is False
    fake.script = [("SUCCEEDED", task("load", 300, "SUCCEEDED"))]
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
    fake.script = [("FAILED", task("ingest", 100, "FAILED", tries=("FAILED", "FAILED")))]
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


# --- schedules


def test_a_schedule_is_made_listed_paused_and_deleted(fake, env):
    store = env.model_copy(update={"store_uri": "s3://bucket/slipway", "data_set": "shop"})
    made = schedules.create("nightly", "0 30 2 * * *", Parameters(data="lake"), store)
    [kept] = fake.schedules.values()
    assert kept["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert (kept["no_catchup"], kept["mode"], kept["service_account"]) == (True, "ENABLE", "slipway-runner")
    asked = kept["runtime_config"]["parameters"]
    assert asked["data"] == "lake:shop", "its newest version, when it runs"
    assert asked["data_version"] == asked["champion"] == "[[RunUUID]]", "no run takes another's data from the cache"
    kubeflow = Kubeflow(env)
    assert [(s.id, s.name, s.state) for s in schedules.every(kubeflow)] == [(made.id, "nightly", "ENABLED")]
    kubeflow.switch(schedules.find("nightly", kubeflow).id, on=False)
    assert schedules.find("nightly", kubeflow).state == "DISABLED"
    with pytest.raises(ConfigError, match="a schedule 'nightly' already"):
        schedules.create("nightly", "0 0 3 * * *", Parameters(), env)
    kubeflow.unschedule(made.id)
    with pytest.raises(ConfigError, match="no schedule 'nightly'"):
        schedules.find("nightly", kubeflow)


NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def test_the_seconds_come_first():
    assert schedules.dates("0 30 2 * * *", NOW, 2) == [
        datetime(2026, 11, 23, 2, 30, tzinfo=UTC),
        datetime(2026, 11, 24, 2, 30, tzinfo=UTC),
    ]
    assert schedules.dates("*/20 * * ? * 1-5", NOW, 1)[0] - NOW > timedelta(hours=20), "it is a Sunday"


@pytest.mark.parametrize(
    ("cron", "match", "remedy"),
    [
        ("30 2 * * *", "has five fields", 'write "0 30 2 \\* \\* \\*"'),
        ("0 30 25 * * *", "no schedule", "02:30 UTC"),
        ("0 30 2 * * 7", "day of the week", "Sunday is 0"),
        ("0 30 2 L * *", "no schedule", "six fields"),
        ("0 30 2 * *; *", "as month|as day", "six fields"),
        ("? 30 2 * * *", "as second", "six fields"),
        ("0 0 0 31 2 *", "no schedule", "six fields"),
        ("nightly", "it has 1 fields", "six fields"),
    ],
)
def test_a_cron_that_never_comes_is_refused_here(cron, match, remedy):
    with pytest.raises(ConfigError, match=match) as refused:
        schedules.dates(cron, NOW, 1)
    assert re.search(remedy, refused.value.remedy)


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
    fake.script = [("RUNNING", task("train", 200, "RUNNING"))]
    process = slipway(env, "follow", run)
    shown = ""
    for line in process.stdout:
        shown += line
        if "train" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"the run goes on; follow it again: slipway follow {run}" in said
    assert f"slipway cancel {run}" in said
    assert "run the same command again" not in said, "that would start a second one"


def test_the_gates_exit_code_and_a_cancelled_run(fake, env, run):
    fake.script = [("SUCCEEDED", task("evaluate", 300, "SUCCEEDED"))]
    shown = io.StringIO()
    with pytest.raises(typer.Exit) as ended:
        show(Console(file=shown), run, env)
    assert ended.value.exit_code == 3
    assert "refused the challenger" in shown.getvalue()
    Kubeflow(env).terminate(run)
    with pytest.raises(PipelineError, match="was cancelled"):
        follow(run, env)


def test_a_schedule_on_the_command_line(fake, env, monkeypatch):
    for name in ("home", "kfp_endpoint", "image", "training_image"):
        monkeypatch.setenv(f"SLIPWAY_{name.upper()}", str(getattr(env, name)))
    settings.cache_clear()
    wanted = ["create", "nightly", "--cron", "0 30 2 * * *", "--data", "simulated"]
    assert CliRunner().invoke(schedule.app, wanted).exit_code == 0
    [kept] = fake.schedules.values()
    assert kept["runtime_config"]["parameters"]["policy"] == "default"
    for command, state in (("pause", "DISABLED"), ("resume", "ENABLED")):
        assert CliRunner().invoke(schedule.app, [command, "nightly"]).exit_code == 0
        assert kept["status"] == state
    assert CliRunner().invoke(schedule.app, ["list"]).exit_code == 0
    assert CliRunner().invoke(schedule.app, ["delete", "nightly"]).exit_code == 0
    assert not fake.schedules
    settings.cache_clear()
