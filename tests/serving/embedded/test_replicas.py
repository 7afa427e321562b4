"""Several servers of one revision, and what becomes of one that ends, hangs, eats memory or crashes now and then."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from io import StringIO
from typing import Any

import httpx
import pytest
from rich.console import Console

from cli.serving import show_status
from serving.embedded import stack
from serving.embedded.supervisor import api_url
from slipway.deployment import apply, wait_ready


def replicas(serving: Any, revision: str = "movies-00001") -> list[dict[str, Any]]:
    """What the figures say of a revision's servers."""
    path = "/apis/metrics.slipway.dev/v1/namespaces/default/inferenceservices/movies"
    found = httpx.get(api_url(serving.settings) + path, trust_env=False, timeout=10).json()
    assert found["revisions"][revision]["restarts"] == sum(one["restarts"] for one in found["replicas"][revision])
    listed: list[dict[str, Any]] = found["replicas"][revision]
    return listed


def counted(serving: Any) -> list[tuple[int, str, int, int, int]]:
    """What `slipway status` counts: percent, phase, ready, wanted and restarts of each revision."""
    (service,) = stack.status(serving.settings)[1]
    found = stack.revisions(serving.settings, service)
    return [(one.percent, one.phase, one.ready, one.wanted, one.restarts) for one in found]


def shown(serving: Any) -> str:
    console = Console(file=StringIO(), width=120)
    show_status(console, serving.settings)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def pids(serving: Any, count: int = 40) -> Counter[int]:
    answers = [serving.ask() for _ in range(count)]
    assert {status for status, _ in answers} == {200}
    return Counter(body["pid"] for _, body in answers)


@pytest.mark.slow
def test_a_replica_that_ends_or_hangs_is_replaced_while_the_other_answers(
    serving: Any, eventually: Callable[..., None]
) -> None:
    serving.deploy("one", minReplicas=2)
    first, second = (one["pid"] for one in replicas(serving))
    assert set(pids(serving)) == {first, second}
    assert serving.status()["modelStatus"]["copies"] == {"totalCopies": 2}
    os.kill(first, signal.SIGKILL)
    pids(serving)  # all answered
    assert serving.condition()["status"] == "True"  # as in Knative: one that answers is enough
    eventually(lambda: counted(serving) == [(100, "Ready", 2, 2, 1)])  # the kill takes a moment to be seen
    assert [one["restarts"] for one in replicas(serving)] == [1, 0]
    os.kill(second, signal.SIGSTOP)
    eventually(lambda: replicas(serving)[1]["phase"] == "Unready")
    assert "1/2" in shown(serving)
    eventually(lambda: second not in pids(serving, 10))  # no new requests for who hangs
    eventually(lambda: [one["restarts"] for one in replicas(serving)] == [1, 1])
    eventually(lambda: len(pids(serving, 10)) == 2)
    assert second not in {one["pid"] for one in replicas(serving)}
    assert all(one["since"]["Starting"] <= one["since"]["Ready"] and one["memory"] > 1e6 for one in replicas(serving))


def test_one_with_more_memory_than_its_limit_is_ended_with_that_reason(
    serving: Any, eventually: Callable[..., None]
) -> None:
    documents = serving.documents("one")
    documents[0]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "128Mi", "cpu": "1500m"}}
    kubeconfig = stack.kubeconfig(serving.settings)
    apply(documents, kubeconfig)
    wait_ready("movies", "default", 90, kubeconfig)
    before = serving.ask(headers={"x-eat-mib": "200"})[1]["pid"]
    eventually(lambda: "lastFailureInfo" in serving.status()["modelStatus"])
    failure = serving.status()["modelStatus"]["lastFailureInfo"]
    assert failure["message"].startswith("OOMKilled: the server had")
    assert "its limit is 128 MiB: raise resources.limits.memory" in failure["message"]
    assert failure["exitCode"] == 137
    eventually(lambda: serving.condition()["status"] == "True")
    assert serving.ask()[1]["pid"] != before


def test_the_stable_one_answers_for_a_canary_that_crashes_after_100_requests(
    serving: Any, eventually: Callable[..., None]
) -> None:
    serving.deploy("one")
    serving.deploy("brittle", canaryTrafficPercent=50)
    found: Counter[Any] = Counter()

    def crashed() -> bool:
        for _ in range(50):
            status, body = serving.ask()
            found[status, body.get("answer")] += 1
        return "lastFailureInfo" in serving.status()["modelStatus"]

    eventually(crashed)
    message = serving.status()["modelStatus"]["lastFailureInfo"]["message"]
    assert message == "CrashLoopBackOff: the server ended with exit code 3: "
    assert set(found) == {(200, "one"), (200, "brittle")}
    eventually(lambda: serving.condition()["status"] == "True")
    assert replicas(serving, "movies-00002")[0]["restarts"] >= 1
    eventually(lambda: [one[:4] for one in counted(serving)] == [(50, "Ready", 1, 1)] * 2)
    serving.deploy("brittle")
    eventually(lambda: counted(serving)[0][:4] == (0, "Stopped", 0, 0), 90, "nobody wants the first one any more")
