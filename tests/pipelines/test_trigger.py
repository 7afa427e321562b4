"""Causes become runs: one per lane in a window, over real HTTP, from signed pushes and the real Alertmanager."""

import asyncio
import contextlib
import hashlib
import hmac
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from cli import trigger
from pipelines.trigger import cause
from pipelines.trigger.book import RETRY, Book, Policy, Word
from pipelines.trigger.cause import Alerts, Cause, Ignored, Reason
from pipelines.trigger.dispatcher import Dispatcher
from pipelines.trigger.service import MAX_BODY, Bucket, Secrets, application
from slipway.errors import ConfigError, PipelineError, RequestError, StorageError
from slipway.storage import FolderStore

HTTP = httpx.Client(trust_env=False)  # one: each reads every certificate authority that there is
TOKEN, SECRET = "t" * 32, "s" * 32
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
POLICY = Policy()
STORE = "s3://lake-bucket/slipway"
COMMIT, OTHER = "a" * 40, "b" * 40


def push(after=COMMIT, ref="refs/heads/main", files=("slipway/package.py",), **more):
    commits = [{"id": after, "added": [], "removed": [], "modified": list(files)}]
    return {"ref": ref, "after": after, "repository": {"full_name": "o/r"}, "commits": commits} | more


def alert(name="Drift", status="firing", fingerprint="1f", label="retrain", **labels):
    labels = {"alertname": name, "action": label, **labels}
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "users changed"},
        "startsAt": "2026-11-22T02:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }


def webhook(*alerts):
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "retrain", "alerts": list(alerts)}


def created(*keys, bucket="lake-bucket", event="ObjectCreated:Put"):
    return {"Records": [{"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": k}}} for k in keys]}


def delta(version, data_set="movies"):
    return f"slipway/processed/{data_set}/events/_delta_log/{version:020}.json"


# What messages mean


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (push(ref="refs/heads/feature"), "not the branch"),
        (push(files=["docs/cluster.md", "README.md"]), "none of the 2"),
        (push(deleted=True), "deleted"),
    ],
)
def test_a_push_that_changes_no_training_code_starts_nothing(payload, why):
    found = cause.of_push(payload, "o/r", "main", POLICY.training_code)
    assert isinstance(found, Ignored)
    assert why in found.why


@pytest.mark.parametrize("commits", [[], [{"modified": ["docs/x.md"]}] * cause.MAX_COMMITS])
def test_a_push_whose_files_are_not_all_listed_counts(commits):
    assert cause.of_push(push(commits=commits), "o/r", "main", POLICY.training_code).key == COMMIT


@pytest.mark.parametrize(
    "payload", [[], {}, push(after="x"), push() | {"repository": {}}, push() | {"commits": [1]}, "push"]
)
def test_what_is_no_push_is_refused(payload):
    with pytest.raises(RequestError, match=r"GitHub's push event|not to"):
        cause.of_push(payload, "o/r", "main", POLICY.training_code)


def test_alerts_that_ask_for_training_are_told_apart_from_those_that_are_over():
    told = cause.of_alerts(
        webhook(
            alert(data_set="ml-1m"),
            alert("SLO", label="page"),
            alert(fingerprint="2f", status="resolved"),
            alert("X\n"),
        ),
        "action",
        "retrain",
    )
    assert [c.data for c in told.firing] == ["lake:ml-1m", ""]
    assert [c.what for c in told.firing] == ["Drift: users changed", "X : users changed"]
    assert told.over == ("2f@2026-11-22T02:00:00+00:00",)
    assert cause.of_alerts(webhook(alert(label="page")), "action", "retrain") == Alerts((), ())


@pytest.mark.parametrize("payload", [{}, webhook(), webhook() | {"version": "3"}, webhook({"status": "firing"})])
def test_what_is_no_alertmanager_is_refused(payload):
    with pytest.raises(RequestError, match="Alertmanager"):
        cause.of_alerts(payload, "action", "retrain")


def test_the_newest_version_of_each_data_set_is_a_cause():
    found = cause.of_data(created(delta(4), delta(12), delta(1, "ml-1m"), "slipway/models/x.json"), STORE)
    assert [c.data for c in found] == ["lake:ml-1m@1", "lake:movies@12"]
    event = {"source": "aws.s3", "detail": {"bucket": {"name": "lake-bucket"}, "object": {"key": delta(7)}}}
    assert [c.key for c in cause.of_data(event, STORE)] == ["lake:movies@7"]
    assert [c.key for c in cause.of_data({"data_set": "movies", "version": 3}, STORE)] == ["lake:movies@3"]


def test_a_snapshot_that_a_run_itself_takes_starts_no_run():
    own = created(
        "slipway/models/movies/snapshots/ab12.json", "slipway/checkpoints/x", delta(3), event="ObjectRemoved:Delete"
    )
    assert isinstance(cause.of_data(own, STORE), Ignored)
    assert isinstance(cause.of_data({"Service": "Amazon S3", "Event": "s3:TestEvent"}, STORE), Ignored)


@pytest.mark.parametrize(
    ("payload", "store"),
    [
        (created(delta(1), bucket="other"), STORE),
        (created(delta(1)), "file:///lake"),
        ({"data_set": "../x", "version": 1}, STORE),
        ({"data_set": "movies", "version": -1}, STORE),
        ({}, STORE),
        ([], STORE),
    ],
)
def test_a_notification_from_elsewhere_is_refused(payload, store):
    with pytest.raises(RequestError):
        cause.of_data(payload, store)


# When a run starts


def data_cause(version):
    return cause.of_data({"data_set": "movies", "version": version}, STORE)[0]


def minutes(count):
    return NOW + timedelta(minutes=count)


def started(book, at, build="new", commit=""):
    entry = book.next(at, POLICY, build)
    return book.begin(entry, at, build, commit).end(entry.lane, "run")


def test_at_most_one_run_in_a_window_and_the_last_cause_is_not_forgotten():
    book, word = Book().offer(data_cause(1), NOW, POLICY, "b")
    assert word is Word.WAITS
    book = started(book, NOW)
    for version in (2, 4, 3):
        book, word = book.offer(data_cause(version), minutes(10), POLICY, "b")
    assert word is Word.JOINED
    assert book.next(minutes(POLICY.data_minutes - 1), POLICY, "b") is None
    entry = book.next(minutes(POLICY.data_minutes), POLICY, "b")
    assert entry.cause.data == "lake:movies@4"
    assert book.offer(data_cause(2), minutes(11), POLICY, "b")[1] is Word.KNOWN
    assert book.offer(data_cause(1), minutes(11), POLICY, "b")[1] is Word.KNOWN


def test_lanes_do_not_wait_for_each_other_but_share_the_day():
    book = started(Book().offer(data_cause(1), NOW, POLICY, "b")[0], NOW)
    for number in range(POLICY.runs_per_day - 1):
        asked = Cause(reason=Reason.MANUAL, key=f"m-{number}", what="")
        book = started(book.offer(asked, NOW, POLICY, "b")[0], NOW)
    book, _ = book.offer(Cause(reason=Reason.MANUAL, key="m-last", what=""), NOW, POLICY, "b")
    assert book.next(minutes(23 * 60), POLICY, "b") is None
    assert book.next(minutes(24 * 60 + 1), POLICY, "b") is not None


def test_an_alert_that_is_over_before_its_run_began_starts_none():
    one, two = cause.of_alerts(webhook(alert(), alert(fingerprint="2f")), "action", "retrain").firing
    book = Book().offer(one, NOW, POLICY, "b")[0].offer(two, NOW, POLICY, "b")[0]
    book = book.withdraw((one.key,))
    assert book.next(NOW, POLICY, "b") is not None
    assert book.withdraw((two.key,)).next(NOW, POLICY, "b") is None


def pushed(after):
    return cause.of_push(push(after), "o/r", "main", POLICY.training_code)


def test_a_push_waits_for_its_own_image():
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    assert book.next(minutes(60), POLICY, "old") is None, "the service of the code before would train the code before"
    book = started(book, minutes(60), "new", commit=COMMIT)  # an image came, of another commit
    assert book.next(minutes(600), POLICY, "new") is None
    book = started(book, minutes(120), "newest", commit=OTHER)
    assert not book.waiting
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    book, gone = book.expire(NOW + timedelta(hours=25), POLICY)
    assert not book.waiting
    assert [w.cause.key for w in gone] == [OTHER]


def test_a_start_that_fails_is_tried_again_later_and_given_up():
    book, _ = Book().offer(data_cause(1), NOW, POLICY, "b")
    at = NOW
    for attempt in range(POLICY.attempts):
        entry = book.next(at, POLICY, "b")
        book = book.begin(entry, at, "b", "").fail(entry, at, POLICY, "away")
        if attempt < POLICY.attempts - 1:
            assert book.next(at, POLICY, "b") is None
            at += RETRY * 2**attempt
    assert not book.waiting
    assert [s.error for s in book.started] == ["away"]


def test_a_failed_start_of_a_push_goes_on_with_the_same_image():
    book, _ = Book().offer(pushed(OTHER), NOW, POLICY, "old")
    entry = book.next(NOW, POLICY, "new")
    book = book.begin(entry, NOW, "new", COMMIT).fail(entry, NOW, POLICY, "away")
    assert book.next(NOW + RETRY, POLICY, "new") is not None


def test_a_start_that_was_cut_off_is_told_and_not_repeated():
    book, _ = Book().offer(data_cause(1), NOW, POLICY, "b")
    book = book.begin(book.next(NOW, POLICY, "b"), NOW, "b", "")
    book, lost = Book.model_validate_json(book.model_dump_json()).recover()
    assert lost == ("data:movies",)
    assert "look whether" in book.started[0].error
    assert book.offer(data_cause(1), NOW, POLICY, "b")[1] is Word.KNOWN


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


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found


def test_an_alert_is_one_run_however_often_it_is_told(client, starts):
    for code in (202, 200, 200):
        answer = client.post("/alerts", json=webhook(alert()), headers=bearer())
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

    asyncio.run(asyncio.wait_for(restarted(), 10))
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
    answer = client.post(path, json=webhook(alert()), headers=headers)
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
    answer = client.post("/alerts", json=webhook(alert()), headers=bearer())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert not starts.causes
    (tmp_path / "triggers").unlink()
    assert client.post("/alerts", json=webhook(alert()), headers=bearer()).status_code == 202
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
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
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


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """The runs that it starts are refused by an absent Kubeflow."""
    with served(tmp_path_factory.mktemp("serving"), f"http://127.0.0.1:{free_port()}") as found:
        yield found


def test_the_real_alertmanager_starts_a_run_once(serving, tmp_path):
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("there is no Alertmanager here; on Debian: apt-get install prometheus-alertmanager")
    _, _, port = serving
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
        eventually(lambda: answers(f"http://127.0.0.1:{mine}/-/ready"), 20)
        posted = [
            {"labels": {"alertname": "Drift", "action": "retrain"}, "annotations": {"summary": "users changed"}},
            {"labels": {"alertname": "SlowAnswers", "severity": "page"}},
        ]
        HTTP.post(f"http://127.0.0.1:{mine}/api/v2/alerts", json=posted).raise_for_status()

        def told():
            text = HTTP.get(f"http://127.0.0.1:{port}/metrics").text
            return 'code="202",path="/alerts"} 1.0' in text and 'code="200",path="/alerts"}' in text

        eventually(told, 20)  # told again, it is known
    book = HTTP.get(f"http://127.0.0.1:{port}/runs", headers=bearer()).json()
    entries = [w["cause"]["what"] for w in book["waiting"]] + [s["what"] for s in book["started"]]
    assert entries.count("Drift: users changed") == 1
    assert not any("SlowAnswers" in entry for entry in entries)


@pytest.mark.slow
def test_a_person_asks_and_the_run_that_kubeflow_cannot_take_waits_for_another_try(serving):
    command, environment, port = serving
    asked = subprocess.run([*command, "send", "manual"], env=environment, capture_output=True, text=True, check=True)
    assert "waits" in asked.stdout

    def retried():
        text = HTTP.get(f"http://127.0.0.1:{port}/metrics").text
        return 'slipway_trigger_runs_total{outcome="retried",reason="manual"} 1.0' in text

    eventually(retried, 240)
    shown = subprocess.run([*command, "show"], env=environment, capture_output=True, text=True, check=True)
    assert "manual" in shown.stdout
    assert "waits" in shown.stdout
    wrong = environment | {"SLIPWAY_TRIGGER_TOKEN": "w" * 16}
    refused = subprocess.run([*command, "show"], env=wrong, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def kubeflow():
    """The contract fake of Kubeflow Pipelines' API that the cluster runner is tested with: nothing real exists here."""
    path = Path(__file__).with_name("test_cluster.py")
    spec = importlib.util.spec_from_file_location("contract_fake_of_kubeflow", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Fake()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_push_becomes_a_run_on_kubeflow_when_its_image_runs(kubeflow, tmp_path):
    images = {f"SLIPWAY_{name}": f"r.example.com/x@sha256:{'ab' * 32}" for name in ("IMAGE", "TRAINING_IMAGE")}
    (tmp_path / "policy.yaml").write_text("data: simulated\nprofile: demo\n")
    more = images | {"SLIPWAY_TRIGGER_GITHUB_SECRET": SECRET, "SLIPWAY_TRIGGER_REPOSITORY": "o/r"}
    words = ["--policy", str(tmp_path / "policy.yaml")]
    home = tmp_path / "home"
    # The service of the commit before takes the push, and is replaced by one of its image.
    policy = trigger.read_policy(tmp_path / "policy.yaml")
    before = Dispatcher(FolderStore(home / "objects"), policy, Starts(), "the code before", OTHER, every=0.05)
    with TestClient(application(before, Secrets(TOKEN, SECRET), "o/r", STORE)) as client:
        assert github(client, push()).status_code == 202
    assert before.book.waiting
    with served(home, kubeflow.endpoint, *words, **more, SLIPWAY_GIT_COMMIT=COMMIT) as (_, _, port):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: "slipway_trigger_runs_total{" in HTTP.get(f"{url}/metrics").text, 240)
        book = HTTP.get(f"{url}/runs", headers=bearer()).json()
        [run] = kubeflow.runs.values()
        assert [started["run"] for started in book["started"]] == [run["run_id"]], book
        assert not book["waiting"]
    assert run["runtime_config"]["parameters"]["deploy"] is False


def test_a_policy_with_a_misspelt_key_is_refused(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("data_minute: 5\n")
    with pytest.raises(ConfigError, match="data_minute"):
        trigger.read_policy(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        trigger.read_policy(Path("/nowhere.yaml"))
    path.write_text("data_minutes: 5\n")
    assert trigger.read_policy(path).window(Reason.DATA) == timedelta(minutes=5)


def test_the_command_is_one_that_a_person_could_give():
    from typer.main import get_command
    from typer.testing import CliRunner

    from cli.main import app

    words = trigger.command(POLICY, data_cause(3), trigger.Runner.cluster)
    assert words[:7] == ["run", "--workload", "movies", "--profile", "full", "--data", "lake:movies@3"]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "--help"]).output
    assert get_command(app).commands["run"]
    assert all(word.removeprefix("--no-") in shown for word in words if word.startswith("--"))


def test_the_runs_id_is_found_in_what_the_command_says():
    assert trigger.run_id("submitted run 0b2c3d4e-0000-4000-8000-123456789abc to Kubeflow") == (
        "0b2c3d4e-0000-4000-8000-123456789abc"
    )
    assert trigger.run_id("nothing") == ""
