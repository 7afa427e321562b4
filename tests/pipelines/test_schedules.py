"""Recurring runs: their dates, and what is asked of the contract fake of Kubeflow Pipelines' API (conftest.py)."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from cli import schedule
from pipelines.parameters import Parameters
from pipelines.runners import schedules
from pipelines.runners.kubeflow import Kubeflow
from slipway.errors import ConfigError
from slipway.settings import Settings, settings

IMAGE = f"registry.example.com/slipway/pipeline@sha256:{'a' * 64}"
TRAIN = f"registry.example.com/slipway/training@sha256:{'b' * 64}"


@pytest.fixture
def env(fake, tmp_path):
    return Settings(home=tmp_path, kfp_endpoint=fake.endpoint, image=IMAGE, training_image=TRAIN)


def test_a_schedule_is_made_listed_paused_and_deleted(fake, env):
    store = env.model_copy(update={"store_uri": "s3://bucket/slipway", "data_set": "shop"})
    made = schedules.create("nightly", "0 30 2 * * *", Parameters(data="lake"), store)
    [kept] = fake.schedules.values()
    assert kept["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert (kept["no_catchup"], kept["mode"], kept["service_account"]) == (True, "ENABLE", "slipway-runner")
    asked = kept["runtime_config"]["parameters"]
    assert asked["data"] == "lake:shop", "its newest version, when it runs"
    assert asked["data_version"] == asked["champion"] == "[[RunUUID]]", "no run takes another's data from the cache"
    kubeflow = Kubeflow(env)
    assert [(s.id, s.name, s.state) for s in schedules.every(kubeflow)] == [(made.id, "nightly", "ENABLED")]
    kubeflow.switch(schedules.find("nightly", kubeflow).id, on=False)
    assert schedules.find("nightly", kubeflow).state == "DISABLED"
    with pytest.raises(ConfigError, match="a schedule 'nightly' already"):
        schedules.create("nightly", "0 0 3 * * *", Parameters(), env)
    kubeflow.unschedule(made.id)
    with pytest.raises(ConfigError, match="no schedule 'nightly'"):
        schedules.find("nightly", kubeflow)


NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def test_the_seconds_come_first():
    assert schedules.dates("0 30 2 * * *", NOW, 2) == [
        datetime(2026, 11, 23, 2, 30, tzinfo=UTC),
        datetime(2026, 11, 24, 2, 30, tzinfo=UTC),
    ]
    assert schedules.dates("*/20 * * ? * 1-5", NOW, 1)[0] - NOW > timedelta(hours=20), "it is a Sunday"


@pytest.mark.parametrize(
    ("cron", "match", "remedy"),
    [
        ("30 2 * * *", "has five fields", 'write "0 30 2 \\* \\* \\*"'),
        ("0 30 25 * * *", "no schedule", "02:30 UTC"),
        ("0 30 2 * * 7", "day of the week", "Sunday is 0"),
        ("0 30 2 L * *", "no schedule", "six fields"),
        ("0 30 2 * *; *", "as month|as day", "six fields"),
        ("? 30 2 * * *", "as second", "six fields"),
        ("0 0 0 31 2 *", "no schedule", "six fields"),
        ("nightly", "it has 1 fields", "six fields"),
    ],
)
def test_a_cron_that_never_comes_is_refused_here(cron, match, remedy):
    with pytest.raises(ConfigError, match=match) as refused:
        schedules.dates(cron, NOW, 1)
    assert re.search(remedy, refused.value.remedy)


def test_a_schedule_on_the_command_line(fake, env, monkeypatch):
    for name in ("home", "kfp_endpoint", "image", "training_image"):
        monkeypatch.setenv(f"SLIPWAY_{name.upper()}", str(getattr(env, name)))
    settings.cache_clear()
    wanted = ["create", "nightly", "--cron", "0 30 2 * * *", "--data", "simulated"]
    assert CliRunner().invoke(schedule.app, wanted).exit_code == 0
    [kept] = fake.schedules.values()
    assert kept["runtime_config"]["parameters"]["policy"] == "default"
    for command, state in (("pause", "DISABLED"), ("resume", "ENABLED")):
        assert CliRunner().invoke(schedule.app, [command, "nightly"]).exit_code == 0
        assert kept["status"] == state
    assert CliRunner().invoke(schedule.app, ["list"]).exit_code == 0
    assert CliRunner().invoke(schedule.app, ["delete", "nightly"]).exit_code == 0
    assert not fake.schedules
    settings.cache_clear()
