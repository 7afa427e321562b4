"""slipway batch in a process of its own: killed in the middle, interrupted, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.main import app
from slipway.errors import ConfigError, PackageError, StorageError

COMMAND = [str(Path(sys.executable).with_name("slipway")), "batch"]


def start(package, out, home):
    env = {**os.environ, "SLIPWAY_HOME": str(home), "OMP_NUM_THREADS": "1"}
    words = [*COMMAND, "--package", str(package), "--out", str(out), "--part-users", "1", "--workers", "0"]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def parts(out):
    return {p.name: p.stat().st_mtime_ns for p in out.glob("part-*.parquet")}


def end_in_the_middle(process, out, more_than, how):
    """Some parts are there, and some are not."""
    while len(parts(out)) <= more_than and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(how)
    text, _ = process.communicate(timeout=240)
    done = parts(out)
    assert more_than < len(done) < 120, text
    for name in done:  # each is whole
        assert len(pl.read_parquet(out / name)) == 10
    return done, text


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(movies_package, tmp_path):
    out = tmp_path / "out"
    first, _ = end_in_the_middle(start(movies_package.package, out, tmp_path), out, 5, signal.SIGKILL)
    process = start(movies_package.package, out, tmp_path)
    second, text = end_in_the_middle(process, out, len(first) + 5, signal.SIGINT)
    assert process.returncode == 130, text
    assert "run the same command again" in text
    assert "Traceback" not in text
    process = start(movies_package.package, out, tmp_path)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert f"{len(second)} before" in text
    last = parts(out)
    assert len(last) == 120
    assert {name: last[name] for name in second} == second  # nothing was done again
    assert {name: last[name] for name in first} == first
    assert pl.read_parquet(out / "*.parquet")["user"].unique().sort().to_list() == movies_package.users


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["batch", "-p", "no-such-folder", "-o", "out"], PackageError, "there is no folder"),
        (["batch", "-p", ".", "-o", "out"], PackageError, "is no model package"),
        (["batch", "-p", "models:/movies", "-o", "out"], ConfigError, "is no registered model"),
        (["batch", "-p", "ftp://host/package", "-o", "out"], StorageError, "is no URI"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(tmp_path, monkeypatch, words, error, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, error)
    assert says in result.exception.message
    assert not (tmp_path / "out").exists()
