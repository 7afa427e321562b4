"""Causes become runs: one per lane in a window, over real HTTP, from signed pushes and the real Alertmanager."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cli import trigger
from pipelines.trigger.book import Policy
from pipelines.trigger.dispatcher import Dispatcher
from pipelines.trigger.service import MAX_BODY, Bucket, Secrets, application
from slipway.errors import PipelineError, StorageError
from slipway.settings import settings
from slipway.storage import FolderStore

HTTP = httpx.Client(trust_env=False, timeout=60)  # one: each reads every certificate authority that there is
TOKEN, SECRET = "t" * 32, "s" * 32
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
POLICY = Policy()
STORE = "s3://lake-bucket/slipway"
COMMIT, OTHER = "a" * 40, "b" * 40


def push(after=COMMIT, **more):
    commits = [{"id": after, "added": [], "removed": [], "modified": ["slipway/package.py"]}]
    payload = {"ref": "refs/heads/main", "after": after, "repository": {"full_name": "o/r"}, "commits": commits}
    return payload | more


def webhook():
    alert = {
        "status": "firing",
        "labels": {"alertname": "Drift", "action": "retrain"},
        "annotations": {"summary": "users changed"},
        "startsAt": "2026-11-22T02:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": "1f",
    }
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "retrain", "alerts": [alert]}


# Over HTTP


class Starts:
    """Records what is asked of it; the real start is tried at the end of this file."""

    def __init__(self):
        self.causes, self.fail = [], False

    async def __call__(self, asked):
        if self.fail:
            raise PipelineError("Kubeflow is away", "")
        self.causes.append(asked)
        return f"run-{len(self.causes)}"


@pytest.fixture
def starts():
    return Starts()


@pytest.fixture
def client(tmp_path, starts):
    dispatcher = Dispatcher(FolderStore(tmp_path), POLICY, starts, "build", every=0.05)
    app = application(dispatcher, Secrets(TOKEN, SECRET), "o/r", STORE, Bucket(rate=1000, burst=1000))
    with TestClient(app) as client:
        yield client


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


def github(client, payload, secret=SECRET, event="push", **headers):
    body = json.dumps(payload).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": signature, "Content-Type": "application/json"} | headers
    return client.post("/github", content=body, headers=headers)


def eventually(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found


def test_an_alert_is_one_run_however_often_it_is_told(client, starts):
    for code in (202, 200, 200):
        answer = client.post("/alerts", json=webhook(), headers=bearer())
        assert answer.status_code == code, answer.text
        eventually(lambda: len(starts.causes) == 1)
    book = client.get("/runs", headers=bearer()).json()
    assert [(s["run"], s["what"]) for s in book["started"]] == [("run-1", "Drift: users changed")]
    assert 'slipway_trigger_runs_total{outcome="started",reason="alert"} 1.0' in client.get("/metrics").text


def test_a_signed_push_waits_for_its_image_and_its_run_is_of_the_new_code(client, tmp_path, starts):
    assert github(client, {"zen": "…"}, event="ping").json() == {"answer": "pong"}
    assert github(client, push()).status_code == 202
    assert github(client, push()).status_code == 200
    assert github(client, {"action": "opened"}, event="issues").json()["answer"] == "ignored"
    time.sleep(0.2)
    assert not starts.causes
    after = Dispatcher(FolderStore(tmp_path), POLICY, starts, "new build", COMMIT, every=0.05)

    async def restarted():
        await after.load()
        task = asyncio.create_task(after.run())
        while not after.outcomes:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(restarted(), 120))
    assert [c.key for c in starts.causes] == [COMMIT]
    assert not after.book.waiting


@pytest.mark.parametrize(
    ("headers", "secret"),
    [({}, "x" * 32), ({"X-Hub-Signature-256": ""}, SECRET), ({"X-Hub-Signature-256": "sha1=00"}, SECRET)],
)
def test_a_push_that_github_did_not_sign_is_refused(client, starts, headers, secret):
    answer = github(client, push(), secret, **headers)
    assert answer.status_code == 401
    assert SECRET not in answer.text


def test_a_changed_byte_breaks_the_signature(client):
    body = json.dumps(push()).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    assert client.post("/github", content=body.replace(b"main", b"mian"), headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/alerts", "/data", "/runs"])
@pytest.mark.parametrize("headers", [{}, bearer("wrong" * 8), {"Authorization": f"Basic {TOKEN}"}, bearer("")])
def test_nobody_without_the_token_starts_anything(client, starts, path, headers):
    answer = client.post(path, json=webhook(), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["remedy"]
    assert TOKEN not in answer.text
    assert client.get("/runs", headers=headers).status_code == 401
    assert not starts.causes


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json", 400),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
    ids=["half", "bytes", "deep", "form", "empty", "large"],
)
def test_a_bad_body_is_an_answer_with_its_remedy(client, content, kind, code):
    answer = client.post("/alerts", content=content, headers=bearer() | {"Content-Type": kind})
    assert answer.status_code == code
    assert answer.json().keys() == {"error", "remedy"}


def test_other_paths_and_methods_are_refused(client):
    assert client.get("/alerts").status_code == 405
    assert client.get("/nowhere").json()["remedy"]
    asked = {"reason": "push", "key": "x"}
    assert client.post("/runs", json=asked, headers=bearer()).status_code == 400
    assert client.post("/runs", json={"reason": "manual", "key": "a b"}, headers=bearer()).status_code == 400
    assert client.post("/runs", json={"reason": "manual", "key": "x", "y": 1}, headers=bearer()).status_code == 400


def test_whoever_asks_too_often_is_told_when_to_come_again(tmp_path, starts):
    clock = [0.0]
    app = application(
        Dispatcher(FolderStore(tmp_path), POLICY, starts, "b"),
        Secrets(TOKEN),
        "o/r",
        STORE,
        Bucket(rate=2, burst=3, clock=lambda: clock[0]),
    )
    with TestClient(app) as client:
        codes = [client.post("/alerts", json={}, headers=bearer("x" * 16)).status_code for _ in range(4)]
        assert codes == [401, 401, 401, 429]
        clock[0] += 0.5
        assert client.post("/alerts", json={}, headers=bearer("x" * 16)).status_code == 401
        assert int(client.post("/alerts", json={}).headers["Retry-After"]) >= 1
        assert client.get("/healthz").status_code == 200
        clock[0] += 5
        assert client.post("/github", json={}).status_code == 404, "no secret, no webhook"


def test_what_the_store_does_not_take_nobody_was_promised(client, tmp_path, starts):
    (tmp_path / "triggers").write_text("in the way of the folder")
    answer = client.post("/alerts", json=webhook(), headers=bearer())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert not starts.causes
    (tmp_path / "triggers").unlink()
    assert client.post("/alerts", json=webhook(), headers=bearer()).status_code == 202
    eventually(lambda: len(starts.causes) == 1)


def test_a_failed_start_waits_and_is_counted(client, starts):
    starts.fail = True
    client.post("/runs", json={"reason": "manual", "key": "m"}, headers=bearer())
    eventually(lambda: 'outcome="retried"' in client.get("/metrics").text)
    assert "slipway_trigger_waiting 1.0" in client.get("/metrics").text


def test_a_damaged_book_is_an_error_and_not_an_empty_book(tmp_path, starts):
    (tmp_path / "triggers").mkdir()
    (tmp_path / "triggers" / "movies.json").write_text('{"started": [{}]}')
    with pytest.raises(StorageError, match="no book"):
        asyncio.run(Dispatcher(FolderStore(tmp_path), POLICY, starts, "b").load())


# The real senders and the real start


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def process(arguments, **how):
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(120)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        running.stdout.close()


def answers(url):
    with contextlib.suppress(httpx.HTTPError):
        return HTTP.get(url).status_code == 200
    return False


@contextlib.contextmanager
def served(home, kubeflow, *words, **more):
    """`slipway trigger serve` as it is deployed: (command, environment, port)."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLIPWAY_")} | {
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_TRIGGER_TOKEN": TOKEN,
        "SLIPWAY_TRIGGER_URL": f"http://127.0.0.1:{port}",
        "SLIPWAY_KFP_ENDPOINT": kubeflow,
        **more,
    }
    command = [sys.executable, "-c", "from cli.main import main; main()", "trigger"]
    with process([*command, "serve", "--port", str(port), "--runner", "cluster", *words], env=environment) as running:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 240)
        yield command, environment, port
        assert running.poll() is None


COUNTED = 'slipway_trigger_runs_total{{outcome="{}",reason="{}"}} 1.0'


@pytest.fixture(scope="module")
def service(kubeflow, tmp_path_factory):
    """(command, environment, port, Kubeflow) of the real service, which has begun the run of a push.

    One process for all of these tests: each run that it starts is a process more. The service of the commit before took
    the push and a person's run, and is replaced by one of the push's image, against the contract fake of Kubeflow.
    """
    root = tmp_path_factory.mktemp("service")
    (root / "policy.yaml").write_text("data: simulated\nprofile: demo\nmanual_minutes: 60\n")
    policy = trigger.read_policy(root / "policy.yaml")
    before = Dispatcher(FolderStore(root / "home" / "objects"), policy, Starts(), "code before", OTHER, every=0.05)
    with TestClient(application(before, Secrets(TOKEN, SECRET), "o/r", STORE)) as client:
        assert client.post("/runs", json={"reason": "manual", "key": "first"}, headers=bearer()).status_code == 202
        eventually(lambda: before.book.started and before.book.started[0].run)
        assert github(client, push()).status_code == 202
    assert before.book.waiting
    more = {f"SLIPWAY_{name}": f"r.example.com/x@sha256:{'ab' * 32}" for name in ("IMAGE", "TRAINING_IMAGE")}
    more |= {"SLIPWAY_TRIGGER_GITHUB_SECRET": SECRET, "SLIPWAY_TRIGGER_REPOSITORY": "o/r"}
    more |= {"SLIPWAY_GIT_COMMIT": COMMIT}
    words = ["--policy", str(root / "policy.yaml")]
    with kubeflow() as fake, served(root / "home", fake.endpoint, *words, **more) as (command, environment, port):
        eventually(lambda: "slipway_trigger_runs_total{" in HTTP.get(f"http://127.0.0.1:{port}/metrics").text, 240)
        yield command, environment, port, fake


@pytest.mark.slow
def test_a_push_becomes_a_run_on_kubeflow_when_its_image_runs(service):
    _, _, port, kubeflow = service
    book = HTTP.get(f"http://127.0.0.1:{port}/runs", headers=bearer()).json()
    [run] = kubeflow.runs.values()
    assert [(s["lane"], s["run"]) for s in book["started"]] == [("manual", "run-1"), ("push", run["run_id"])], book
    assert run["runtime_config"]["parameters"]["deploy"] is False


@pytest.mark.slow
def test_the_real_alertmanager_starts_a_run_once_and_what_kubeflow_cannot_take_waits_for_another_try(service, tmp_path):
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("there is no Alertmanager here; on Debian: apt-get install prometheus-alertmanager")
    _, _, port, kubeflow = service
    kubeflow.refuse["POST", "/apis/v2beta1/runs"] = (503, {"message": "upstream connect error"})
    mine = free_port()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "alertmanager.yml").write_text(f"""
route:
  receiver: nobody
  group_wait: 0s
  routes:
    - receiver: retrain
      matchers: [action="retrain"]
      group_wait: 0s
      group_interval: 1s
      repeat_interval: 1s
receivers:
  - name: nobody
  - name: retrain
    webhook_configs:
      - url: http://127.0.0.1:{port}/alerts
        http_config:
          authorization: {{credentials_file: {tmp_path / "token"}}}
""")
    arguments = [
        binary,
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{mine}",
        "--cluster.listen-address=",
    ]
    with process(arguments, env={key: value for key, value in os.environ.items() if "proxy" not in key.lower()}):
        eventually(lambda: answers(f"http://127.0.0.1:{mine}/-/ready"))
        posted = [
            {"labels": {"alertname": "Drift", "action": "retrain"}, "annotations": {"summary": "users changed"}},
            {"labels": {"alertname": "SlowAnswers", "severity": "page"}},
        ]
        HTTP.post(f"http://127.0.0.1:{mine}/api/v2/alerts", json=posted).raise_for_status()

        def told():
            text = HTTP.get(f"http://127.0.0.1:{port}/metrics").text
            return 'code="202",path="/alerts"} 1.0' in text and 'code="200",path="/alerts"}' in text

        eventually(told)  # told again, it is known
    retried = COUNTED.format("retried", "alert")
    eventually(lambda: retried in HTTP.get(f"http://127.0.0.1:{port}/metrics").text, 240)
    book = HTTP.get(f"http://127.0.0.1:{port}/runs", headers=bearer()).json()
    entries = [w["cause"]["what"] for w in book["waiting"]] + [s["what"] for s in book["started"]]
    assert entries.count("Drift: users changed") == 1
    assert not any("SlowAnswers" in entry for entry in entries)


@pytest.mark.slow
def test_a_person_asks_and_sees_what_waits(service, monkeypatch):
    command, environment, _, _ = service
    for name in ("SLIPWAY_HOME", "SLIPWAY_TRIGGER_TOKEN", "SLIPWAY_TRIGGER_URL"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    asked = CliRunner().invoke(trigger.app, ["send", "manual"])
    shown = CliRunner().invoke(trigger.app, ["show"])
    settings.cache_clear()
    assert (asked.exit_code, shown.exit_code) == (0, 0)
    assert "manual: waits, not before" in asked.output
    assert re.search(r"manual +manual +waits", shown.output), shown.output
    wrong = environment | {"SLIPWAY_TRIGGER_TOKEN": "w" * 16}
    refused = subprocess.run([*command, "show"], env=wrong, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "Traceback" not in refused.stderr
