"""Every error that Slipway raises on purpose; each carries its data and names the remedy.

SlipwayError
├── ConfigError            a setting, profile or parameter that cannot be used
├── SourceError            input files that cannot be recognised or read
│   └── QuarantineLimitError   more bad rows than the limit allows
├── DataQualityError       a table that breaks its suite's hard rules
├── StorageError           an object store that refused or lost something
│   ├── ObjectNotFoundError    no object at that URI
│   ├── ColumnsError           rows whose columns are not the table's
│   └── ConflictError          another writer committed first
├── FeatureStoreError      the feature store is away, late, not set up, or asked for what it has not
│   └── UnknownViewError       no feature view of that name
├── StreamError            the event stream cannot be reached, or refused a message
├── PackageError           a model package that must not be served
│   ├── IntegrityError         a missing, added or changed file
│   ├── SignatureError         tensors that are not what package.json says
│   └── GoldenError            answers that are not the recorded ones
├── TrainingError          a run that cannot produce a usable model
│   └── LeakError              training data that holds what is asked, or what came later
├── TrackingError          MLflow refused or cannot be reached
├── RequestError           a client's request that cannot be answered (HTTP 400)
├── ServingError           the serving stack
│   ├── PortInUseError         somebody listens there already
│   ├── NotRunningError        the embedded stack is down
│   ├── NotReadyError          an InferenceService did not become ready in time
│   ├── ManifestError          an object that the API must refuse
│   │   └── SameError              a change that would change nothing
│   └── StagingError           a build that did not hold what it must before anybody sees it
├── RolloutError           a rollout that cannot begin, go on, or was rolled back
│   ├── HeldError              another rollout, or another controller, holds the service
│   └── ServedError            the service serves that package already
├── ImageError             a container image that cannot be built, pushed or described
└── PipelineError          a step or a whole pipeline run
    └── BusyError              another run holds the same home
"""

import errno
from pathlib import Path

REFUSALS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR})
"""Of an OSError: the machine's word, no mistake of ours."""


class SlipwayError(Exception):
    """Base: `message` says what is wrong, `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}\n  → {remedy}" if remedy else message)


class ConfigError(SlipwayError):
    pass


class SourceError(SlipwayError):
    pass


class QuarantineLimitError(SourceError):
    """bad of total rows were quarantined, which is a larger share than limit."""

    def __init__(self, bad: int, total: int, limit: float, quarantine: Path | str, reasons: dict[str, int]) -> None:
        self.bad, self.total, self.limit, self.quarantine, self.reasons = (
            bad,
            total,
            limit,
            quarantine,
            reasons,
        )
        shares = ", ".join(f"{name}: {count:,}" for name, count in sorted(reasons.items(), key=lambda r: -r[1]))
        super().__init__(
            f"{bad:,} of {total:,} rows ({bad / max(total, 1):.2%}) are bad; the limit is {limit:.2%} ({shares})",
            f"see {quarantine} for each row and its reason; repair the source, or raise ingest.max_bad_share",
        )


class DataQualityError(SlipwayError):
    """suite refused a table: failed names the broken checks with their counts; the message shows their first rows."""

    def __init__(self, suite: str, failed: dict[str, int], shown: str, remedy: str) -> None:
        self.suite, self.failed = suite, failed
        counts = ", ".join(f"{check}: {count:,}" for check, count in failed.items())
        super().__init__(f"the data is refused by {suite} ({counts})\n{shown}", remedy)


class StorageError(SlipwayError):
    pass


class ObjectNotFoundError(StorageError):
    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"there is no object at {uri}", "check the URI, and that the run that writes it finished")


class ColumnsError(StorageError):
    """wrong: what is wrong with each column, in words."""

    def __init__(self, uri: str, wrong: list[str]) -> None:
        self.uri, self.wrong = uri, wrong
        super().__init__(
            f"the columns are not those of {uri}: {'; '.join(wrong)}",
            "bring the rows to the table's columns, or write them to a table of another name",
        )


class FeatureStoreError(SlipwayError):
    pass


class UnknownViewError(FeatureStoreError):
    def __init__(self, name: str, known: list[str]) -> None:
        self.name, self.known = name, known
        super().__init__(
            f"there is no feature view {name!r}; there are: {', '.join(known) or 'none'}",
            "check the name, or apply the definitions: feast -c feature_repo apply",
        )


class StreamError(SlipwayError):
    pass


class ConflictError(StorageError):
    def __init__(self, uri: str, error: Exception) -> None:
        self.uri = uri
        super().__init__(f"another writer of {uri} committed first: {error}", "do it again; nothing was written")


class PackageError(SlipwayError):
    pass


class IntegrityError(PackageError):
    def __init__(
        self, message: str, remedy: str = "fetch the package again from the registry; never edit one in place"
    ) -> None:
        super().__init__(message, remedy)


class SignatureError(PackageError):
    pass


class GoldenError(PackageError):
    pass


class TrainingError(SlipwayError):
    pass


class LeakError(TrainingError):
    def __init__(self, count: int, what: str, example: str) -> None:
        self.count, self.what = count, what
        super().__init__(
            f"the split leaks: {count:,} {what}, such as {example}",
            "no figure of this split can be trusted; build it with slipway.workloads.movies.splits, or repair what did",
        )


class TrackingError(SlipwayError):
    pass


class RequestError(SlipwayError):
    pass


class ServingError(SlipwayError):
    pass


class PortInUseError(ServingError):
    def __init__(self, port: int, setting: str) -> None:
        self.port = port
        super().__init__(
            f"port {port} on 127.0.0.1 is already taken",
            f"stop what listens there, or set {setting} to a free port",
        )


class NotRunningError(ServingError):
    def __init__(self) -> None:
        super().__init__("the embedded KServe is not running", "start it with: slipway up")


class NotReadyError(ServingError):
    pass


class ManifestError(ServingError):
    pass


class SameError(ManifestError):
    """Nothing would change."""


class StagingError(ServingError):
    """broken: each check and objective that did not hold, in words."""

    def __init__(self, package: str, broken: list[str], remedy: str) -> None:
        self.package, self.broken = package, broken
        super().__init__(f"package {package} is refused in staging: {'; '.join(broken)}", remedy)


class AbsentError(ServingError):
    pass


class StaleError(ServingError):
    pass


class RolloutError(SlipwayError):
    pass


class HeldError(RolloutError):
    pass


class ServedError(RolloutError):
    pass


class ImageError(SlipwayError):
    pass


class PipelineError(SlipwayError):
    pass


class BusyError(PipelineError):
    def __init__(self, home: Path, holder: str) -> None:
        super().__init__(
            f"another run holds {home} ({holder})",
            "wait for it to end, or set SLIPWAY_HOME to another folder",
        )
