"""Rollouts on the real embedded KServe, with a real registry and a bounded load; the servers are stand-ins."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving.embedded import stack
from slipway.deployment import Services, apply, wait_ready
from slipway.errors import RolloutError
from slipway.lake.lake import Lake
from slipway.package import Package, Signature, Snapshot
from slipway.rollout import controller, launch
from slipway.rollout.controller import Controller, Places
from slipway.rollout.policy import Policy
from slipway.rollout.record import Entry, rollouts
from slipway.rollout.state import Phase, State
from slipway.rollout.telemetry import EmbeddedTelemetry
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
        return Controller(self.places, policy, state.id, wait=patient(30))

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
    wait_ready("movies", "default", 30, kubeconfig)
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
            answer = effect(*arguments)
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
    return Controller(rolling.places, driver.policy, driver.rollout, wait=patient(30)).run(), True


@pytest.mark.slow
def test_a_good_candidate_becomes_champion_and_a_bad_one_is_rolled_back(rolling: Rolling) -> None:
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

        failing = rolling.package("failing")
        worse = rolling.start(failing)
        ended = worse.run()
        assert ended.phase is Phase.ROLLED_BACK
        assert "error" in ended.reason
        assert rolling.champion == good
        assert rolling.spec["model"]["storageUri"].endswith("/good"), "the spec is what it was"
        assert "canaryTrafficPercent" not in rolling.spec
    assert set(rolling.load) == {200}, "it failed in the shadow, where nobody saw it"
    assert rollouts(rolling.places.lake.objects, "movies") == [driver.rollout, worse.rollout]
    wait_ready("movies", "default", 30, rolling.places.kubeconfig)


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
            ended, killed = drive(rolling, rolling.start("failing", split), Mortal(at, at % 2 > 0), monkeypatch)
            assert ended.phase is Phase.ROLLED_BACK, at
            assert rolling.champion == champion
            assert rolling.answers() == {"good" if serving == "better" else "better"}
            assert "canaryTrafficPercent" not in rolling.spec
        assert at > 4
