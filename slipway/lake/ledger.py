"""Which source files were ingested, and what became of each. Knows files by their content, no format.

raw/<data set>/files/<sha256[:16]>/<name>    the file as it came
raw/<data set>/ingested/<sha256[:16]>.json   its record; written last, so it means "done"
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from slipway.errors import StorageError
from slipway.lake.lake import Lake
from slipway.package import Frozen


class Ingested(Frozen):
    file: str
    sha256: str
    bytes: int
    source: str  # the format's name
    at: datetime
    repeats: bool  # people come back to the same item
    events: int  # new ones; 0 for a file that holds none, as a list of films
    known: int  # events that the lake had already
    quarantined: dict[str, int]  # reason → lines of this file


@dataclass(frozen=True)
class Landed:
    """What one call did. files: ingested now; skipped: those whose content was ingested before."""

    source: str
    files: tuple[str, ...]
    skipped: tuple[str, ...]
    events: int
    known: int
    items: int  # in the lake now
    users: int
    quarantined: dict[str, int]
    version: int  # of processed/<data set>/events


def keep(lake: Lake, data_set: str, path: Path, digest: str) -> None:
    """Put a copy of a source file into the lake."""
    lake.objects.upload(path, f"raw/{data_set}/files/{digest[:16]}/{path.name}")


def record(lake: Lake, data_set: str, ingested: Ingested) -> None:
    key = f"raw/{data_set}/ingested/{ingested.sha256[:16]}.json"
    lake.objects.write(key, ingested.model_dump_json(indent=1).encode())


def records(lake: Lake, data_set: str) -> list[Ingested]:
    """Oldest first. Raises StorageError when one was changed."""
    found = []
    for key in lake.objects.keys(f"raw/{data_set}/ingested/"):
        try:
            found.append(Ingested.model_validate_json(lake.objects.read(key)))
        except ValidationError as error:
            raise StorageError(
                f"{lake.uri}/{key} is no record of a file: {error}", "delete it, and ingest the file again"
            ) from error
    return sorted(found, key=lambda one: one.at)
