"""What `--data lake…` means: a data set of the lake, and which version of its events. Knows the words, reads no rows.

lake                          the newest version of SLIPWAY_DATA_SET
lake:<data set>               the newest version of that data set
lake:<data set>@<version>     exactly that one: what an earlier run read is read again
"""

import re
from dataclasses import dataclass
from typing import Self

from slipway.errors import ConfigError
from slipway.lake.lake import Lake

EVENTS = "events"  # the table of `processed` whose versions name those of a data set
_WORDS = re.compile(r"lake(?::(?P<data_set>[a-z0-9][a-z0-9_-]*)(?:@(?P<version>[0-9]{1,18}))?)?")


@dataclass(frozen=True)
class Reference:
    data_set: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str, default: str) -> Self:
        """default: the data set that `lake` alone names. Raises ConfigError."""
        found = _WORDS.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} names no data set of the lake", "write lake:<data set>@<version>, or lake")
        version = found["version"]
        return cls(found["data_set"] or default, None if version is None else int(version))

    def resolved(self, lake: Lake) -> "Reference":
        """With its version. Raises StorageError when the lake has no such data set or version."""
        table = lake.table("processed", self.data_set, EVENTS)
        return Reference(self.data_set, int(table.open(self.version).version()))

    def __str__(self) -> str:
        return f"lake:{self.data_set}" + ("" if self.version is None else f"@{self.version}")


def is_reference(data: str) -> bool:
    """Whether `--data` speaks of the lake; a folder of that name is written ./lake."""
    return data == "lake" or data.startswith("lake:")
