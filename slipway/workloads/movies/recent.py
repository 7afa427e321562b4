"""What users did since the package's snapshot, from the feature store. Knows times and item ids, not how a store works.

The store may be away, late or not yet filled: then there is nothing recent, and the answer says so. How long a request
waits for it, and when it is left alone, says budget.py.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from slipway.errors import FeatureStoreError, SlipwayError
from slipway.features import places
from slipway.settings import settings
from slipway.workloads.movies.budget import Clock, Guard, LostError
from slipway.workloads.movies.interactions import IntArray

if TYPE_CHECKING:
    from slipway.features.online import OnlineStore

PATIENCE = 10.0  # seconds between attempts to open the store

log = logging.getLogger(__name__)


class Features(StrEnum):
    """Where the histories of an answer come from."""

    ONLINE = "online"  # the package, and what the feature store knows beyond it
    PACKAGE = "package"  # no feature store is in use, or the package has no times to go on from
    LATE = "late"  # the feature store is there, and did not answer: of users in time, or of items when last asked


class History(Protocol):
    """items: (n,) int64 source ids, oldest first; times: (n,) int64 milliseconds since 1970 UTC."""

    @property
    def items(self) -> IntArray: ...

    @property
    def times(self) -> IntArray: ...


class Reader(Protocol):
    def limit(self, seconds: float) -> bool:
        """From now on a read ends by itself after so many seconds. False where this store cannot promise it."""

    def read_histories(self, users: Sequence[int]) -> Sequence[History]:
        """One history per user, empty for an unknown one. Raises FeatureStoreError."""


def open_online(data_set: str) -> "OnlineStore":
    """The online store of a data set, once something was written to it: until then Feast is not even imported.

    Raises FeatureStoreError.
    """
    if settings().feature_store is None and not places.in_use(data_set):
        raise FeatureStoreError(
            f"there are no online features of {data_set}", "fill them: slipway ingest --source stream --follow"
        )
    from slipway.features.online import OnlineStore

    return OnlineStore.open(settings().feature_store, data_set)


class Recent:
    """until: milliseconds since 1970 UTC of the newest event in the package; None: the package knows no times."""

    def __init__(self, until: int | None, guard: Guard) -> None:
        self.until = until
        self._guard = guard
        self._reader: Reader | None = None
        self._ends = False
        self._said = ""

    def connect(self, open_store: Callable[[], Reader]) -> None:
        """Open the store, or go on without and try again beside: what opens it costs a second of this process."""
        if self.until is not None and not self._open(open_store):
            threading.Thread(target=self._open_later, args=(open_store,), name="features", daemon=True).start()

    def of(self, users: IntArray, clock: Clock) -> tuple[list[IntArray], Features]:
        """(n,) ids → per user the source ids of the items since the snapshot, oldest first."""
        nothing = [np.empty(0, dtype=np.int64)] * len(users)
        if self._reader is None or self.until is None:
            return nothing, Features.PACKAGE
        try:
            histories = self._guard.run(clock, self._reader.read_histories, users.tolist(), ends=self._ends)
        except LostError:  # whatever a store does, the request is answered
            return nothing, Features.LATE
        return [history.items[history.times > self.until] for history in histories], Features.ONLINE

    def _open(self, open_store: Callable[[], Reader]) -> bool:
        try:
            reader = open_store()
            self._ends = reader.limit(self._guard.seconds)
            self._reader = reader
        except SlipwayError as error:
            if self._said != error.message:
                log.info("answering from the package alone: %s → %s", error.message, error.remedy)
            self._said = error.message
            return False
        log.info("reading what happened since the package from the feature store")
        return True

    def _open_later(self, open_store: Callable[[], Reader]) -> None:
        while True:
            time.sleep(PATIENCE)
            if self._open(open_store):
                return
