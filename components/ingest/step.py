"""Source files, or a version of the lake → the workload's data set. Knows where data comes from, not what is in it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.report import step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.errors import SourceError
from slipway.lake.lake import Lake
from slipway.lake.reference import Reference, is_reference
from slipway.settings import settings

SIMULATED = "simulated"


def run(workload_name: str, profile: str, overrides: str, data: str, out: Path) -> dict[str, float]:
    """data: "simulated", a folder's path, a file:// or s3:// URI of one, or "lake:<data set>@<version>".

    Returns the counts of what is there.
    """
    with step("ingest") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        if is_reference(data):
            read = Reference.parse(data, settings().data_set)
            return chosen.training_set(Lake(), read.data_set, read.version, out, progress)
        with source_files(chosen, config, data, progress) as source:
            return chosen.ingest(source, out, config, progress)


@contextmanager
def source_files(chosen: workload.Workload, config: Any, data: str, progress: workload.Progress) -> Iterator[Path]:
    """The folder that `data` means, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="slipway-ingest-") as scratch:
        source = Path(scratch) / "source"
        if data == SIMULATED:
            chosen.simulate(source, config, progress)
        elif "://" in data:
            _fetch(data, source)
        else:
            source = Path(data)
        yield source


def _fetch(uri: str, folder: Path) -> None:
    remote = storage.store(uri, settings().s3_endpoint_url)
    keys = list(remote.keys())
    if not keys:
        raise SourceError(f"there are no files at {uri}", "check the URI; it names a folder of source files")
    for key in keys:
        remote.download(key, folder / key)
