"""Experiments and the registry, in MLflow. Knows runs, versions and aliases; knows no model and no metric's meaning.

mlflow ui --backend-store-uri sqlite:///.slipway/mlflow.db     # the laptop
SLIPWAY_TRACKING_URI=http://mlflow:5000                        # the cluster
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slipway.errors import TrackingError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A minute of silence where nobody listens, and no more than that; MLflow's own seven tries are four and a half.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # a new database would be told in two lines of a first run

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.time import get_current_time_millis

CHALLENGER = "challenger"
CHAMPION = "champion"
BATCH = 800  # MLflow takes 1,000 metrics, params and tags together


@dataclass(frozen=True)
class Registered:
    """One version of a registered model: uri is its package's, package its version."""

    model: str
    number: str
    uri: str
    package: str


class Tracker:
    """One MLflow server or file, and one experiment in it.

    Raises TrackingError when MLflow cannot be reached or refuses.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        if uri.startswith("sqlite:///"):
            _checked(Path(uri.removeprefix("sqlite:///")))
        self.uri = uri
        try:
            self.client = mlflow.MlflowClient(uri, registry_uri=uri)
            found = self.client.get_experiment_by_name(experiment)
            self.experiment_id = found.experiment_id if found else self._create(experiment)
        except MlflowException as error:
            raise _tracking_error(uri, error) from error

    def _create(self, experiment: str) -> str:
        artifacts = None
        if self.uri.startswith("sqlite:///"):  # beside the database, wherever the command was started
            artifacts = (Path(self.uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
        created: str = self.client.create_experiment(experiment, artifact_location=artifacts)
        return created

    def start(self, name: str, tags: Mapping[str, str]) -> "Run":
        try:
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error
        return Run(self, run.info.run_id)

    def run(self, run_id: str) -> "Run":
        return Run(self, run_id)

    def resume(self, run_id: str) -> "Run":
        """A run that was killed is running again."""
        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error
        return Run(self, run_id)

    def register(
        self, model: str, package_uri: str, version: str, run_id: str, tags: Mapping[str, str], description: str = ""
    ) -> str:
        """Register a package once and give it the alias `challenger`; returns the registry's version number.

        The same package registered again is the same version: a step that runs twice changes nothing.
        """
        try:
            if not self.client.search_registered_models(filter_string=f"name='{model}'"):
                self.client.create_registered_model(model, description="Registered by Slipway's training pipeline")
            known = self.client.search_model_versions(f"name='{model}'")
            same = [v for v in known if v.tags.get("package_version") == version]
            entry = same[0] if same else None
            if entry is None:
                entry = self.client.create_model_version(
                    model,
                    source=package_uri,
                    run_id=run_id,
                    tags={"package_version": version, **tags},
                    description=description,
                )
            self.client.set_registered_model_alias(model, CHALLENGER, entry.version)
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error
        return str(entry.version)

    def package_uri(self, model: str, alias: str) -> str:
        """Where the package behind models:/<model>@<alias> lies."""
        try:
            return str(self.client.get_model_version_by_alias(model, alias).source)
        except MlflowException as error:
            raise TrackingError(
                f"the registry has no models:/{model}@{alias}", "run the pipeline first: slipway run"
            ) from error

    def registered(self, model: str, which: str) -> Registered:
        """models:/<model>@<which> for an alias, models:/<model>/<which> for a number; which may also be a package's
        version or URI. Raises TrackingError when there is none.
        """
        try:
            found = self.client.search_registered_models(filter_string=f"name='{model}'")
            if not found:
                raise TrackingError(f"the registry has no model {model!r}", "run the pipeline first: slipway run")
            number = found[0].aliases.get(which)
            for entry in self.client.search_model_versions(f"name='{model}'"):
                package = entry.tags.get("package_version", "")
                if str(entry.version) == str(number or which) or which in (package, entry.source):
                    return Registered(model, str(entry.version), str(entry.source), package)
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error
        known = ", ".join(f"@{alias}" for alias in sorted(found[0].aliases)) or "no alias"
        raise TrackingError(
            f"the registry's model {model!r} has no version {which!r}; it has {known}",
            "name an alias, a number, or a package's version; slipway run registers one",
        )

    def alias(self, model: str, alias: str = CHAMPION) -> str:
        """The number of the version with the alias, "" when none has it. Raises TrackingError."""
        try:
            found = self.client.search_registered_models(filter_string=f"name='{model}'")
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error
        return str(found[0].aliases.get(alias, "")) if found else ""

    def point(self, model: str, number: str, alias: str = CHAMPION) -> None:
        """Give the alias to a version, or with "" to none. Twice is once."""
        try:
            if number:
                self.client.set_registered_model_alias(model, alias, number)
            elif self.alias(model, alias):
                self.client.delete_registered_model_alias(model, alias)
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error

    def artifacts(self, model: str, alias: str, name: str, out: Path) -> Path:
        """The folder `name` of the artifacts of the run that made models:/<model>@<alias>, copied into out."""
        self.package_uri(model, alias)  # says it better where there is no such version
        try:
            run_id = str(self.client.get_model_version_by_alias(model, alias).run_id)
            return Path(self.client.download_artifacts(run_id, name, str(out)))
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"the run that made models:/{model}@{alias} has no {name}: {error}",
                "run the pipeline again: slipway run",
            ) from error

    def champion(self, model: str) -> str | None:
        """Where the package behind models:/<model>@champion lies; None where there is no model, or none is champion.

        Raises TrackingError when the registry cannot be asked: that is no "no champion".
        """
        try:
            found = self.client.search_registered_models(filter_string=f"name='{model}'")
            version = found[0].aliases.get(CHAMPION) if found else None
            return None if version is None else str(self.client.get_model_version(model, version).source)
        except MlflowException as error:
            raise _tracking_error(self.uri, error) from error


class Run:
    """One run of MLflow, by id, so that several steps can write to it one after another."""

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self.tracker, self.id = tracker, run_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A failed body leaves a run that says so; a good one stays open for the next step."""
        if kind is not None:
            self.finish("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        now = get_current_time_millis()
        numbers = [Metric(name, float(value), now, step) for name, value in (metrics or {}).items()]
        try:
            self.tracker.client.log_batch(
                self.id,
                metrics=numbers[:BATCH],
                params=[Param(name, str(value)[:6000]) for name, value in (params or {}).items()],
                tags=[RunTag(name, value) for name, value in (tags or {}).items()],
            )
            for begin in range(BATCH, len(numbers), BATCH):
                self.tracker.client.log_batch(self.id, metrics=numbers[begin : begin + BATCH])
        except MlflowException as error:
            raise _tracking_error(self.tracker.uri, error) from error

    def link(self) -> str:
        """Where a browser finds it; "" where MLflow is a file and no server."""
        if not self.tracker.uri.startswith("http"):
            return ""
        return f"{self.tracker.uri.rstrip('/')}/#/experiments/{self.tracker.experiment_id}/runs/{self.id}"

    def log_files(self, path: Path, folder: str | None = None) -> None:
        try:
            if path.is_dir():
                self.tracker.client.log_artifacts(self.id, str(path), folder)
            else:
                self.tracker.client.log_artifact(self.id, str(path), folder)
        except (MlflowException, OSError) as error:
            raise _tracking_error(self.tracker.uri, error) from error

    def tags(self) -> dict[str, str]:
        try:
            return dict(self.tracker.client.get_run(self.id).data.tags)
        except MlflowException as error:
            raise _tracking_error(self.tracker.uri, error) from error

    def finish(self, status: str = "FINISHED") -> None:
        try:
            self.tracker.client.set_terminated(self.id, status)
        except MlflowException as error:
            raise _tracking_error(self.tracker.uri, error) from error


def _checked(database: Path) -> None:
    """What SQLite would try again for minutes is told at once."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{database.parent} cannot be a folder: {error.strerror}", "check SLIPWAY_TRACKING_URI"
        ) from error
    if database.is_dir():
        raise TrackingError(f"{database} is a folder, not a database", "check SLIPWAY_TRACKING_URI")
    if database.is_file():
        with database.open("rb") as file:
            begins = file.read(15)
        if begins not in (b"", b"SQLite format 3"):
            raise TrackingError(f"{database} is no SQLite database", "restore it, or move it away to begin a new one")


def _tracking_error(uri: str, error: Exception) -> TrackingError:
    first_line = str(error).strip().split("\n", 1)[0]
    remedy = "check SLIPWAY_TRACKING_URI and that MLflow is up"
    if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":  # a database removed, and a step's result kept
        remedy = (
            "check SLIPWAY_TRACKING_URI; if it was deleted, remove <SLIPWAY_HOME>/runs/cache to run every step anew"
        )
    return TrackingError(f"MLflow at {uri} failed: {first_line}", remedy)
