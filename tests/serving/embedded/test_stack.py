"""Starting and ending: nothing is started twice, nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from serving.embedded import stack
from serving.embedded.process import started
from slipway.deployment import apply, wait_ready
from slipway.errors import NotRunningError, PortInUseError, ServingError


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_up_and_down_leave_no_process_and_no_port(embedded: Any) -> None:
    running = embedded.up()
    assert running.http_port == embedded.settings.http_port
    embedded.deploy("one")
    assert embedded.ask() == (200, {"answer": "one", "revision": "movies-00001"} | {"pid": embedded.ask()[1]["pid"]})
    found, services = stack.status(embedded.settings)
    assert found == running
    assert [(s.name, s.ready, s.traffic) for s in services] == [("movies", "True", (("movies-00001", 100),))]
    assert len(embedded.processes()) == 3  # supervisor, Envoy, server
    assert stack.down(embedded.settings)
    assert embedded.processes() == []
    assert is_free(embedded.settings.http_port)
    assert is_free(embedded.settings.api_port)
    assert not stack.down(embedded.settings)
    with pytest.raises(NotRunningError):
        stack.status(embedded.settings)


def test_up_again_brings_back_what_was_deployed(embedded: Any, eventually: Callable[..., None]) -> None:
    embedded.up()
    embedded.deploy("one")
    stack.down(embedded.settings)
    script, open_door = embedded.folder / "standin.py", embedded.folder / "open"
    wait = f"import os, time\nwhile not os.path.exists({str(open_door)!r}): time.sleep(0.05)\n"
    script.write_text(wait + script.read_text())
    embedded.up()
    assert embedded.condition()["status"] != "True"  # what was so before is not said again before it is so
    open_door.touch()
    eventually(lambda: embedded.ask()[0] == 200)
    assert embedded.ask()[1]["revision"] == "movies-00001"


def test_two_ups_at_once_are_one(embedded: Any) -> None:
    found: list[stack.Stack] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.up())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert embedded.up() == found[0]
    assert len(embedded.processes()) == 2
    assert stack.unlike(embedded.settings) == []
    told = {"rate_limit": 5, "edge_token": "a-token-of-sixteen", "events_url": "redis://127.0.0.1:6379/0"}
    unheard = stack.unlike(embedded.settings.model_copy(update=told))
    assert unheard == ["SLIPWAY_EDGE_TOKEN", "SLIPWAY_EVENTS_URL", "SLIPWAY_RATE_LIMIT"]
    other = embedded.settings.model_copy(update={"http_port": embedded.settings.http_port + 1})
    with pytest.raises(ServingError, match="already runs on ports"):
        stack.up(other)


@pytest.mark.parametrize(("field", "setting"), [("http_port", "SLIPWAY_HTTP_PORT"), ("api_port", "SLIPWAY_API_PORT")])
def test_a_taken_port_is_named(embedded: Any, field: str, setting: str) -> None:
    port = getattr(embedded.settings, field)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortInUseError, match=setting) as error:
        embedded.up()
    assert str(port) in str(error.value)
    assert embedded.processes() == []


def test_the_foreground_command_says_what_is_wrong_without_a_traceback(embedded: Any) -> None:
    environment = os.environ | embedded.settings.environment()
    command = [sys.executable, "-m", "serving.embedded"]
    with socket.create_server(("127.0.0.1", embedded.settings.http_port)):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "SLIPWAY_HTTP_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_supervisor_costs_no_request_and_the_next_one_goes_on(
    embedded: Any, eventually: Callable[..., None]
) -> None:
    running = embedded.up()
    embedded.deploy("one", minReplicas=2)
    embedded.deploy("two", minReplicas=2, canaryTrafficPercent=50)
    before = {embedded.ask()[1]["pid"] for _ in range(60)}
    assert len(before) == 4
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.005):
            statuses[embedded.ask()[0]] += 1

    thread = threading.Thread(target=load)
    thread.start()
    try:
        os.kill(running.pid, signal.SIGKILL)
        eventually(lambda: started(running.pid) is None)
        assert len(embedded.processes()) == 5  # Envoy and the servers
        with pytest.raises(NotRunningError):
            stack.status(embedded.settings)
        gone = embedded.ask()[1]["pid"]
        os.kill(gone, signal.SIGKILL)  # while nobody looks
        eventually(lambda: started(gone) is None)
        assert embedded.up().pid != running.pid
        eventually(lambda: len({embedded.ask()[1]["pid"] for _ in range(40)}) == 4)
        after = {embedded.ask()[1]["pid"] for _ in range(60)}
        embedded.deploy("two", minReplicas=2)  # the next supervisor changes what the last one left
        eventually(lambda: embedded.condition()["status"] == "True" and len(embedded.processes()) == 4)
    finally:
        over.set()
        thread.join()
    assert len(before & after) == 3
    assert gone not in after
    assert set(statuses) == {200}
    assert {embedded.ask()[1]["answer"] for _ in range(20)} == {"two"}
    last = stack.find(embedded.settings).pid
    os.kill(last, signal.SIGKILL)
    eventually(lambda: started(last) is None)
    assert stack.down(embedded.settings)  # what it left
    assert embedded.processes() == []
    assert is_free(embedded.settings.http_port)


def test_what_nobody_wants_any_more_is_ended_and_the_rest_adopted(
    embedded: Any, eventually: Callable[..., None]
) -> None:
    running = embedded.up()
    embedded.deploy("one")
    apply(embedded.documents("two", "films"), stack.kubeconfig(embedded.settings))
    wait_ready("films", "default", 90, stack.kubeconfig(embedded.settings))
    kept, unwanted = embedded.ask()[1]["pid"], embedded.ask("films")[1]["pid"]
    os.kill(running.pid, signal.SIGKILL)
    eventually(lambda: started(running.pid) is None)
    (envoy,) = [p for p in embedded.processes() if "envoy" in p.name()]
    envoy.kill()
    for path in (embedded.settings.home / "serving" / "state").glob("*/default/films*.json"):
        path.write_text("{")  # a disk that lost them
    embedded.up()
    eventually(lambda: unwanted not in {p.pid for p in embedded.processes()})
    eventually(lambda: embedded.ask() == (200, {"answer": "one", "revision": "movies-00001", "pid": kept}))
    assert embedded.ask("films")[0] == 404


def test_an_interrupted_up_leaves_nothing(embedded: Any) -> None:
    code = (
        "from serving.embedded import stack; from slipway.settings import settings\n"
        "stack._answers = lambda *_: False  # it would be up before a loaded machine has sent the signal\n"
        "stack.up(settings())"
    )
    environment = os.environ | embedded.settings.environment()
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(embedded.processes()) < 2:  # the caller and its supervisor
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert embedded.processes() == []
    assert is_free(embedded.settings.http_port)


def test_a_corrupt_state_file_is_put_aside(embedded: Any, eventually: Callable[..., None]) -> None:
    embedded.up()
    embedded.deploy("one")
    stack.down(embedded.settings)
    path = embedded.settings.home / "serving" / "state" / "inferenceservices" / "default" / "movies.json"
    path.write_bytes(path.read_bytes()[:50])
    embedded.up()
    assert stack.status(embedded.settings)[1] == []
    log = (embedded.settings.home / "serving" / "logs" / "supervisor.log").read_text()
    assert "movies.json cannot be read" in log
    embedded.deploy("one")
    assert embedded.ask()[0] == 200
