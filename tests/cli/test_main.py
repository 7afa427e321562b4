"""The command line as a person meets it: help with examples, and errors of two lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from cli.helptext import flowing
from cli.main import app

COMMANDS = ["run", "up", "down", "status", "kubeconfig", "recommend", "compile", "etl"]


@pytest.fixture
def slipway(tmp_path):
    """Run the console script in a home of its own; returns the finished process."""

    def call(*words, **variables):
        env = {**os.environ, "SLIPWAY_HOME": str(tmp_path / "home"), "COLUMNS": "200", "NO_COLOR": "1", **variables}
        script = Path(sys.executable).with_name("slipway")
        return subprocess.run(
            [script, *words], check=False, capture_output=True, text=True, env=env, timeout=400, cwd=tmp_path
        )

    return call


def test_help_lists_every_command(slipway):
    shown = slipway("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in COMMANDS)


def _commands(group, path):
    for name, command in group.commands.items():
        yield from (
            _commands(command, [*path, name]) if hasattr(command, "commands") else [([*path, name], command.help)]
        )


def test_every_command_shows_examples_of_itself():
    known = {" ".join(path): text for path, text in _commands(get_command(app), ["slipway"])}
    assert len(known) > 40
    assert [path for path, text in known.items() if path not in text.partition("[bold]Example")[2]] == []


def test_prose_flows_and_examples_keep_their_lines():
    text = "What it does.\n\nIn more\nwords.\n\n[bold]Examples[/bold]\n\n  one   # first\n  two"
    assert flowing(text) == "What it does.\n\nIn more words.\n\n[bold]Examples[/bold]\n\none   # first\ntwo"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--profile", "nightly"], "choose one of: demo, full"),
        (["run", "--workload", "music"], "choose one of: movies"),
        (["run", "--set", "train.epoch=3"], "train.epoch: Extra inputs are not permitted"),
        (["run", "--set", "epochs"], "write section.key=value"),
        (["run", "--set", "train.epochs=["], "no value that YAML can read"),
        (["run", "--set", "[/bold]"], "'[/bold]' is no assignment"),
        (["run", "--no-deploy", "--data", "nowhere"], "there is no folder"),
        (["run", "--no-deploy", "--data", "empty"], "u.data"),
        (["run", "--no-deploy", "--data", "lake:shop@3"], "ingest something first"),
        (["etl", "--data", "nowhere"], "there is no folder"),
        (["run", "--runner", "cluster"], "set SLIPWAY_KFP_ENDPOINT"),
        (["status"], "slipway up"),
        (["recommend"], "slipway up"),
    ],
)
def test_an_error_says_what_to_do_and_shows_no_traceback(slipway, tmp_path, words, says):
    (tmp_path / "empty").mkdir()
    ended = slipway(*words)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert "→" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_setting_that_cannot_be_used_is_named(slipway):
    ended = slipway("status", SLIPWAY_HTTP_PORT="eighty")
    assert ended.returncode == 1
    assert "SLIPWAY_HTTP_PORT" in ended.stderr


def test_the_cluster_refuses_a_local_folder(slipway, tmp_path):
    ended = slipway("run", "--runner", "cluster", "--data", str(tmp_path), SLIPWAY_KFP_ENDPOINT="http://127.0.0.1:9")
    assert ended.returncode == 1
    assert "s3://" in ended.stderr


def test_down_when_nothing_runs_is_no_error(slipway):
    ended = slipway("down")
    assert ended.returncode == 0
    assert "was not running" in ended.stdout
