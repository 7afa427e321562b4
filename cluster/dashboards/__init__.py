"""Grafana dashboards as code. Knows which there are and how they become JSON; asks neither Grafana nor Prometheus.

python -m cluster.dashboards            # write manifests/observability/dashboards/*.json
python -m cluster.dashboards --check    # say which of them are not what the code writes
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards import platform, rollout, serving, stream, training

FOLDER = Path(__file__).parents[2] / "manifests" / "observability" / "dashboards"
BOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "serving": serving.board,
    "rollout": rollout.board,
    "stream": stream.board,
    "training": training.board,
    "platform": platform.board,
}


def document(board: Dashboard) -> str:
    """The dashboard as Grafana imports it: keys in order, so that a change of the code is all that a diff shows."""
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def documents() -> dict[str, str]:
    """File name → JSON, of all dashboards."""
    return {f"{name}.json": document(board()) for name, board in BOARDS.items()}
