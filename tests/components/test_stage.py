"""A build in staging: a good one passes, a slow, a failing and a wrong one are refused by name, and none stays.

The embedded KServe, Envoy, the model server and locust are real. The bad builds are the real server under a command of
its runtime that delays, fails or turns answers round, as the file beside it says.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.stage import service, step, suite
from components.stage.endpoint import Endpoint
from components.stage.suite import Finding, Result, different, overlap
from components.stage.verdict import RefusedError, Verdict
from load_tests import run as load
from serving.embedded import stack
from slipway import storage
from slipway.errors import ConfigError, StagingError
from slipway.package import Package
from slipway.settings import Settings, settings
from slipway.tracking import Tracker

ROOT = Path(__file__).parents[2]

FAULTY = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from serving import rest, server
fault = Path({fault!r})
answer = rest.Application.__call__
async def faulty(self, scope, receive, send):
    how = json.loads(fault.read_text())
    if scope["type"] != "http" or scope["method"] != "POST":
        return await answer(self, scope, receive, send)
    await asyncio.sleep(how.get("delay", 0))
    if how.get("fail"):
        self.number = getattr(self, "number", 0) + 1
        if self.number % how["fail"] == 0:
            await send({{"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]}})
            return await send({{"type": "http.response.body", "body": b""}})
    kept = []
    async def keep(message):
        kept.append(message)
    await answer(self, scope, receive, keep)
    start, body = kept
    if how.get("turn") and start["status"] == 200 and body["body"][:1] == b"{{":
        said = json.loads(body["body"])
        for output in said.get("outputs", []):
            if output["name"] == "item_id" and "data" in output:
                output["data"] = output["data"][::-1]
        body = body | {{"body": json.dumps(said).encode()}}
        rest_of = [h for h in start["headers"] if h[0] != b"content-length"]
        start = start | {{"headers": [*rest_of, (b"content-length", b"%d" % len(body["body"]))]}}
    await send(start)
    await send(body)
rest.Application.__call__ = faulty
sys.exit(server.main())
"""

SLO = {
    "name": "tests",
    "about": "A few seconds, on a machine that runs other tests beside",
    "load": {
        **{"rate": 20, "ramp": 1, "plateau": 3, "spike_factor": 2, "spike": 1.5, "recovery": 0.5},
        **{"think": 0.3, "timeout": 10},
    },
    "objectives": {
        name: {"value": value, "because": "tests run beside others"}
        for name, value in {
            **{"p50_ms": 300, "p95_ms": 900, "p99_ms": 1500, "error_rate": 0.0, "fallback_share": 0.02},
            **{"throughput": 12, "concurrency": 3, "duration_s": 6},
        }.items()
    },
}
# A good build's: that it keeps the limits of a quiet machine is no test's business.
PATIENT = {"p50_ms": 5000, "p95_ms": 8000, "p99_ms": 9000, "fallback_share": 1.0, "throughput": 1, "concurrency": 1}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Staging:
    env: Settings
    uri: str
    slo: str
    patient: str
    folder: Path
    package: Package

    def stage(self, run_id: str = "", **more: Any) -> Verdict:
        return step.stage("movies", self.uri, run_id, self.patient, lambda *_: None, **more)

    def services(self) -> list[str]:
        return [f"{s.namespace}/{s.name}" for s in stack.status(self.env)[1]]

    def documents(self, **fault: float) -> list[dict[str, Any]]:
        """Of the package, on a runtime whose command is the faulty server."""
        self.fault(**fault)
        script = self.folder / "faulty.py"
        script.write_text(FAULTY.format(root=str(ROOT), fault=str(self.folder / "fault.json")))
        documents = service.documents(self.package.manifest, name="movies", package_uri=self.uri, image="none")
        documents[0]["spec"]["containers"][0]["command"] = ["python", str(script)]
        return documents

    def fault(self, **how: float) -> None:
        (self.folder / "fault.json").write_text(json.dumps(how))


@pytest.fixture(scope="module")
def staging(movies_package: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    folder = tmp_path_factory.mktemp("staging")
    (folder / "slo.yaml").write_text(yaml.safe_dump(SLO))
    limits = {name: {**one, "value": PATIENT.get(name, one["value"])} for name, one in SLO["objectives"].items()}
    (folder / "patient.yaml").write_text(yaml.safe_dump({**SLO, "objectives": limits}))
    patch = pytest.MonkeyPatch()
    patch.setenv("SLIPWAY_HOME", str(folder / "home"))
    patch.setenv("SLIPWAY_HTTP_PORT", str(free_port()))
    patch.setenv("SLIPWAY_API_PORT", str(free_port()))
    settings.cache_clear()
    env = settings()
    try:
        stack.up(env)
        patch.setenv("KUBECONFIG", str(stack.kubeconfig(env)))
        uri = f"{env.store}/packages/movies/tiny"
        storage.put_tree(movies_package.package, uri)
        slo, patient = (str(folder / f"{name}.yaml") for name in ("slo", "patient"))
        yield Staging(env, uri, slo, patient, folder, Package.open(movies_package.package))
    finally:
        stack.down(env)
        patch.undo()
        settings.cache_clear()


@pytest.mark.slow
def test_a_good_build_passes_and_leaves_its_evidence(staging: Staging, tmp_path: Path) -> None:
    tracker = Tracker(staging.env.tracking, "movies")
    run = tracker.start("stage", {})
    page = tmp_path / "page.html"
    verdict = staging.stage(run.id, report=page)
    assert verdict.passed
    assert [f.name for f in verdict.findings if f.result is not Result.PASSED] == []
    assert verdict.load is not None
    assert verdict.load.document["versions"] == [staging.package.version]
    assert staging.services() == []
    logged = tracker.client.get_run(run.id).data
    assert logged.tags["staging"] == "passed"
    assert logged.metrics["staging/error_rate"] == 0
    assert 0 < logged.metrics["staging/p50_ms"] <= logged.metrics["staging/p99_ms"]
    files = {Path(f.path).name for f in tracker.client.list_artifacts(run.id, "staging")}
    assert files >= {"report.html", "staging.json", "requests.csv", "latency.png", "rate.png", "locust.html"}
    html = page.read_text()
    assert "data:image/png;base64," in html
    assert "http" not in html.replace(verdict.url, "")  # opens without a network


@pytest.mark.slow
def test_slow_failing_and_wrong_builds_are_refused_by_name(staging: Staging) -> None:
    """One service for all: a server starts in seconds, and what is tried is the judgement."""
    with service.deployed(staging.documents(), lambda *_: None, kubeconfig=stack.kubeconfig(staging.env)) as url:
        with pytest.raises(StagingError, match="another staging of movies goes on"):
            staging.stage()

        def findings() -> dict[str, Finding]:
            with Endpoint(url, "movies", staging.package.manifest.signature) as endpoint:
                return {f.name: f for f in suite.run(suite.Staged(endpoint, staging.package, False))}

        def loaded(name: str) -> Verdict:
            out = staging.folder / name
            out.mkdir()
            chosen = load.run(
                step.slo.read(staging.slo), staging.slo, url, out, lambda *_: None, package=staging.package.folder
            )
            return Verdict(staging.package.version, url, "tests", (), chosen, 0.0)

        staging.fault(turn=1)
        wrong = findings()
        assert wrong["golden answers"].result is Result.FAILED
        assert "'item_id' differs in" in wrong["golden answers"].detail
        assert wrong["gRPC"].result is Result.FAILED  # answers as recorded, and so not as V2 JSON does
        assert wrong["readiness"].result is Result.PASSED

        staging.fault(delay=1.0)
        slow = loaded("slow")
        assert slow.load is not None
        assert {o.name for o in slow.load.outcomes if not o.held} >= {"p50_ms", "p95_ms"}
        assert any(b.startswith("p50_ms is ") for b in slow.broken), slow.broken
        assert slow.load.document["reasons"].keys() <= {"never sent"}  # by people who still waited at the end

        staging.fault(fail=4)
        failing = loaded("failing")
        assert failing.load is not None
        assert failing.load.measured["error_rate"] == pytest.approx(0.25, abs=0.03)
        assert failing.load.document["reasons"].keys() == {"HTTP 500"}
        assert any(b.startswith("error_rate is 0.2") for b in failing.broken)
    assert staging.services() == []


@pytest.mark.slow
def test_a_build_that_never_becomes_ready_and_a_killed_staging_leave_nothing(staging: Staging) -> None:
    broken = staging.documents()
    broken[0]["spec"]["containers"][0]["command"] = ["python", "-c", "raise SystemExit('no such model')"]
    with pytest.raises(RefusedError, match=r"deployment: .*no such model") as error:
        staging.stage(wanted=broken)
    assert "Traceback" not in str(error.value)
    assert "slipway-stage-" not in error.value.remedy, "a folder that is gone"
    assert not error.value.verdict.passed
    assert error.value.verdict.load is None
    assert staging.services() == []
    code = "import sys; from components.stage.step import run; run('movies', sys.argv[1], '', sys.argv[2])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, staging.uri, staging.slo],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for the model" in line:
            break
    process.send_signal(signal.SIGTERM)  # a pod that is deleted
    said = process.stdout.read()
    assert process.wait(240) == 130
    assert "interrupted" in said
    assert staging.services() == []


def test_a_misspelt_slo_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match="there is no SLO"):
        step.stage("movies", "file:///nowhere", "", "stagging", lambda *_: None)


def test_capture_is_off_in_staging(movies_package: Any) -> None:
    manifest = Package.open(movies_package.package).manifest
    runtime, isvc = service.documents(manifest, name="movies", package_uri="file:///p", image="x")
    env = {e["name"]: e["value"] for e in runtime["spec"]["containers"][0]["env"]}
    assert env["SLIPWAY_CAPTURE"] == "false"
    assert {d["metadata"]["namespace"] for d in (runtime, isvc)} == {"staging"}
    assert isvc["metadata"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"
    elsewhere = service.documents(manifest, name="movies", package_uri="file:///p", image="x", namespace="trials")
    assert {d["metadata"]["namespace"] for d in elsewhere} == {"trials"}


def test_differences_are_told_in_words() -> None:
    want = {"item_id": np.array([[3, 1]]), "score": np.array([[0.5, 0.25]], dtype=np.float32)}
    assert different(want, want) == ""
    assert different({**want, "score": want["score"] + np.float32(1e-6)}, want) == ""
    assert "'score' differs in 2 of 2" in different({**want, "score": want["score"] * 2}, want)
    assert "value 0 is 1, 3 was recorded" in different({**want, "item_id": np.array([[1, 3]])}, want)
    assert "shape [1, 1]" in different({**want, "item_id": np.array([[1]])}, want)
    assert "no 'score'" in different({"item_id": want["item_id"]}, want)
    assert overlap({"item_id": np.array([[1, 9]])}, want) == 0.5
    assert overlap({"item_id": np.array([[1]])}, want) == 1.0  # nothing to compare


def test_a_verdict_without_a_load_is_a_refusal() -> None:
    good = Finding("readiness", Result.PASSED, "", 0.0)
    verdict = Verdict("abc", "http://x", "demo", (good,), None, 1.0)
    assert verdict.broken == ["it was not loaded"]
    bad = replace(verdict, findings=(good, Finding("V1", Result.FAILED, "<b>&", 0.0)))
    assert bad.broken == ["V1: <b>&"]
    page = bad.html({})
    assert "&lt;b&gt;&amp;" in page
    assert "refused" in page
