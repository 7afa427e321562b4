"""What `slipway tune` and `slipway experiment` learn from: --data as `slipway run` takes it, ingested once and kept."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from components.ingest.step import source_files
from pipelines import fingerprint
from slipway import storage, workload
from slipway.lake.lake import Lake
from slipway.lake.reference import Reference, is_reference
from slipway.settings import Settings
from slipway.workload import Progress, Workload

COUNTS = "counts.json"


@dataclass(frozen=True)
class Inputs:
    """A data set that may not be there yet. version: changes with the source files and with how they are read."""

    workload: Workload
    config: Any
    data: str
    version: str
    folder: Path

    @classmethod
    def named(cls, workload_name: str, profile: str, overrides: Mapping[str, Any], data: str, env: Settings) -> Self:
        """Raises ConfigError, SourceError or StorageError before anything is read."""
        chosen = workload.load(workload_name)
        config = chosen.config(profile, overrides)
        pinned = fingerprint.pinned(data, env)
        read_by = json.dumps(config.model_dump(mode="json", include={"simulate", "ingest"}), sort_keys=True)
        text = f"{workload_name} {pinned} {fingerprint.data_version(pinned)} {read_by}"
        version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cls(chosen, config, pinned, version, env.home / "data" / f"{workload_name}-{version}")

    def ingested(self, progress: Progress) -> Path:
        """The data set's folder; ingested now, whole or not at all, unless it was before."""
        data = self.folder / "data"
        # Two commands at once need the same: the second waits, and finds it there.
        with storage.held(self.folder.with_name(f"{self.folder.name}.lock"), "an ingestion", wait=True):
            if not (self.folder / COUNTS).exists():
                self._ingest(data, progress)
        return data

    def _ingest(self, data: Path, progress: Progress) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if is_reference(self.data):
            read = Reference.parse(self.data, "")
            counts = self.workload.training_set(Lake(), read.data_set, read.version, data, progress)
        else:
            with source_files(self.workload, self.config, self.data, progress) as source:
                counts = self.workload.ingest(source, data, self.config, progress)
        storage.write_atomically(self.folder / COUNTS, json.dumps(counts) + "\n")

    @property
    def shown(self) -> str:
        """--data without the folders of this machine above it."""
        return Path(self.data).name if self.data.startswith("/") else self.data
