"""Source files → the workload's data set. Knows where data can come from, not what is in it."""

import tempfile
from pathlib import Path

from components.report import step
from slipway import storage, workload
from slipway.config import parse_overrides
from slipway.errors import SourceError
from slipway.settings import settings

SIMULATED = "simulated"


def run(workload_name: str, profile: str, overrides: str, data: str, out: Path) -> dict[str, float]:
    """data: "simulated", a folder's path, or a file:// or s3:// URI of one. Returns the counts of what is there."""
    with step("ingest") as progress:
        chosen = workload.load(workload_name)
        config = chosen.config(profile, parse_overrides(overrides))
        with tempfile.TemporaryDirectory(prefix="slipway-ingest-") as scratch:
            source = Path(scratch) / "source"
            if data == SIMULATED:
                chosen.simulate(source, config, progress)
            elif "://" in data:
                _fetch(data, source)
            else:
                source = Path(data)
            return chosen.ingest(source, out, config, progress)


def _fetch(uri: str, folder: Path) -> None:
    remote = storage.store(uri, settings().s3_endpoint_url)
    keys = list(remote.keys())
    if not keys:
        raise SourceError(f"there are no files at {uri}", "check the URI; it names a folder of source files")
    for key in keys:
        remote.download(key, folder / key)
