"""Where each table of the lake lies: <store>/<area>/<data set>/<table>. Knows places, not what is in a table.

raw         what came in, as it came: source files by content, rejected rows with their reasons
processed   clean events, one schema, partitioned by the date on which they happened
features    feature tables (what Feast's offline store reads) and labelled examples
models      training sets as they were read, and the packages made of them
logs        production's own: exposures, shadows and feedback
"""

from collections.abc import Iterator
from typing import Literal, get_args

from slipway import storage
from slipway.errors import ObjectNotFoundError
from slipway.lake import snapshot
from slipway.lake.snapshot import Snapshot
from slipway.lake.table import Table
from slipway.settings import settings

Area = Literal["raw", "processed", "features", "models", "logs"]
AREAS: tuple[Area, ...] = get_args(Area)


class Lake:
    """uri: file:///… or s3://bucket/prefix; default: the settings' store."""

    def __init__(self, uri: str = "", endpoint_url: str | None = None) -> None:
        self.uri = (uri or settings().store).rstrip("/")
        self.endpoint_url = endpoint_url or settings().s3_endpoint_url
        self.objects = storage.store(self.uri, self.endpoint_url)

    def table(self, area: Area, data_set: str, name: str) -> Table:
        return Table(f"{self.uri}/{area}/{data_set}/{name}", self.endpoint_url)

    def data_sets(self) -> list[str]:
        return sorted({name for area in AREAS for name in self.objects.folders(area)})

    def tables(self) -> Iterator[tuple[Area, str, Table]]:
        """(area, data set, table) of every table that exists."""
        for area in AREAS:
            for data_set in self.objects.folders(area):
                for name in self.objects.folders(f"{area}/{data_set}"):
                    if any(True for _ in self.objects.keys(f"{area}/{data_set}/{name}/_delta_log/")):
                        yield area, data_set, self.table(area, data_set, name)

    def snapshot(self, area: Area, data_set: str, name: str, version: int | None = None) -> Snapshot:
        """Take a snapshot of a table and store it; its version is pinned from then on.

        Files that an earlier snapshot has are not read again. Raises StorageError when there is no such version.
        """
        table = self.table(area, data_set, name)
        known: dict[str, str] = {}
        for earlier in self.snapshots(data_set):
            if earlier.uri == table.uri:
                known |= earlier.hashes
        taken = table.snapshot(version, known)
        key = _key(data_set, taken.id)
        if key not in self.objects.keys(key):
            self.objects.write(key, taken.model_dump_json(indent=1).encode())
        return taken

    def snapshots(self, data_set: str) -> list[Snapshot]:
        """Those stored, oldest first. Raises IntegrityError when one was changed."""
        keys = [key for key in self.objects.keys(_key(data_set, "")) if key.endswith(".json")]
        found = [snapshot.read(self.objects.read(key), f"{self.uri}/{key}") for key in keys]
        return sorted(found, key=lambda s: s.created)

    def stored_snapshot(self, data_set: str, id_: str) -> Snapshot:
        """id_: whole, or its first characters as far as they are unique. Raises ObjectNotFoundError."""
        keys = list(self.objects.keys(_key(data_set, id_).removesuffix(".json")))
        if len(keys) != 1:
            raise ObjectNotFoundError(f"{self.uri}/{_key(data_set, id_)}")
        return snapshot.read(self.objects.read(keys[0]), f"{self.uri}/{keys[0]}")


def _key(data_set: str, id_: str) -> str:
    return f"models/{data_set}/snapshots/{id_}{'.json' if id_ else ''}"
