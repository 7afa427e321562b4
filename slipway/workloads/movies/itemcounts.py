"""What is going on around each item: as the package knows it, or fresher, read beside the requests.

The feature store's view item_statistics holds what the package holds, of a later day: events of the last 7 and 28 whole
UTC days. A thread reads it once a minute; a request takes what is there and never waits. A store that fails leaves the
numbers as they are, and the answers say that it is late. Knows a view's name and two of its fields, no model.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from slipway.errors import SlipwayError
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.recommender import Popular
from slipway.workloads.movies.rerank.features import Tables
from slipway.workloads.movies.rerank.items import ItemTable, Popularity

VIEW, WEEK, MONTH = "item_statistics", "item_events_7d", "item_events_28d"  # as feature_repo/ names them online
EVERY = 60.0  # seconds between looks
RETRY = 5.0  # seconds after a look that failed
BATCH = 2000  # items of one statement: SQLite bounds its parameters

log = logging.getLogger(__name__)


class Row(Protocol):
    """One item's fields."""

    @property
    def values(self) -> Mapping[str, Any]: ...


class Reader(Protocol):
    def read(self, view: str, ids: Sequence[int], now: datetime | None = None) -> Sequence[Row | None]:
        """One row per id, None where there is none within the view's TTL. Raises FeatureStoreError."""


@dataclass(frozen=True, eq=False)
class FreshItems(ItemTable):
    """The package's items with windows that somebody else counted, as of `until`."""

    windows: Popularity

    @classmethod
    def of(cls, items: ItemTable, windows: Popularity, until: int) -> "FreshItems":
        kept = {field.name: getattr(items, field.name) for field in fields(ItemTable)}
        return cls(**{**kept, "until": until}, windows=windows)

    def at(self, time: int) -> Popularity:  # noqa: ARG002 - there is one moment's numbers only
        return self.windows


@dataclass(frozen=True, eq=False)
class Lately:
    """One moment's numbers."""

    tables: Tables
    popular: Popular

    @classmethod
    def of(cls, tables: Tables) -> "Lately":
        return cls(tables, Popular.of(tables.items.popular(tables.items.until)))


class ItemCounts:
    """`now` is replaced whole, so that a request sees one moment's numbers. late: the last look failed."""

    def __init__(self, tables: Tables, item_ids: IntArray) -> None:
        """tables: the package's; item_ids: (V + 1,) source ids, [0] is the padding's."""
        self.now = Lately.of(tables)
        self.late = False
        self._package = tables
        self._item_ids = item_ids

    def connect(self, open_store: Callable[[], Reader]) -> None:
        """Begin to look. The thread opens a store of its own: SQLite's connection is one thread's at a time, and no
        request may wait for this one.
        """
        if self._package.items.until is not None:
            threading.Thread(target=self._follow, args=(open_store,), name="item counts", daemon=True).start()

    def refresh(self, reader: Reader, moment: datetime | None = None) -> None:
        """Raises what the store raises; the numbers then stay. Where no item has a row within the TTL, the package's
        count: that is a store that nobody fills, not a world in which nothing happens.
        """
        moment = moment or datetime.now(UTC)
        windows = Popularity(*(np.zeros(len(self._item_ids), dtype=np.float32) for _ in range(2)))
        found = False
        for begin in range(1, len(self._item_ids), BATCH):
            ids = self._item_ids[begin : begin + BATCH].tolist()
            for index, row in enumerate(reader.read(VIEW, ids, moment), start=begin):
                if row is not None:
                    found = True
                    windows.short[index], windows.long[index] = row.values[WEEK] or 0, row.values[MONTH] or 0
        if found:
            items = FreshItems.of(self._package.items, windows, round(moment.timestamp() * 1000))
            self.now = Lately.of(replace(self._package, items=items))
        elif isinstance(self.now.tables.items, FreshItems):
            self.now = Lately.of(self._package)

    def _follow(self, open_store: Callable[[], Reader]) -> None:
        reader: Reader | None = None
        said = ""
        while True:
            try:
                reader = reader or open_store()
                self.refresh(reader)
                self.late, said = False, ""
            except Exception as error:  # whatever a store does, requests are answered
                # A store that nobody has set up yet is not late: the package is all that there is.
                self.late = reader is not None
                if self.late and str(error) != said:
                    known = isinstance(error, SlipwayError)
                    log.warning("item counts stay as they are: %s", error, exc_info=not known)
                    said = str(error)
            time.sleep(EVERY if reader is not None and not self.late else RETRY)
