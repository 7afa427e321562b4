"""Ports for a stack of a test's own, and what staging holds a build to on a machine with other work."""

import socket

import pytest
import yaml

LENIENT = {
    "name": "lenient",
    "about": "Tests run beside others.",
    "load": {"rate": 15, "ramp": 1, "plateau": 5, "spike_factor": 2, "spike": 1, "recovery": 1, "think": 0.3},
    "objectives": {
        name: {"value": value, "because": "tests run beside others"}
        for name, value in {
            **{"p50_ms": 3000, "p95_ms": 4000, "p99_ms": 5000, "error_rate": 0.1, "fallback_share": 0.9},
            **{"throughput": 1, "concurrency": 1, "duration_s": 5},
        }.items()
    },
}


@pytest.fixture(scope="session")
def lenient_slo(tmp_path_factory):
    path = tmp_path_factory.mktemp("slo") / "lenient.yaml"
    path.write_text(yaml.safe_dump(LENIENT))
    return str(path)


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
