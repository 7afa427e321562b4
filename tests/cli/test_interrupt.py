"""Ctrl-C in a run: nothing half-written, no process left, and the next run goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipway.tracking import Tracker
from slipway.workloads.movies import simulator

pytestmark = pytest.mark.slow

WORLD = {f"simulate.{name}": value for name, value in simulator.TINY.model_dump().items()}
TRAINING = {"epochs": 6, "tokens_per_step": 1024, "warmup_steps": 30, "ranker.dim": 64, "ranker.max_len": 50}
WORDS = [f"--set={name}={value}" for name, value in (WORLD | {f"train.{n}": v for n, v in TRAINING.items()}).items()]
WORDS += ["--set=optimise.users=50", "--set=optimise.rounds=3", "--set=optimise.requests=2", "--slo="]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def started(home, free_ports):
    """started() → `slipway run` in a process group of its own, as a terminal gives it; all stopped at the end."""
    http, api = free_ports(2)
    env = {
        **os.environ,
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_HTTP_PORT": str(http),
        "SLIPWAY_API_PORT": str(api),
        "COLUMNS": "120",
    }
    script = Path(sys.executable).with_name("slipway")

    def start():
        return subprocess.Popen(
            [script, "run", *WORDS],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    yield start
    subprocess.run([script, "down"], env=env, check=True, timeout=240)


def wait_for(home, process, phase, earlier):
    """Until the body of this step runs, by the log of this very run."""
    mark = f'"event": "start", "step": "{phase}"'
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        for log in set(home.glob("runs/*.log")) - earlier:
            if mark in log.read_text():
                return
        time.sleep(0.05)
    raise AssertionError(f"{phase} did not begin: {process.communicate()[0]}")


def command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended while it was looked at
        return ""


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# Every step stands in the same shell; these differ: the first, one with a checkpoint, one with a stack beside it.
@pytest.mark.parametrize("phase", ["ingest", "train", "deploy"])
def test_an_interrupt_leaves_nothing_and_says_how_to_go_on(phase, home, started):
    earlier = set(home.glob("runs/*.log"))
    process = started()
    wait_for(home, process, phase, earlier)
    steps = [p for p in psutil.Process(process.pid).children(recursive=True) if "executor_main" in command(p)]
    assert steps or phase == "deploy"  # which may be over by now
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 130, text
    assert "run the same command again" in text
    assert "Traceback" not in text
    deadline = time.monotonic() + 120
    while any(map(lives, steps)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(home.glob("objects/**/*.part"))


def test_the_next_run_goes_on_to_the_end(home, started):
    process = started()
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    for step in ("ingest", "train", "evaluate"):
        assert f"≡ {step}" in text, text
    assert "admitted" in text
    runs = Tracker(f"sqlite:///{home}/mlflow.db", "movies").client.search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"]  # interrupted in training, resumed, one run
