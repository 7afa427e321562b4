"""What `make demo` does, on the smallest world: the line runs, the endpoint answers, `down` ends everything."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from slipway.workloads.movies import simulator

pytestmark = pytest.mark.slow

TRAINING = {"epochs": 6, "tokens_per_step": 1024, "warmup_steps": 30, "ranker.dim": 64, "ranker.max_len": 50}
TINY_WORDS = [f"--set=simulate.{name}={value}" for name, value in simulator.TINY.model_dump().items()]
TINY_WORDS += [f"--set=train.{name}={value}" for name, value in TRAINING.items()]
TINY_WORDS += ["--set=optimise.users=50", "--set=optimise.rounds=3", "--set=optimise.requests=2"]


@pytest.fixture(scope="module")
def slipway(tmp_path_factory, free_ports):
    """call(*words) → what the console script prints, in a home and on ports of its own; stopped at the end."""
    http, api = free_ports(2)
    env = {
        **os.environ,
        "SLIPWAY_HOME": str(tmp_path_factory.mktemp("home")),
        "SLIPWAY_HTTP_PORT": str(http),
        "SLIPWAY_API_PORT": str(api),
        "COLUMNS": "120",
        **{f"SLIPWAY_BUDGET_{part}_MS": "10000" for part in ("FEATURES", "RANKER", "RERANK", "TOTAL")},
    }

    def call(*words, code=0):
        script = Path(sys.executable).with_name("slipway")
        done = subprocess.run([script, *words], check=False, capture_output=True, text=True, env=env, timeout=400)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    call.http_port = http
    yield call
    call("down")


@pytest.fixture(scope="module")
def demo(slipway, lenient_slo):
    return slipway("run", *TINY_WORDS, f"--slo={lenient_slo}")


def test_it_prints_the_table_in_order_and_where_everything_is(demo):
    found = dict(re.findall(r"│ (\w+) +│ ([\d.]+) ±", demo))
    stages = ["popularity", "markov", "counts", "ranker", "combined", "retrieval", "reranked", "diverse", "oracle"]
    assert list(found) == stages
    assert float(found["popularity"]) < float(found["counts"]) < float(found["diverse"]) < float(found["oracle"])
    for word in ("admitted", "Report", "MLflow", "models:/movies@challenger", "Endpoint", "s of it overhead"):
        assert word in demo


def test_the_answer_is_there_at_once_with_titles_and_a_request_to_paste(demo, slipway):
    shown = slipway("recommend", "-k", "3")
    assert re.search(r"\(\d{4}\) +│ .*\(\d{4}\) +│ +\d+\.\d+ │ \w+(\+\w+)*", shown)
    command = re.search(r"curl .*", shown, re.S)[0]
    pasted = subprocess.run(command, shell=True, check=True, capture_output=True, text=True, timeout=120)
    answer = json.loads(pasted.stdout)
    assert [output["shape"] for output in answer["outputs"]] == [[1, 3]] * 4
    assert answer["parameters"]["package_version"] in demo


def test_an_unknown_user_gets_the_popular_and_a_session_changes_it(demo, slipway):
    assert "fallback: popularity" in slipway("recommend", "999999999")
    assert "fallback: session" in slipway("recommend", "999999999", "--session", "5", "--session", "6")


def test_it_was_tried_in_staging_and_given_everything_at_once(demo, slipway):
    assert re.search(r"✓ stage (.|\n)*✓ deploy", demo)
    assert "canary" not in demo


def test_status_names_the_service_and_its_revision(demo, slipway):
    shown = slipway("status")
    assert "default/movies" in shown
    assert "movies-00001 100 %" in shown


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it ended while it was looked at
        return False


def test_down_leaves_no_process_and_no_port(demo, slipway):
    mine = str(slipway.http_port)
    family = [p for p in psutil.process_iter(["environ"]) if mine == (p.info["environ"] or {}).get("SLIPWAY_HTTP_PORT")]
    assert len(family) >= 3  # the supervisor, Envoy, the model server
    slipway("down")
    assert not [p for p in family if lives(p)]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{slipway.http_port}/", trust_env=False)


def test_up_again_serves_what_was_deployed(demo, slipway):
    assert re.search(r"default/movies +│ True +│ movies-00001 100 %", slipway("up"))
    assert "fallback: none" in slipway("recommend")


AT_ONCE = {
    "name": "at-once",
    "stages": [{"name": "full", "percent": 100, "min_requests": 1, "max_seconds": 120}],
    "tests": {"errors": None, "latency": None, "reward": None},
    "likeness": None,
}


def test_a_policy_has_the_rollout_judged_instead(demo, slipway, tmp_path):
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(AT_ONCE))
    over = threading.Event()

    def ask():
        body = {"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1]}]}
        url = f"http://127.0.0.1:{slipway.http_port}/v2/models/movies/infer"
        while not over.wait(0.2):
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(url, json=body, headers={"Host": "movies.default.localhost"}, timeout=60, trust_env=False)

    people = threading.Thread(target=ask)
    people.start()
    try:
        shown = slipway("run", *TINY_WORDS, "--slo=", f"--canary={tmp_path / 'policy.yaml'}")
    finally:
        over.set()
        people.join()
    assert "✓ canary" in shown
    assert "deploy" not in re.findall(r"[✓≡✗] (\w+)", shown)
    assert re.search(r"movies-0000\d 100 %", slipway("status"))
    assert "PROMOTED" in slipway("rollout", "history", "movies").upper()
