from datetime import timedelta
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli import trigger
from cli.main import app
from pipelines.trigger.book import Policy
from pipelines.trigger.cause import Cause, Reason
from slipway.errors import ConfigError


def test_a_policy_with_a_misspelt_key_is_refused(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("data_minute: 5\n")
    with pytest.raises(ConfigError, match="data_minute"):
        trigger.read_policy(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        trigger.read_policy(Path("/nowhere.yaml"))
    path.write_text("data_minutes: 5\n")
    assert trigger.read_policy(path).window(Reason.DATA) == timedelta(minutes=5)


def test_the_command_is_one_that_a_person_could_give():
    words = trigger.command(
        Policy(), Cause(reason=Reason.DATA, key="k", what="", data="lake:movies@3"), trigger.Runner.cluster
    )
    assert words[:7] == ["run", "--workload", "movies", "--profile", "full", "--data", "lake:movies@3"]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "--help"]).output
    assert get_command(app).commands["run"]
    assert all(word.removeprefix("--no-") in shown for word in words if word.startswith("--"))


def test_the_runs_id_is_found_in_what_the_command_says():
    assert trigger.run_id("submitted run 0b2c3d4e-0000-4000-8000-123456789abc to Kubeflow") == (
        "0b2c3d4e-0000-4000-8000-123456789abc"
    )
    assert trigger.run_id("nothing") == ""
