"""What a workload implements, and nothing about any of them: a step never asks which workload it has.

A new use case is a new folder under `slipway/workloads/` whose package offers `workload()`, and nothing else.
Every method reads folders and writes folders, so that a step can run in any process, container or cluster.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slipway import workloads
from slipway.errors import ConfigError
from slipway.package import Golden, Package, Signature, Tensors
from slipway.redaction import Redaction

if TYPE_CHECKING:
    import polars as pl

    from slipway.cards.facts import Facts
    from slipway.lake.lake import Lake
    from slipway.lake.ledger import Landed
    from slipway.optimisation.results import Results
    from slipway.tuning.space import SearchSpace
    from slipway.validation.report import Report


@dataclass(frozen=True)
class Scaling:
    """Where a model trains; num_workers 0 is in this very process, without a Ray cluster.

    s3_endpoint_url: of the object store that checkpoints go to, where it is S3 and not AWS's own.
    """

    num_workers: int = 0
    use_gpu: bool = False
    s3_endpoint_url: str | None = None


Progress = Callable[[str, float, Mapping[str, float]], None]
"""(what, share done in 0..1, metrics so far); called at least once an epoch."""


@dataclass(frozen=True)
class Prediction:
    """outputs: the tensors that the signature names; notes: facts about how they came to be (fallbacks); stages: the
    seconds that each stage took; lost: stages that are missing in them, and why (late, failed, paused).
    """

    outputs: Tensors
    notes: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered request, as it is captured. at: ms since 1970, UTC; seconds: from the decoded request to its
    answer; shadow: it was mirrored, and nobody saw the answer.
    """

    request_id: str
    inputs: Tensors
    prediction: Prediction
    at: int
    seconds: float
    shadow: bool


@dataclass(frozen=True)
class Served:
    """Who answers: the model's name on the endpoint, its package's version, its revision."""

    model: str
    package: str
    revision: str


@dataclass(frozen=True)
class Heard:
    """One event of people's feedback. message: for the topic `feedback`, or None where it is refused; refused: why,
    and what to send instead.
    """

    event_id: str
    request_id: str
    message: Mapping[str, Any] | None
    refused: str = ""


class Recorder(Protocol):
    """What of answers and feedback goes onto the event stream."""

    def shown(self, answered: Answered) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """(topic, message) for each user of a request; messages may hold numpy arrays."""

    def heard(self, events: Sequence[Any], now: int) -> list[Heard]:
        """events: as they came, one Heard for each; now: ms since 1970, UTC."""


class Predictor(Protocol):
    """A loaded package that answers requests. Thread-safe; imports no training library."""

    @property
    def signature(self) -> Signature: ...

    def connect(self) -> None:
        """Begin to use what the feature store knows beyond the package; the golden answers were given without it."""

    def predict(self, inputs: Tensors) -> Prediction:
        """Raises RequestError, naming the remedy, for anything that a client got wrong; nothing else."""


@dataclass(frozen=True)
class Exported:
    """What a package is sealed with, beside its files: golden holds recorded requests and their answers.

    data_uri: where the events can be read again, when that is not the folder of the run: a table and its version.
    """

    signature: Signature
    golden: list[Golden]
    data_sha256: str
    events: int
    data_uri: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the gate says: admitted or not, why, and the metrics that it looked at."""

    admitted: bool
    reason: str
    metrics: Mapping[str, float]


class Workload(Protocol):
    name: str

    def config(self, profile: str, overrides: Mapping[str, Any]) -> Any:
        """The frozen configuration, a section per step (`simulate` is ingest's); raises ConfigError for an unknown
        profile or key.
        """

    def search_space(self) -> "SearchSpace":
        """Which keys of the configuration `slipway tune` may change; raises ConfigError when the file is broken."""

    def simulate(self, out: Path, config: Any, progress: Progress) -> None:
        """Write source files of simulated users, in a public data set's format."""

    def ingest(self, source: Path, out: Path, config: Any, progress: Progress) -> dict[str, float]:
        """Source files → the workload's data set; returns counts. Raises SourceError."""

    def train(
        self, data: Path, out: Path, config: Any, scaling: Scaling, progress: Progress, checkpoints: str
    ) -> dict[str, float]:
        """Data set → trained models. checkpoints: a URI (file:///… or s3://…) below which this training alone writes,
        and from which it goes on when it was killed.
        """

    def evaluate(
        self,
        data: Path,
        model: Path,
        out: Path,
        config: Any,
        progress: Progress,
        champion: Mapping[str, float] | None = None,
    ) -> Verdict:
        """Trained models → evaluation.json and report.html in out, and the verdict: admitted only where the gate and
        every blocking check say so. champion: the metrics of the package behind that alias, None where there is none.
        """

    def optimise(self, data: Path, model: Path, out: Path, config: Any, progress: Progress) -> "Results":
        """Trained models → the files that are served in out, parity with the trained model checked: the fastest that
        answer as well. Raises PackageError.
        """

    def contract(self, data: Path, folder: Path) -> Exported:
        """What a package of the files in folder is sealed with, its answers recorded as they will be served."""

    def facts(self, data: Path, model: Path) -> "Facts":
        """What the model card and the data card say that only the workload knows. Raises SourceError, TrainingError."""

    def predictor(self, package: Package) -> Predictor: ...

    def recorder(self, served: Served, redaction: Redaction) -> Recorder: ...

    def land(self, source: Path, lake: "Lake", data_set: str, config: Any, progress: Progress) -> "Landed":
        """Source files → the lake, each once however often it comes. Raises SourceError, StorageError."""

    def label(self, lake: "Lake", data_set: str, config: Any, progress: Progress) -> dict[str, float]:
        """The production log in the lake → labelled examples, for dates with new rows; returns counts."""

    def training_set(
        self, lake: "Lake", data_set: str, version: int | None, out: Path, progress: Progress
    ) -> dict[str, float]:
        """A version of the lake's events, by default the newest, → what `ingest` makes of source files; returns counts.

        The same version gives the same data set, whatever came into the lake since. Raises StorageError, SourceError,
        DataQualityError.
        """

    def validate(self, lake: "Lake", data_set: str, progress: Progress) -> "list[Report]":
        """Check each table of a data set in the lake against its suites. Raises StorageError, nothing for bad data."""

    def features(self, lake: "Lake", data_set: str, progress: Progress) -> dict[str, float]:
        """The lake's events → the feature tables that feature_repo/ declares, from the first changed date on; returns
        the rows written. Raises StorageError.
        """

    def reclean(self, lake: "Lake", data_set: str, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Rows of the quarantine (row, source, line, text, reason), cleaned as new ones would be: the good ones
        are in the lake afterwards, each once however often they come. Returns row and reason, null for a good one.
        """


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(workloads.__path__) if module.ispkg)


def folder(name: str) -> Path:
    """Where a workload's own files lie: profiles/<profile>.yaml, search.yaml, experiments/<experiment>.py."""
    return Path(workloads.__path__[0]) / name


def load(name: str) -> Workload:
    """Raises ConfigError for a name that is not a folder under slipway/workloads."""
    if name not in names():
        raise ConfigError(f"there is no workload {name!r}", f"choose one of: {', '.join(names())}")
    loaded: Workload = importlib.import_module(f"{workloads.__name__}.{name}").workload()
    return loaded
