"""Runs one load test in a process of its own, with a bound on its time. Knows processes and files; no HTTP.

locust replaces sockets, threads and time of the process that imports it, so nothing else may live there.
"""

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from load_tests.records import Records
from load_tests.slo import LONGEST, Outcome, Slo, breaches, judge
from slipway.errors import ConfigError, ServingError

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "::load:: "
BEARER = "LOAD_TESTS_TOKEN"
START = 60.0  # s that locust may take to import and to make its first people
END = 30.0  # s for the last answers and its reports

Progress = Callable[[str, float, Mapping[str, float]], None]


@dataclass(frozen=True)
class Result:
    """folder holds requests.csv, result.json, locust.html and locust_*.csv."""

    slo: Slo
    folder: Path
    document: Mapping[str, Any]

    @property
    def measured(self) -> Mapping[str, float]:
        measured: Mapping[str, float] = self.document["measured"]
        return measured

    @property
    def facts(self) -> Mapping[str, float]:
        facts: Mapping[str, float] = self.document["facts"]
        return facts

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return judge(self.slo, self.measured)

    @property
    def breaches(self) -> list[str]:
        return breaches(self.outcomes)

    @property
    def records(self) -> Records:
        return Records.read(self.folder / "requests.csv")


def address(url: str, allow_remote: bool = False) -> tuple[str, str]:
    """(base URL, Host header) that reach an InferenceService; *.localhost is this machine, though few resolvers know.

    Raises ConfigError for another machine's, unless that is wanted.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{url!r} is no address of an endpoint", "write http://movies.staging.localhost:8080")
    if host.endswith(".localhost"):
        return f"{parts.scheme}://127.0.0.1:{parts.port or 80}", parts.netloc
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not allow_remote:
        raise ConfigError(f"{host} is not this machine: this would load somebody's endpoint", "add --allow-remote")
    return url.rstrip("/"), ""


def run(
    slo: Slo,
    slo_file: str,
    url: str,
    out: Path,
    progress: Progress,
    *,
    model: str = "movies",
    package: Path | None = None,
    allow_remote: bool = False,
    token: str = "",
) -> Result:
    """slo_file: what `slo` was read from. out: a folder that exists. token: a bearer token of the ingress.

    Raises ServingError when the load test itself failed; a broken SLO is a Result. Interrupted, nothing goes on.
    """
    base, host = address(url, allow_remote)
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "load_tests" / "locustfile.py"), "--headless"]
    command += ["--host", base, "--host-header", host, "--slo", str(slo_file), "--out", str(out), "--model", model]
    command += ["--html", str(out / "locust.html"), "--csv", str(out / "locust"), "--only-summary"]
    command += ["--loglevel", "ERROR", "--package", str(package or "")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment[BEARER] = token  # not an argument: those are everybody's to read
    log = out / "locust.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=out,
            start_new_session=True,  # Ctrl-C comes to us, and we end it
        )
        watchdog = threading.Timer(min(slo.load.duration, LONGEST) + START + END, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(PREFIX):
                    said = json.loads(line.removeprefix(PREFIX))
                    progress(f"load: {said['what']}", said["share"], said["metrics"])
            code = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            watchdog.cancel()
    document = out / "result.json"
    if code not in (0, 1) or not document.exists():
        last = " ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise ServingError(f"the load test ended with {code} before its verdict: {last}"[:1_000], f"see {log}")
    return Result(slo, out, json.loads(document.read_text()))


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
