"""The environment is read once and what cannot be used is named."""

from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.settings import Settings, settings


@pytest.fixture(autouse=True)
def _forget():
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_defaults_follow_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    assert settings().store == (tmp_path / "objects").as_uri()
    assert settings().tracking == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_relative_home_is_fixed_at_the_first_reading(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLIPWAY_HOME", raising=False)
    assert Settings().home == tmp_path / ".slipway"


def test_a_database_is_the_same_file_wherever_a_process_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Settings(tracking_uri="sqlite:///mlflow.db").tracking == f"sqlite:///{tmp_path}/mlflow.db"
    assert Settings(tracking_uri="sqlite:////x/mlflow.db").tracking == "sqlite:////x/mlflow.db"


def test_a_relative_path_is_of_the_folder_in_which_it_was_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = Settings(capture_spool=Path("spool"), tls_cert=Path("server.crt"))
    assert (told.capture_spool, told.tls_cert, told.tls_key) == (tmp_path / "spool", tmp_path / "server.crt", None)
    assert told.environment()["SLIPWAY_CAPTURE_SPOOL"] == str(tmp_path / "spool")


@pytest.mark.parametrize("name", ["NAMESPACE", "STAGING_NAMESPACE"])
def test_a_namespace_that_no_cluster_takes_is_named(monkeypatch, name):
    monkeypatch.setenv(f"SLIPWAY_{name}", "Bad_Name")
    with pytest.raises(ConfigError, match=f"SLIPWAY_{name}: String should match"):
        settings()


def test_an_empty_variable_is_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "DATA_SET", "CAPTURE_SPOOL", "TRIGGER_TOKEN", "EVENTS_URL"):
        monkeypatch.setenv(f"SLIPWAY_{name}", "")
    assert Settings().home == tmp_path / ".slipway"
    assert not Settings().captures


def test_a_home_that_is_a_file_is_told(monkeypatch, tmp_path):
    (tmp_path / "home").touch()
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigError, match="is no folder"):
        settings()


def test_the_cluster_overrides(monkeypatch):
    monkeypatch.setenv("SLIPWAY_STORE_URI", "s3://bucket/prefix")
    monkeypatch.setenv("SLIPWAY_TRACKING_URI", "http://mlflow:5000")
    assert settings().store == "s3://bucket/prefix"
    assert settings().tracking == "http://mlflow:5000"


@pytest.mark.parametrize("port", ["0", "70000", "http"])
def test_a_variable_that_cannot_be_used_is_named(monkeypatch, port):
    monkeypatch.setenv("SLIPWAY_HTTP_PORT", port)
    with pytest.raises(ConfigError, match="SLIPWAY_HTTP_PORT"):
        settings()


def test_a_client_sends_what_the_ingress_asks_for(tmp_path: Path) -> None:
    assert Settings().authorization() == {}
    assert Settings(edge_token="a-token-of-sixteen").authorization() == {"authorization": "Bearer a-token-of-sixteen"}
    (tmp_path / "token").write_text("another-token-of-sixteen\n")
    assert Settings(edge_token_file=tmp_path / "token").token() == "another-token-of-sixteen"
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings(edge_token_file=tmp_path / "absent").token()
    with pytest.raises(ConfigError, match="16 to 256") as raised:
        Settings(edge_token="short").token()
    assert "short" not in str(raised.value)


def test_a_process_that_is_started_sees_the_same_settings(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLIPWAY_CAPTURE_USER", "hash")
    monkeypatch.setenv("SLIPWAY_CAPTURE_SECRET", "a-key-of-sixteen-characters")
    before = Settings(home=tmp_path, edge_token_file=tmp_path / "token", capture_scores=False)
    for name, value in before.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == before
    assert not Settings().captures, "an event stream that nobody named is nobody's wish to capture"
    assert Settings(home=tmp_path).environment()["SLIPWAY_HOME"] == str(tmp_path)
