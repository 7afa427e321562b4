"""What a user sees of revisions: readiness, crashes, bad packages, updates and canaries, with real processes."""

import http.client
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from serving.embedded import stack
from slipway.deployment import apply, wait_ready
from slipway.errors import ManifestError, NotReadyError


def test_a_killed_server_is_started_again(serving: Any, eventually: Callable[..., None]) -> None:
    serving.deploy("one")
    first = serving.ask()[1]["pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: "signal 9" in serving.status()["modelStatus"].get("lastFailureInfo", {}).get("message", ""))
    eventually(lambda: serving.ask()[0] == 200)
    assert serving.ask()[1]["pid"] != first
    eventually(lambda: serving.condition().get("status") == "True")


def test_a_killed_envoy_is_started_again(serving: Any, eventually: Callable[..., None]) -> None:
    serving.deploy("one")
    envoy = next(p for p in serving.processes() if "envoy" in p.name())
    envoy.kill()

    def answers() -> bool:
        try:
            return envoy.pid not in {p.pid for p in serving.processes()} and bool(serving.ask()[0] == 200)
        except OSError:
            return False

    eventually(answers)


def test_ready_means_the_model_and_not_the_server(serving: Any, eventually: Callable[..., None]) -> None:
    apply(serving.documents("never"), stack.kubeconfig(serving.settings))
    eventually(lambda: "is starting" in serving.condition().get("message", ""))
    with pytest.raises(NotReadyError, match="movies-00001 is starting"):
        wait_ready("movies", "default", 2, stack.kubeconfig(serving.settings))
    assert serving.ask()[0] == 503


def test_a_bad_package_gets_no_traffic_and_the_old_one_goes_on(serving: Any) -> None:
    serving.deploy("one")
    apply(serving.documents("broken"), stack.kubeconfig(serving.settings))
    with pytest.raises(NotReadyError, match="this package is broken"):
        wait_ready("movies", "default", 90, stack.kubeconfig(serving.settings))
    assert serving.condition()["reason"] == "RevisionFailed"
    assert serving.condition("PredictorRouteReady")["status"] == "True"
    assert serving.status()["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"
    assert {serving.ask()[1]["answer"] for _ in range(20)} == {"one"}
    serving.deploy("two")
    assert serving.ask()[1] | {"pid": 0} == {"answer": "two", "revision": "movies-00003", "pid": 0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"storageUri": "file:///nowhere/at/all"}, "there is no object"),
        ({"runtime": "absent"}, "there is no ServingRuntime absent"),
        ({"modelFormat": {"name": "onnx"}}, "does not serve model format onnx"),
    ],
)
def test_what_cannot_be_served_says_why(serving: Any, change: dict[str, Any], reason: str) -> None:
    documents = serving.documents("one")
    documents[1]["spec"]["predictor"]["model"] |= change
    apply(documents, stack.kubeconfig(serving.settings))
    with pytest.raises(NotReadyError, match=reason):
        wait_ready("movies", "default", 90, stack.kubeconfig(serving.settings))


def test_a_command_that_cannot_be_run_says_why(serving: Any) -> None:
    documents = serving.documents("one")
    documents[0]["spec"]["containers"][0]["command"] = ["/no/such/program"]
    apply(documents, stack.kubeconfig(serving.settings))
    with pytest.raises(NotReadyError, match="/no/such/program"):
        wait_ready("movies", "default", 20, stack.kubeconfig(serving.settings))


def test_an_unknown_field_is_refused_by_name(serving: Any) -> None:
    with pytest.raises(ManifestError, match=r'unknown field "spec\.predictor\.canaryTraficPercent"'):
        apply(serving.documents("one", canaryTraficPercent=10), stack.kubeconfig(serving.settings))
    with pytest.raises(ManifestError, match="the embedded KServe does not support it"):
        apply(serving.documents("one", batcher={"maxBatchSize": 8}), stack.kubeconfig(serving.settings))


def test_canary_promotion_and_rollback(serving: Any, eventually: Callable[..., None]) -> None:
    def shares(count: int = 200) -> dict[str, float]:
        found = Counter(serving.ask()[1]["answer"] for _ in range(count))
        return {answer: number / count for answer, number in found.items()}

    serving.deploy("one")
    serving.deploy("two", canaryTrafficPercent=20)
    assert shares()["two"] == pytest.approx(0.2, abs=0.12)
    serving.deploy("two")  # the field goes with the same manager's apply: promoted
    eventually(lambda: shares(20) == {"two": 1.0})
    serving.deploy("two", canaryTrafficPercent=0)  # after the promotion: back to the one before
    eventually(lambda: shares(20) == {"one": 1.0})

    def pointers() -> tuple[str, list[tuple[str, int]]]:
        predictor = serving.status()["components"]["predictor"]
        return predictor["latestRolledoutRevision"], [(t["revisionName"], t["percent"]) for t in predictor["traffic"]]

    wanted = ("movies-00001", [("movies-00002", 0), ("movies-00001", 100)])
    eventually(lambda: pointers() == wanted)  # status follows traffic


def test_updates_under_load_lose_no_request(serving: Any, eventually: Callable[..., None]) -> None:
    serving.deploy("one")
    statuses: Counter[int | str] = Counter()
    stop = threading.Event()

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", serving.settings.http_port, timeout=20)
        while not stop.is_set():
            try:
                connection.request("POST", "/v2/models/movies/infer", b"{}", {"Host": "movies.default.localhost"})
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                statuses[repr(error)] += 1
                connection.close()

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        changes: list[tuple[str, dict[str, Any], str]] = [
            ("two", {}, "two"),
            ("one", {}, "one"),
            ("one", {"canaryTrafficPercent": 0}, "two"),  # back: the stopped revision is started first
            ("one", {"canaryTrafficPercent": 50}, "one"),
            ("one", {}, "one"),
        ]
        for update, (package, predictor, answer) in enumerate(changes, start=1):
            serving.deploy(package, **predictor)
            eventually(lambda answer=answer: serving.ask()[1].get("answer") == answer, 90, f"nothing answers {answer}")
            eventually(lambda wanted=400 * update: statuses[200] >= wanted, 120, "too few requests")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert statuses[200] >= 2000


def test_a_request_in_progress_is_answered_by_the_revision_that_goes(serving: Any) -> None:
    serving.deploy("one")
    answers: list[Any] = []
    slow = threading.Thread(target=lambda: answers.append(serving.ask(headers={"x-sleep": "3"})))
    slow.start()
    serving.deploy("two")
    slow.join()
    assert [(status, body["answer"]) for status, body in answers] == [(200, "one")]


def test_deleting_ends_its_processes_and_packages(serving: Any, eventually: Callable[..., None]) -> None:
    serving.deploy("one")
    serving.kubectl("delete", "isvc", "movies")
    eventually(lambda: len(serving.processes()) == 2)
    status, body = serving.ask()
    assert (status, body["hosts"]) == (404, [])
    eventually(lambda: not list((serving.settings.home / "serving" / "packages").iterdir()))


def test_bodies_over_one_mebibyte_are_refused(serving: Any) -> None:
    serving.deploy("one")
    connection = http.client.HTTPConnection("127.0.0.1", serving.settings.http_port, timeout=20)
    connection.putrequest("POST", "/v2/models/movies/infer", skip_host=True)
    connection.putheader("Host", "movies.default.localhost")
    connection.putheader("Content-Length", str(40 << 20))
    connection.endheaders()
    try:
        for _ in range(40):
            connection.send(b"x" * (1 << 20))
    except OSError:
        pass  # Envoy answers and closes before it has read everything
    assert connection.getresponse().status == 413
    assert serving.ask()[0] == 200


def test_an_unknown_host_is_told_the_known_ones(serving: Any) -> None:
    serving.deploy("one")
    status, body = serving.ask("films")
    assert status == 404
    assert "movies.default.localhost" in body["hosts"]
