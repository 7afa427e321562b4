"""Where the embedded KServe keeps what: folders below <home>/serving. Knows names, and reads nothing."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    root: Path

    @property
    def packages(self) -> Path:
        return self.root / "packages"

    @property
    def records(self) -> Path:
        return self.root / "children"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"
