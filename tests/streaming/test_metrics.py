"""What a consumer serves about itself: on the address that it was told, and a clear word where it cannot."""

import socket

import httpx
import pytest

from slipway.errors import ConfigError, PortInUseError
from streaming.metrics import Metrics, served


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_metrics_are_served_where_they_are_asked_for(free_port, host):
    port = free_port()
    with served(Metrics(), port, host), httpx.Client(trust_env=False) as client:
        assert "slipway_stream_messages_total 0.0" in client.get(f"http://127.0.0.1:{port}/metrics").text
        assert client.get(f"http://127.0.0.1:{port}/health").json()["healthy"] is True


def test_what_is_taken_and_what_is_no_address_are_refused(free_port):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortInUseError):
        served(Metrics(), other.getsockname()[1]).__enter__()
    with pytest.raises(ConfigError, match="SLIPWAY_STREAM_METRICS_HOST"):
        served(Metrics(), free_port(), "192.0.2.1").__enter__()
