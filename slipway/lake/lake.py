"""Where each table of the lake lies: <store>/<area>/<data set>/<table>. Knows places, not what is in a table.

raw         what came in, as it came: source files by content, rejected rows with their reasons
processed   clean events, one schema, partitioned by the date on which they happened
features    feature tables (what Feast's offline store reads) and labelled examples
models      training sets as they were read, and the packages made of them
logs        production's own: exposures and feedback
"""

from collections.abc import Iterator
from typing import Literal, get_args

from slipway import storage
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

    def tables(self) -> Iterator[tuple[Area, str, Table]]:
        """(area, data set, table) of every table that exists."""
        for area in AREAS:
            found = {tuple(key.split("/")[1:3]) for key in self.objects.keys(f"{area}/") if "/_delta_log/" in key}
            for data_set, name in sorted(found):
                yield area, data_set, self.table(area, data_set, name)
