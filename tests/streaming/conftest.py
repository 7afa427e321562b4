"""A real Redis for all tests of the session, a home of its own for each, and the online store's import paid once."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.settings import settings


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return _free_port


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from streaming import embedded

    port = _free_port()
    with embedded.redis(tmp_path_factory.mktemp("redis"), port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture(scope="session")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One online store for every test that brings users of its own."""
    from slipway.features.online import OnlineStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(tmp_path_factory.mktemp("online")))
        settings.cache_clear()
        yield OnlineStore.open(data_set="tests")
    settings.cache_clear()
