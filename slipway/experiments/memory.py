"""The arms of one experiment that were measured already, and their runs in MLflow. Knows files and runs, no arm.

An arm's figures are a JSON file in scratch, so an interrupted experiment goes on after the last whole arm. Each arm is
a child run of the experiment's run.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slipway import storage
from slipway.tracking import Run, Tracker

ARMS = "arms"
LONGEST = 100  # numbers of a curve
RUN = "mlflow_run.json"
PARENT = "mlflow.parentRunId"  # what MLflow's pages nest runs by


@dataclass(frozen=True)
class Memory:
    """folder: of this experiment with this data, budget and seed. commit: of the code that measures."""

    folder: Path
    run: Run
    commit: str

    @classmethod
    def open(cls, folder: Path, tracker: Tracker, name: str, commit: str, params: Mapping[str, Any]) -> Self:
        """Go on in the run of an earlier, interrupted try where there is one in this MLflow."""
        place = folder / RUN
        known = json.loads(place.read_text()) if place.exists() else {}
        if known.get("tracking") == tracker.uri:
            return cls(folder, tracker.resume(known["run"]), commit)
        run = tracker.start(name, {"kind": "experiment", "experiment": name, "mlflow.source.git.commit": commit})
        run.log(params=params)
        storage.write_atomically(place, json.dumps({"tracking": tracker.uri, "run": run.id}))
        return cls(folder, run, commit)

    def remember(self, key: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        path = self._path(key)
        if path.exists():
            return dict(json.loads(path.read_text())["figures"])
        with self._child(key) as child:
            begun, cpu = time.perf_counter(), time.process_time()
            # Through JSON at once, so that an arm gives the same types when it is measured and when it is remembered.
            figures: dict[str, Any] = json.loads(json.dumps(dict(compute()), default=_plain))
            took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
            child.log(**_logged(figures))  # type: ignore[arg-type]
        record = {"key": key, "commit": self.commit, **took, "figures": figures}
        storage.write_atomically(path, json.dumps(record, indent=2) + "\n")
        return figures

    def arms(self) -> list[dict[str, Any]]:
        """Every arm that is known, oldest first: key, commit, seconds, cpu_seconds (of this process), figures.

        Without the figures that hold a number for each user or case: a page is of a data set, not of its people.
        """
        paths = sorted((self.folder / ARMS).glob("*.json"), key=lambda path: path.stat().st_mtime)
        arms: list[dict[str, Any]] = [json.loads(path.read_text()) for path in paths]
        return [arm | {"figures": {k: v for k, v in arm["figures"].items() if not _is_long(v)}} for arm in arms]

    @contextmanager
    def _child(self, key: str) -> Iterator[Run]:
        child = self.run.tracker.start(
            key, {PARENT: self.run.id, "kind": "arm", "mlflow.source.git.commit": self.commit}
        )
        with child:
            yield child
            child.finish()

    def _path(self, key: str) -> Path:
        short = re.sub(r"[^A-Za-z0-9.-]+", "_", key)[:60]
        return self.folder / ARMS / f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be remembered: give numbers, strings, lists and mappings")


def _logged(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Numbers as metrics, words as parameters; curves stay in the experiment's JSON."""
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}
    for name, value in _flat(figures):
        label = re.sub(r"[^\w\-. /]", "_", name)
        if isinstance(value, bool | str):
            params[label] = value
        elif isinstance(value, int | float) and math.isfinite(value):
            metrics[label] = value
    return {"metrics": metrics, "params": params}


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_long(figure: object) -> bool:
    return isinstance(figure, list) and len(figure) > LONGEST
