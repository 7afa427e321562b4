"""slipway simulate as a person meets it: what cannot be played is refused with its remedy, before anything starts."""

import pytest
from typer.testing import CliRunner

from cli import simulate as simulation
from cli.main import app
from slipway.errors import ConfigError, NotRunningError, SlipwayError
from slipway.settings import Settings, settings

TINY = ["--set", "simulate.users=300", "--set", "simulate.items=200", "--set", "simulate.shelves=16"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def simulate(*words: str):
    return CliRunner().invoke(app, ["simulate", *words])


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (["--drift", "taste:7"], ConfigError, "from 0 to 1"),
        (["--drift", "clicks:-0.5@10m"], ConfigError, "after the end"),
        (["--duration", "soon"], ConfigError, "no length of time"),
        (["--duration", "3d"], ConfigError, "at most 24h"),
        (["--rate", "5000", "--users", "50"], ConfigError, "--users"),
        (["--rate", "0"], ConfigError, "rate"),
        (["--set", "simulate.shelfs=3"], ConfigError, "shelfs"),
        (["--url", "http://example.com"], ConfigError, "--allow-remote"),
        (["--offline", "2", "--explore", "0.5", "-k", "90", *TINY], ConfigError, "pool"),
        ([], NotRunningError, "not running"),
    ],
)
def test_what_cannot_be_played_is_refused(words, kind, says):
    ended = simulate("traffic", *words)
    assert ended.exit_code == 1
    assert isinstance(ended.exception, kind)
    assert says in str(ended.exception)


def test_an_endpoint_that_answers_nothing_is_an_error_after_the_summary():
    ended = simulate(
        "traffic", "--url", "http://127.0.0.1:9", "--duration", "1s", "--rate", "30", "--no-publish", *TINY
    )
    assert isinstance(ended.exception, SlipwayError)
    assert "answered none of" in str(ended.exception)
    assert "connection refused" in ended.stdout


def test_data_and_history_of_the_same_world(home):
    assert simulate("data", "--out", str(home / "world"), *TINY).exit_code == 0
    assert len((home / "world" / "movies.dat").read_text(encoding="iso-8859-1").splitlines()) == 200
    filled = simulate("traffic", "--offline", "2", "--data-set", "tiny", *TINY)
    assert filled.exit_code == 0, filled.exception
    assert "2 days into the lake (tiny): 204 items" in filled.stdout
    again = simulate("traffic", "--offline", "2", "--data-set", "tiny", *TINY)
    assert "was written before" in again.stdout


def test_the_token_of_this_machines_ingress_goes_to_nobody_else():
    env = Settings(edge_token="a-token-of-sixteen")
    _, headers = simulation._address(env, "http://127.0.0.1:9", None, allow_remote=False)
    assert headers["authorization"] == "Bearer a-token-of-sixteen"
    _, headers = simulation._address(env, "http://192.0.2.1", None, allow_remote=True)
    assert "authorization" not in headers
