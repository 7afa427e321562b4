import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images import base, engine
from images import build as builder
from images.catalogue import named
from slipway.errors import ImageError

ROOT = Path(__file__).parents[2]


def test_without_podman_the_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="no podman") as refused:
        builder.build(named(["serving"])[0], base.TAG, "", lambda *_: None)
    assert "apt-get install" in refused.value.remedy
    assert "mmdebstrap" in refused.value.remedy


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("write /var/tmp/x: no space left on device", "the disk is full"),
        ("error: Hash mismatch for `numpy==2.4.0`", "not the one that was locked"),
        ("Error: creating build container: slipway-base: image not known", "python -m images base"),
        ("dial tcp: dns error: failed to lookup pypi.org", "the network"),
        ("dial tcp: lookup registry.example.com on 10.0.0.1:53: no such host", "check the address"),
        ("reading manifest 3.10 in docker.io/library/python: manifest unknown", "the registry has no such image"),
        ("Error: creating build container: invalid reference format", "sha256:<64 hex digits>"),
        ("something that nobody has seen", "all that it said: "),
    ],
)
def test_a_failed_command_is_shown_with_its_remedy(tmp_path, said, remedy):
    log = tmp_path / "log"
    with pytest.raises(ImageError) as failed:
        engine.run(["sh", "-c", f"echo step 1; echo '{said}' >&2; exit 125"], "building serving", log=log)
    assert "building serving failed (sh ended with 125)" in failed.value.message
    assert said in failed.value.message
    assert said in log.read_text()
    assert remedy in failed.value.remedy


def test_lines_arrive_while_the_command_runs():
    seen = []
    engine.run(["sh", "-c", "echo a; echo b >&2"], "talking", line=seen.append)
    assert seen == ["a", "b"]


def test_whoever_is_terminated_leaves_no_build_behind(tmp_path):
    """SIGTERM, as a CI runner sends it: the command must end with us."""
    mark = tmp_path / "pid"
    code = f"""
import signal, sys
from images import engine
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
engine.run(["sh", "-c", "echo $$ > {mark}; exec sleep 60"], "sleeping")
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (mark.exists() and mark.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(mark.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_the_command_line_says_it_in_two_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "images", "build", "toaster"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: there is no image toaster",
        "  → there are: pipeline, training, serving, stream",
    ]
