"""A Redis of our own: only where none is, and what it took in survives a kill."""

import os
import signal
import socket

import pytest
from redis import Redis

from slipway.errors import PortInUseError
from streaming import embedded
from streaming.producer import Publisher


def test_what_it_took_in_survives_a_kill_and_the_end(tmp_path, free_port):
    port = free_port()
    process = embedded.start(tmp_path / "redis" / str(port), port)
    with Publisher(f"redis://127.0.0.1:{port}/0", "a") as publisher:
        publisher.publish("events", [{"n": number} for number in range(10)])
        process.kill()
        process.wait()
        for expected in (10, 20):
            with embedded.redis(tmp_path, port) as ours, embedded.redis(tmp_path, port) as second:
                assert (ours, second) == (True, False)  # the second finds the first
                with Redis(port=port) as client:
                    assert client.xlen("a.events") == expected
                publisher.publish("events", [{"n": number} for number in range(10)])
    assert not embedded.answers(port)


def test_our_own_is_started_again_when_it_dies(tmp_path, free_port):
    port = free_port()
    with embedded.redis(tmp_path, port), Publisher(f"redis://127.0.0.1:{port}/0", "a") as publisher:
        publisher.publish("events", [{"n": 1}])
        with Redis(port=port) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        publisher.publish("events", [{"n": 2}])  # tries until it is back
        with Redis(port=port) as client:
            assert client.xlen("a.events") == 2
    assert not embedded.answers(port)


def test_a_port_of_somebody_else_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        with (
            pytest.raises(PortInUseError, match="SLIPWAY_EVENTS_URL"),
            embedded.redis(tmp_path, other.getsockname()[1]),
        ):
            pass
