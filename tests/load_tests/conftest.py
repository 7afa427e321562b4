"""A small load, and an SLO file around it."""

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def document() -> dict[str, Any]:
    """Of an SLO that can be used: 6 s, about 120 requests."""
    why = "a reason that says something"
    values = {"p50_ms": 50, "p95_ms": 100, "p99_ms": 200, "error_rate": 0.01, "fallback_share": 0.1}
    values |= {"throughput": 15, "concurrency": 3, "duration_s": 6}
    return {
        "name": "short",
        "about": "A few seconds for tests, for nobody",
        "load": {
            **{"rate": 20, "ramp": 1, "plateau": 3, "spike_factor": 2, "spike": 1.5, "recovery": 0.5},
            **{"think": 0.3, "timeout": 2},
        },
        "objectives": {name: {"value": value, "because": why} for name, value in values.items()},
    }


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to(document: dict[str, Any]) -> str:
        path = tmp_path / "slo.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return to
