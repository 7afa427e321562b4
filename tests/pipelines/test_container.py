"""The line with a container per step, for real: the gate open and closed, a failure's words, an interrupt."""

import io
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.main import app
from components.image import PIPELINE, TRAINING
from pipelines.parameters import EtlParameters, Parameters
from pipelines.runners import container
from pipelines.runners.engine import USER, Engine, told
from slipway.errors import ConfigError, PipelineError
from slipway.settings import Settings, settings
from slipway.workloads.movies import simulator

ROOT = Path(__file__).parents[2]
# As little as the gate admits: what is learned is the other runners' tests' business, which steps run and end is ours.
SMALL = {f"simulate.{name}": value for name, value in simulator.TINY.model_dump().items()} | {
    **{"train.epochs": 2, "train.tokens_per_step": 1024, "train.warmup_steps": 30, "train.validation_cases": 300},
    **{"train.ranker.dim": 32, "train.rerank.cases": 1000, "train.rerank.trees": 40, "evaluate.cases_per_user": 3},
    **{"optimise.users": 50, "optimise.rounds": 3, "optimise.requests": 2},
}


# --- what a container is told and given


def test_a_step_sees_its_home_its_data_and_nothing_else(tmp_path):
    for name in ("home", "data", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "slo.yaml").write_text("name: mine")
    env = Settings(home=tmp_path / "home", tracking_uri=f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    parameters = Parameters(data=str(tmp_path / "data"), slo=str(tmp_path / "slo.yaml"))
    kubeconfig = tmp_path / "home" / "serving" / "kubeconfig"
    assert container.mounts(parameters, env, kubeconfig) == {
        tmp_path / "home": True,
        tmp_path / "elsewhere": True,
        tmp_path / "data": False,
        tmp_path / "slo.yaml": False,
    }
    inside = Parameters(data=str(tmp_path / "home"))
    assert container.mounts(inside, Settings(home=tmp_path / "home"), None) == {tmp_path / "home": True}
    production = EtlParameters(source="production")
    assert container.mounts(production, Settings(home=tmp_path / "new"), None) == {tmp_path / "new": True}
    assert (tmp_path / "new").is_dir(), "the engine would make it, as root"


def test_options_forbid_what_a_pod_forbids_and_show_no_secret(tmp_path):
    engine = Engine(("podman",))
    names = told({"AWS_SECRET_ACCESS_KEY": "hunter2", "SLIPWAY_HOME": "/h", "EDITOR": "vi", "HTTP_PROXY": "p"})
    assert names == ["AWS_SECRET_ACCESS_KEY", "HTTP_PROXY", "SLIPWAY_HOME"]
    options = engine.options({tmp_path: True, Path("/data"): False}, names)
    text = " ".join(options)
    for flag in ("--read-only", "--cap-drop all", "no-new-privileges", "--rm", "--pull never", "--network host"):
        assert flag in text
    assert f"--volume {tmp_path}:{tmp_path}" in text
    assert "--volume /data:/data:ro" in text
    assert "hunter2" not in text
    if os.geteuid() == 0:
        assert f"--user {USER}:{USER}" in text


def test_no_engine_and_no_image_are_named_with_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no nonesuch") as missing:
        Engine.find("nonesuch")
    assert "--runner local" in missing.value.remedy
    broken = tmp_path / "podman"
    broken.write_text("#!/bin/sh\necho 'cannot connect to the service' >&2\nexit 125\n")
    broken.chmod(0o755)
    with pytest.raises(ConfigError, match="cannot connect to the service"):
        Engine.find(str(broken))
    with pytest.raises(ConfigError, match=r"cannot look for image.*cannot connect to the service"):
        Engine((str(broken),)).image(PIPELINE)


@pytest.mark.parametrize(
    ("images", "message", "remedy"),
    [
        ({}, f"no image {PIPELINE} and no {TRAINING} here", "images build slipway-pipeline slipway-training$"),
        ({"training_image": "x/y@sha256:12"}, f"no image {PIPELINE} and no x/y@sha256:12", "pipeline; .*pull x/y@sha"),
        (
            {"image": "mine", "training_image": "mine"},
            "no image mine here",
            "^fetch .*podman pull mine; .*SLIPWAY_IMAGE",
        ),
    ],
)
def test_each_image_that_is_not_here_is_named_with_what_brings_it(tmp_path, images, message, remedy):
    empty = tmp_path / "podman"
    empty.write_text('#!/bin/sh\ncase "$*" in *inspect*) echo "Error: $3: image not known" >&2; exit 125;; esac\n')
    empty.chmod(0o755)
    with pytest.raises(ConfigError, match=message) as missing:
        container.Containers(Settings(home=tmp_path, container_engine=str(empty), **images))
    assert re.search(remedy, missing.value.remedy)


def test_a_rebuilt_image_is_another_one_to_the_cache_and_other_code_is_told(tmp_path, monkeypatch):
    answers = tmp_path / "podman"
    answers.write_text(
        '#!/bin/sh\ncase "$*" in *inspect*) echo \'[{"Id": "sha256:abc", "Config": {"Labels":'
        ' {"org.opencontainers.image.revision": "0123"}}}]\';; esac\n'
    )
    answers.chmod(0o755)
    monkeypatch.setattr("pipelines.fingerprint.git_commit", lambda: "4567")
    found = container.Containers(Settings(home=tmp_path, container_engine=str(answers)))
    assert found.images == {PIPELINE: "abc", TRAINING: "abc"}
    assert "built from 0123" in found.stale()
    monkeypatch.setattr("pipelines.fingerprint.git_commit", lambda: "0123")
    assert found.stale() == ""


STEP = """
import os, pathlib, signal, sys, time
def end(*_):
    print("x" * 200_000, flush=True)  # more than a pipe holds
    pathlib.Path(sys.argv[1]).write_text("cleaned up")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
while True:
    print("a line", flush=True)
    time.sleep(0.01)
"""


def test_an_interrupted_container_is_listened_to_until_it_has_ended(tmp_path):
    """podman takes a closed pipe for an order to stop the container, which then lets nobody in to tell the step."""
    pids, groups = [], set()

    class Screen(io.StringIO):
        def write(self, text):
            if pids:
                raise KeyboardInterrupt
            pids.append(int(text))
            return len(text)

    def end():
        time.sleep(0.3)  # long enough for a line into a closed pipe
        groups.add(os.getpgid(pids[0]))
        os.kill(pids[0], signal.SIGTERM)
        deadline = time.monotonic() + 60
        while not done.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    done = tmp_path / "done"
    with redirect_stdout(Screen()), pytest.raises(KeyboardInterrupt):
        container.attached([sys.executable, "-c", STEP, str(done)], end)
    assert done.read_text() == "cleaned up"
    assert groups
    assert os.getpgid(0) not in groups, "a terminal's Ctrl-C would reach it beside us"


# --- for real


@pytest.fixture(scope="module")
def engine():
    """With both images in its store; where they are not, they are built."""
    if shutil.which("podman") is None and shutil.which("docker") is None:
        pytest.skip("neither podman nor docker is installed")
    try:
        found = Engine.find()
    except ConfigError as error:
        pytest.skip(error.message)
    if missing := [name for name in (PIPELINE, TRAINING) if found.image(name) is None]:
        built = subprocess.run(
            [sys.executable, "-m", "images", "build", "slipway-pipeline", "slipway-training"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=570,
            check=False,
        )
        if built.returncode != 0:
            pytest.skip(f"{missing} are not here, and they cannot be built: {(built.stderr + built.stdout)[-300:]}")
    return found


@pytest.fixture(scope="module")
def started(tmp_path_factory, engine):
    """started(*words) → `slipway run --runner container` in a process group of its own; all stopped at the end."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        http, api = one.getsockname()[1], two.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    mine = {
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_HTTP_PORT": str(http),
        "SLIPWAY_API_PORT": str(api),
        "COLUMNS": "120",
    }
    env = {**os.environ, **mine}
    script = Path(sys.executable).with_name("slipway")
    given = ["run", "--runner", "container", *(f"--set={key}={value}" for key, value in SMALL.items()), "--slo="]

    def start(*words):
        return subprocess.Popen(
            [script, *given, *words],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    start.home, start.environment, start.words = home, mine, given
    yield start
    subprocess.run([script, "down"], env=env, check=True, timeout=240)


def ended(process, code=0):
    text, _ = process.communicate(timeout=400)
    assert process.returncode == code, text
    return text


def running(engine):
    return engine.ask("ps", "--quiet", "--filter", f"label={container.LABEL}").stdout.split()


@pytest.fixture(scope="module")
def served(started):
    return ended(started())


@pytest.mark.slow
def test_an_open_gate_ends_with_an_answering_service(served, started, engine):
    steps = re.findall(r"✓ (\w+) [\d.]+ s", served)
    assert steps == ["ingest", "train", "evaluate", "optimise", "register", "stage", "deploy"]
    assert "admitted" in served
    assert "Endpoint  http://movies" in served
    assert running(engine) == []
    outputs = list(started.home.glob("runs/slipway-training-*/*/executor_output.json"))
    assert len(outputs) == 7
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in outputs} == {USER}, "no step ran as root, or outside"


@pytest.fixture
def again(started, monkeypatch):
    """again(*words) → (result, screen) of the same command in this process, which has imported everything already."""
    shown = io.StringIO()
    monkeypatch.setattr("cli.main.console", Console(file=shown, width=120))
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield lambda *words: (CliRunner().invoke(app, [*started.words, *words]), shown.getvalue())
    settings.cache_clear()


@pytest.mark.slow
def test_a_closed_gate_stops_there_and_trains_nothing_again(served, again):
    result, shown = again("--set=evaluate.gate.min_gain=0.9", "--no-deploy")
    assert result.exit_code == 3, (result.exception, shown)
    assert re.findall(r"≡ (\w+)", shown) == ["ingest", "train"]
    assert re.findall(r"✓ (\w+) [\d.]+ s", shown) == ["evaluate"]


@pytest.mark.slow
def test_a_failed_step_is_a_failed_run_with_its_words(again, tmp_path, engine):
    (tmp_path / "note.txt").write_text("no ratings here")
    tmp_path.chmod(0o755)  # the image's user is somebody else
    result, _ = again(f"--data={tmp_path}", "--no-deploy")
    assert result.exit_code == 1
    assert isinstance(result.exception, PipelineError)
    assert "step 'ingest' failed" in result.exception.message
    assert "u.data" in result.exception.message + result.exception.remedy
    assert running(engine) == []


@pytest.mark.slow
def test_ctrl_c_removes_the_container_and_says_how_to_go_on(started, engine):
    earlier = set(started.home.glob("runs/*.log"))
    process = started("--set=train.epochs=60", "--no-deploy")
    deadline = time.monotonic() + 400
    while not any('"what": "train' in log.read_text() for log in set(started.home.glob("runs/*.log")) - earlier):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(running(engine)) == 1
    os.killpg(process.pid, signal.SIGINT)
    shown = ended(process, code=130)
    assert running(engine) == []
    assert "run the same command again" in shown
    with sqlite3.connect(started.home / "mlflow.db") as database:
        states = [state for (state,) in database.execute("SELECT status FROM runs")]
    assert "KILLED" in states, "the step was told, and could clean up; RUNNING is what a mere kill leaves"
