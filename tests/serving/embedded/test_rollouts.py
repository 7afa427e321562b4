"""Rollouts on the real embedded KServe, with a real registry and a bounded load; the servers are stand-ins."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from components.canary import step as canary
from serving.embedded import stack
from slipway.deployment import Services, apply, wait_ready
from slipway.errors import HeldError, NotReadyError, RolloutError, ServedError, StaleError
from slipway.lake.lake import Lake
from slipway.package import Package, Signature, Snapshot
from slipway.rollout import candidate, controller, launch, promotion, service
from slipway.rollout.controller import Controller, Places
from slipway.rollout.policy import Policy
from slipway.rollout.record import Entry, rollouts
from slipway.rollout.state import Phase, State
from slipway.rollout.telemetry import EmbeddedTelemetry
from slipway.settings import settings
from slipway.tracking import Tracker

STAGE = {"min_requests": 10, "min_seconds": 0.2, "max_seconds": 30}
POLICY = Policy.model_validate(
    {
        "name": "seconds",
        "stages": [
            {"name": "shadow", "percent": 0, "mirror_percent": 100} | STAGE,
            {"name": "thirty", "percent": 30} | STAGE,
            {"name": "full", "percent": 100} | STAGE,
        ],
        "tests": {"errors": None, "latency": None, "reward": None},
        "likeness": None,
        "sticky_header": "",
    }
)


@dataclass
class Rolling:
    """movies, served by package "stable" (version 1, the champion), and what a rollout of it needs."""

    embedded: Any
    places: Places
    tracker: Tracker
    load: Counter[int] = field(default_factory=Counter)

    def package(self, answer: str) -> str:
        """Registered under the next number, as `challenger`; the number."""
        folder = Path(self.embedded.package(answer).removeprefix("file://"))
        (folder / "package.json").unlink(missing_ok=True)
        sealed = Package.seal(
            folder,
            workload="movies",
            created=datetime.now(UTC),
            git_commit="0" * 40,
            pipeline_run="tests",
            data=Snapshot(uri="file:///none", sha256="0" * 64, events=1),
            signature=Signature(inputs=(), outputs=()),
            metrics={},
        )
        run = self.tracker.start("test", {})
        return self.tracker.register("movies", folder.as_uri(), sealed.version, run.id, {})

    def start(self, which: str = "@challenger", policy: Policy = POLICY) -> Controller:
        state = launch.start(self.places, which, policy, self.tracker, self.embedded.settings)
        controller.resume(self.places)
        return Controller(self.places, policy, state.id, wait=patient(120))

    @contextlib.contextmanager
    def people(self, rate: float = 120.0) -> Iterator[None]:
        """Ask until the end of the block; what was answered is counted by status."""
        over = threading.Event()

        def ask() -> None:
            while not over.wait(2 / rate):
                self.load[self.embedded.ask()[0]] += 1

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.places.services.get("movies")["spec"]["predictor"]
        return found

    @property
    def champion(self) -> str:
        return self.tracker.alias("movies")

    def answers(self) -> set[str]:
        return {self.embedded.ask()[1]["answer"] for _ in range(20)}


def patient(seconds: float) -> Callable[[float], None]:
    """A controller's `wait` that ends a test instead of waiting for ever."""
    deadline = time.monotonic() + seconds

    def wait(pause: float) -> None:
        assert time.monotonic() < deadline, "the rollout did not end in time"
        time.sleep(pause)

    return wait


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def rolling(serving: Any, registry: str, tmp_path: Path) -> Rolling:
    kubeconfig = stack.kubeconfig(serving.settings)
    services = Services("default", kubeconfig)
    tracker = Tracker(registry, "movies")
    places = Places(
        "movies",
        services,
        EmbeddedTelemetry(services),
        Lake(tmp_path.as_uri()),
        "films",
        tracker,
        every=0.1,
        lag=0.1,
        kubeconfig=kubeconfig,
    )
    one = Rolling(serving, places, tracker)
    number = one.package("stable")
    tracker.point("movies", number)
    documents = serving.documents("stable")
    container = documents[0]["spec"]["containers"][0]
    script = Path(container["command"][1])
    # A package that says so fails; everything else of the stand-in stays.
    script.write_text(script.read_text().replace('self.reply(200, {"answer"', FAILING + '{"answer"'))
    apply(documents, kubeconfig)
    wait_ready("movies", "default", 90, kubeconfig)
    return one


FAILING = 'self.reply(500 if answer == "failing" else 200, '


class Killed(BaseException):
    """As kill -9: nothing catches it."""


@dataclass
class Mortal:
    """Counts what a controller does to the world, and dies right before or after one of these."""

    at: int
    after: bool
    done: int = 0

    def wrap(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.done += 1
            if self.done == self.at and not self.after:
                raise Killed
            try:
                answer = effect(*arguments)
            except StaleError:
                self.done -= 1  # nothing was done: the reconciler wrote a status meanwhile
                raise
            if self.done == self.at:
                raise Killed
            return answer

        return call


def drive(rolling: Rolling, driver: Controller, mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> tuple[State, bool]:
    """Run the controller until it is killed, then another one to the end; whether it was killed."""
    with monkeypatch.context() as patch:
        patch.setattr(rolling.places.services, "patch", mortal.wrap(rolling.places.services.patch))
        patch.setattr(rolling.tracker, "point", mortal.wrap(rolling.tracker.point))
        try:
            return driver.run(), False
        except Killed:
            pass
    controller.resume(rolling.places)
    return Controller(rolling.places, driver.policy, driver.rollout, wait=patient(120)).run(), True


@pytest.mark.slow
@pytest.mark.usefixtures("slipway")
def test_a_good_candidate_becomes_champion_and_a_bad_one_fails_the_pipeline(
    rolling: Rolling, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(rolling.places.kubeconfig))
    stable, good = rolling.champion, rolling.package("good")
    entries: list[Entry] = []
    with rolling.people():
        driver = rolling.start()
        driver.say = entries.append
        assert driver.run().phase is Phase.PROMOTED
        assert rolling.answers() == {"good"}
        assert rolling.champion == good != stable
        assert rolling.spec["model"]["storageUri"].endswith("/good")
        assert "canaryTrafficPercent" not in rolling.spec
        assert set(rolling.load) == {200}
        with pytest.raises(RolloutError, match="already"):
            rolling.start()
        stages = [one.stage for one in driver.record.entries() if one.verdict == "advance"]
        assert stages == ["thirty", "full", "full"], "each advance was noted, with where it led"
        assert all(one.evidence for one in driver.record.entries() if one.verdict)

        rolling.package("failing")
        (tmp_path / "policy.json").write_text(POLICY.model_dump_json())
        run = rolling.tracker.start("pipeline", {})
        with pytest.raises(SystemExit) as ended:
            canary.run("movies", rolling.embedded.package("failing"), run.id, str(tmp_path / "policy.json"), every=0.1)
        assert ended.value.code == 1
        assert "requests failed, surely more than the limit" in capsys.readouterr().out
        assert run.tags()["rollout_end"] == "rolled back"
        assert rolling.champion == good
        assert rolling.spec["model"]["storageUri"].endswith("/good"), "the spec is what it was"
        assert "canaryTrafficPercent" not in rolling.spec
    assert set(rolling.load) == {200}, "it failed in the shadow, where nobody saw it"
    assert rollouts(rolling.places.lake.objects, "movies") == [driver.rollout, run.tags()["rollout"]]
    wait_ready("movies", "default", 90, rolling.places.kubeconfig)


@pytest.mark.slow
def test_killed_between_any_two_steps_it_ends_the_same(rolling: Rolling, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = POLICY.model_copy(update={"name": "at-once", "stages": POLICY.stages[-1:]})
    split = POLICY.model_copy(update={"name": "split", "stages": POLICY.stages[1:]})
    numbers = {name: rolling.package(name) for name in ("good", "better", "failing")}
    with rolling.people():
        serving, at, killed = "good", 0, True
        while killed:
            at += 1
            ended, killed = drive(
                rolling, rolling.start(numbers[serving], at_once), Mortal(at, at % 2 > 0), monkeypatch
            )
            assert ended.phase is Phase.PROMOTED, at
            assert rolling.champion == numbers[serving], at
            assert rolling.spec["model"]["storageUri"].endswith(f"/{serving}")
            assert rolling.answers() == {serving}
            serving = "better" if serving == "good" else "good"
        assert at > 4, "three changes of the service and one of the alias"
        champion, at, killed = rolling.champion, 0, True
        while killed:
            at += 1
            ended, killed = drive(
                rolling, rolling.start(numbers["failing"], split), Mortal(at, at % 2 > 0), monkeypatch
            )
            assert ended.phase is Phase.ROLLED_BACK, at
            assert rolling.champion == champion
            assert rolling.answers() == {"good" if serving == "better" else "better"}
            assert "canaryTrafficPercent" not in rolling.spec
        assert at > 4


@pytest.fixture
def slipway(rolling: Rolling, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """slipway(*words): the command line in this process, on the test's own home; what it printed."""
    mine = rolling.embedded.settings.model_copy(
        update={"store_uri": rolling.places.lake.uri, "tracking_uri": rolling.tracker.uri}
    )
    for name, value in mine.model_dump(mode="json", exclude_none=True).items():
        monkeypatch.setenv(f"SLIPWAY_{name.upper()}", str(value))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    settings.cache_clear()

    def run(*words: str) -> str:
        return CliRunner().invoke(app, ["rollout", *words], catch_exceptions=False).output

    yield run
    settings.cache_clear()


@pytest.mark.slow
def test_by_the_command_line_with_an_edit_by_kubectl_and_a_killed_controller(
    rolling: Rolling, slipway: Callable[..., str], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    policy = POLICY.model_dump(mode="json")
    policy["stages"][1]["min_requests"] = 100_000  # it stays in this stage
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    good = rolling.package("good")
    rolling.package("better")

    def state() -> State:
        found = service.state(rolling.places.services.get("movies"))
        assert found is not None
        return found

    with pytest.raises(RolloutError, match="no InferenceService has a rollout"):
        slipway("status")
    words = ("start", "movies", "--package", f"models:/movies/{good}", "--policy", str(tmp_path / "policy.yaml"))
    with rolling.people(60):
        assert "began" in slipway(*words, "--every", "0.2")
        eventually(lambda: state().phase is Phase.CANARY, 90)
        with pytest.raises(HeldError, match=f"is in rollout {state().id} of movies {good} .* canary .*driven by"):
            slipway("start", "movies")
        with pytest.raises(RolloutError, match="asks for nothing: it is canary"):
            slipway("approve")
        eventually(lambda: "100,000 requests seen" in slipway("status"), 90)
        os.kill(int(state().holder.split()[2]), signal.SIGKILL)
        eventually(lambda: "driven by nobody" in slipway("status"), 90, "the kill takes a moment")
        rolling.embedded.kubectl("patch", "isvc", "movies", "--type", "merge", "-p", ZERO.replace("0", "100"))
        assert "goes on" in slipway("resume", "--every", "0.2")
        eventually(lambda: state().phase is Phase.PAUSED, 90)
        assert rolling.spec["canaryTrafficPercent"] == 100, "what was done by hand is not undone"
        assert "canaryTrafficPercent is 100; the rollout had set 30" in " ".join(slipway("status").split())
        assert "approve" in slipway("approve", "--reason", "I have seen it")
        eventually(lambda: state().phase is Phase.PROMOTED, 90)
    assert rolling.champion == good
    assert set(rolling.load) == {200}
    same = ("start", "movies", "--package", f"models:/movies/{good}")
    with pytest.raises(ServedError, match="already"):
        slipway(*same)
    assert "already" in slipway(*same, "--here"), "a pod that is started again has nothing to do"
    history = " ".join(slipway("history", "movies").split())
    assert "promoted" in history
    decisions = list(rolling.places.record(state().id).entries())
    assert "said approve: I have seen it" in next(one.why for one in decisions if one.said)
    artifacts = rolling.tracker.client
    run = state().run
    eventually(lambda: artifacts.get_run(run).info.status == "FINISHED", 90, "the report is written")
    assert {f.path for f in artifacts.list_artifacts(run, "rollout")} == {
        *("rollout/decisions.jsonl", "rollout/policy.json", "rollout/rollout.png")
    }


@pytest.mark.slow
def test_a_service_that_git_made_gets_its_first_package_without_a_judge(
    rolling: Rolling, slipway: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY.model_dump(mode="json")))
    number, embedded = rolling.package("good"), rolling.embedded
    [made] = embedded.documents("good", name="films")[1:]
    made["spec"]["predictor"]["model"]["storageUri"] = "file:///nowhere/000000000000"
    made["spec"]["predictor"]["maxReplicas"] = 3
    made["metadata"].setdefault("labels", {})["slipway.dev/workload"] = "movies"
    apply([made], rolling.places.kubeconfig)
    words = ("start", "films", "-p", f"models:/movies/{number}", "--policy", str(tmp_path / "policy.yaml"), "--here")
    assert "is the first package of films" in slipway(*words)
    assert embedded.ask("films")[1]["answer"] == "good"
    assert rolling.champion == number
    found = rolling.places.services.get("films")
    assert found["spec"]["predictor"]["maxReplicas"] == 3, "what is not the package's stays"
    assert "already" in slipway(*words)


@pytest.mark.slow
def test_a_first_deployment_needs_no_judge_and_a_direct_one_goes_over_a_forgotten_zero(rolling: Rolling) -> None:
    films = replace(rolling.places, name="films")
    number, embedded = rolling.package("good"), rolling.embedded

    def deploy(which: str, answer: str) -> None:
        chosen = candidate.resolve(which, "movies", rolling.tracker)
        promotion.deploy(films, embedded.documents(answer, name="films")[1:], chosen, pause=0.1)

    deploy(number, "good")
    assert rolling.champion == number
    assert embedded.ask("films")[1]["answer"] == "good"
    deploy(number, "good")  # a step that runs twice
    embedded.kubectl("patch", "isvc", "films", "--type", "merge", "-p", ZERO)
    better = rolling.package("better")
    deploy(better, "better")
    assert rolling.champion == better
    assert embedded.ask("films")[1]["answer"] == "better"
    broken = rolling.package("broken")
    with pytest.raises(NotReadyError, match="this package is broken"):
        deploy(broken, "broken")
    assert rolling.champion == better
    assert embedded.ask("films")[1]["answer"] == "better"
    wait_ready("films", "default", 90, films.kubeconfig)


ZERO = '{"spec":{"predictor":{"canaryTrafficPercent":0}}}'
