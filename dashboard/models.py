"""Runs and registered models as pages read them from MLflow. Knows the registry's words, no model."""

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from slipway.errors import SourceError, TrackingError
from slipway.evaluation.results import DOCUMENT, Evaluation
from slipway.settings import settings

EXPERIMENT = "movies"
LIMIT = 50
"""Newest runs that are looked at."""


@dataclass(frozen=True)
class Run:
    """One training run; gate: admitted, refused, or None before the evaluation; aliases: of its registered version."""

    id: str
    name: str
    started: datetime
    status: str
    gate: str | None
    reason: str
    package: str
    number: str
    aliases: tuple[str, ...]

    @property
    def label(self) -> str:
        at = f"{self.started:%Y-%m-%d %H:%M}"
        return (
            f"{self.package} ({', '.join((*self.aliases, at))})"
            if self.package
            else f"{at}, {self.gate or self.status}"
        )


@st.cache_data(ttl=30, show_spinner="Asking MLflow …")
def runs() -> list[Run]:
    """The newest first; empty where MLflow holds none. Creates nothing. Raises TrackingError."""
    uri = settings().tracking
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    from slipway.tracking import MlflowException  # type: ignore[attr-defined]  # imports MLflow without telemetry

    try:
        client = _client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        found = client.search_runs(
            [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=LIMIT
        )
        models = client.search_registered_models(filter_string=f"name='{EXPERIMENT}'")
    except MlflowException as error:
        first = str(error).strip().split("\n", 1)[0]
        raise TrackingError(
            f"MLflow at {uri} failed: {first}", "check SLIPWAY_TRACKING_URI and that MLflow is up"
        ) from error
    named: dict[str, list[str]] = {}
    for alias, number in (models[0].aliases if models else {}).items():
        named.setdefault(str(number), []).append(alias)
    return [_run(run, named) for run in found]


def _run(run: Any, named: dict[str, list[str]]) -> Run:
    info, tags = run.info, run.data.tags
    number = tags.get("model_version", "")
    return Run(
        id=info.run_id,
        name=tags.get("mlflow.runName", info.run_id),
        started=datetime.fromtimestamp(info.start_time / 1000, UTC),
        status=info.status,
        gate=tags.get("gate"),
        reason=tags.get("gate_reason", ""),
        package=tags.get("package_version", ""),
        number=number,
        aliases=tuple(sorted(named.get(number, []))),
    )


@st.cache_data(show_spinner="Reading the evaluation …", max_entries=LIMIT)
def evaluation(run_id: str) -> Evaluation | None:
    """None where the run has none, or one of another format."""
    text = artifact(run_id, f"evaluation/{DOCUMENT}")
    if text is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / DOCUMENT).write_text(text)
        try:
            return Evaluation.read(Path(folder))
        except SourceError:
            return None


def artifact(run_id: str, path: str) -> str | None:
    """A text file of a run, None where there is none."""
    from slipway.tracking import MlflowException  # type: ignore[attr-defined]  # imports MLflow without telemetry

    with tempfile.TemporaryDirectory() as folder:
        try:
            got = _client(settings().tracking).download_artifacts(run_id, path, folder)
        except (MlflowException, OSError):
            return None
        return Path(got).read_text("utf-8")


def _client(uri: str) -> Any:
    from slipway import tracking  # sets the switches against telemetry before MLflow is imported

    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    return tracking.mlflow.MlflowClient(uri, registry_uri=uri)  # type: ignore[attr-defined]
