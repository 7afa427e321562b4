"""What a workload finds out about one run's data and training. Knows no text and no Markdown."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway.cards.about import About, Material
from slipway.package import Frozen


class Table(Frozen):
    """A table of the lake that was read."""

    name: str
    uri: str
    version: int
    snapshot: str


class Column(Frozen):
    """One column as it lies in the data set; missing: share of its rows that are null."""

    name: str
    type: str
    missing: float


class Split(Frozen):
    """One part of the data set; users and items: distinct ones in it."""

    name: str
    events: int
    users: int
    items: int


class DataFacts(Frozen):
    """begin, end: of the events, None where the source gives only an order; quarantined: reason → rows."""

    name: str  # the format or source
    simulated: bool
    sha256: str
    tables: tuple[Table, ...]
    counts: dict[str, int]
    begin: datetime | None
    end: datetime | None
    quarantined: dict[str, int]
    columns: dict[str, tuple[Column, ...]]  # file → columns
    protocol: str
    splits: tuple[Split, ...]
    shape: dict[str, str]  # name → figure: how concentrated, how sparse


class TrainingFacts(Frozen):
    """configuration: as it was trained; cpu_seconds: of all processes."""

    configuration: dict[str, Any]
    epochs: int
    cpu_seconds: float
    validation: dict[str, float]


@dataclass(frozen=True)
class Facts:
    """All that the cards say and only the workload knows. material: where the data set came from, if that is known."""

    about: About
    materials: tuple[Material, ...]
    material: Material | None
    data: DataFacts
    training: TrainingFacts


@dataclass(frozen=True)
class Origin:
    """Which run made it: what a package's own card leaves to package.json, so that equal content is one package.

    Where the package lies is not among it: the registry says that, and a card is read where the folder is not.
    """

    version: str
    git_commit: str
    pipeline_run: str
    mlflow_run: str
    profile: str
    created: datetime
