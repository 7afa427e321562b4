"""Ports for a stack of a test's own."""

import socket

import pytest


@pytest.fixture(scope="session")
def free_ports():
    """free_ports(n) → n ports that nobody listens on, all different."""

    def find(n):
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
        ports = [s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        return ports

    return find
