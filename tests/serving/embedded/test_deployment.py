"""slipway.deployment against the embedded KServe, and against nothing."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import rollout
from serving.embedded import stack
from slipway.deployment import address, apply, wait_ready
from slipway.errors import NotReadyError, NotRunningError, ServingError
from slipway.settings import settings


def test_an_api_that_is_down_is_named_with_its_remedy(embedded: Any) -> None:
    with pytest.raises(ServingError, match="slipway up") as error:
        apply(embedded.documents("one"), stack.kubeconfig(embedded.settings))
    assert str(embedded.settings.api_port) in error.value.message


@pytest.mark.parametrize("text", [None, "", "nonsense", "clusters: []", "\xff\x7f"])
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text, "latin-1")
    with pytest.raises(ServingError, match=r"no Kubernetes API to deploy to in .*kubeconfig"):
        wait_ready("movies", "default", 1, path)


def test_an_empty_kubeconfig_is_none(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(embedded.settings.home))
    monkeypatch.setenv("KUBECONFIG", "")
    settings.cache_clear()
    assert isinstance(CliRunner().invoke(rollout.app, ["status"]).exception, NotRunningError)
    settings.cache_clear()


def test_an_absent_service_is_said(serving: Any) -> None:
    with pytest.raises(ServingError, match='"films" not found'):
        wait_ready("films", "default", 1, stack.kubeconfig(serving.settings))


def test_only_the_generation_just_applied_counts(serving: Any) -> None:
    serving.deploy("one")
    apply(serving.documents("slow"), stack.kubeconfig(serving.settings))
    wait_ready("movies", "default", 30, stack.kubeconfig(serving.settings))
    assert serving.ask()[1]["answer"] == "slow"
    apply(serving.documents("never"), stack.kubeconfig(serving.settings))
    with pytest.raises(NotReadyError):
        wait_ready("movies", "default", 1, stack.kubeconfig(serving.settings))


def test_localhost_names_are_reached_without_a_resolver() -> None:
    assert address("http://movies.default.localhost:8080") == (
        "http://127.0.0.1:8080",
        {"Host": "movies.default.localhost:8080"},
    )
    assert address("http://movies.default.example.com") == ("http://movies.default.example.com", {})
