"""Where a load may go, and that it ends: a real locust, asking where nobody is, and interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from load_tests.__main__ import main
from load_tests.run import ROOT, address
from slipway.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "base", "host"),
    [
        ("http://movies.staging.localhost:8080", "http://127.0.0.1:8080", "movies.staging.localhost:8080"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000", ""),
        ("http://localhost:80", "http://localhost:80", ""),
        ("http://[::1]:80", "http://[::1]:80", ""),
    ],
)
def test_this_machine(url: str, base: str, host: str) -> None:
    assert address(url) == (base, host)


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:80", "http://localhost.example.com"])
def test_another_machine_only_on_purpose(url: str) -> None:
    with pytest.raises(ConfigError, match="not this machine"):
        address(url)
    assert address(url, allow_remote=True) == (url, "")


@pytest.mark.parametrize("url", ["", "movies", "ftp://localhost", "http://"])
def test_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        address(url, allow_remote=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "load_tests", *arguments]


def children(out: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(out) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_nobody_there_is_a_broken_slo_and_ctrl_c_leaves_nothing(
    document: dict[str, Any], write: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    file, url = write(document), "http://127.0.0.1:9"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command("--slo", file, "--url", url, "--out", str(tmp_path / "a")),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith(("error_rate", "throughput"))] == (
        ["NO", "NO"]
    )
    assert {p.name for p in (tmp_path / "a").iterdir()} >= {"requests.csv", "result.json", "latency.png", "locust.html"}
    out = tmp_path / "b"
    process = subprocess.Popen(command("--slo", file, "--url", url, "--out", str(out)), env=environment)
    deadline = time.monotonic() + 180
    while not (out / "locust_stats.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert children(out) == []
    assert not (out / "result.json").exists()


def test_bad_options_are_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").write_text("")
    for arguments, says in (
        (("--slo", "none", "--url", "http://127.0.0.1:9"), "there is no SLO"),
        (("--slo", "demo", "--url", "http://example.com"), "not this machine"),
        (("--slo", "demo", "--url", "http://127.0.0.1:9", "--out", str(tmp_path / "there")), "already there"),
    ):
        assert main(list(arguments)) == 1
        assert says in capsys.readouterr().err
