"""Which ids a table of the lake holds, so that nothing is written twice. Knows a table and its key, no stream.

The lake is the truth: ids are read from it, a date at a time, when the first row of that date comes. Every append
carries the next number of the writer "stream"; when somebody else has used that number, nothing is written, the ids
are forgotten, and the batch must be looked at again. So two consumers that overlap (one was thought dead) cannot
write an event twice.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from slipway.errors import StorageError
from slipway.lake.table import Table

WRITER = "stream"
DAY_MS = 86_400_000
MOST = 4_000_000  # ids held; beyond it all are forgotten, and read again as they are needed
RECENT = 2  # days whose ids are read at the start, whatever comes: a second telling may carry another time
_EPOCH = date(1970, 1, 1)


class Ledger:
    def __init__(self, table: Table, key: str) -> None:
        self.table, self.key = table, key
        self._ids: set[str] = set()
        self._days: set[int] = set()  # since 1970, whose ids are all in _ids
        self._number: int | None = None  # of the writer's last commit; None: nothing is known yet

    def known(self, ids: Sequence[str], times_ms: Iterable[int]) -> list[bool]:
        """For each id (of a row of that time) whether the table has it. Raises StorageError."""
        self._load({time // DAY_MS for time in times_ms})
        return [one in self._ids for one in ids]

    def append(self, rows: pl.DataFrame) -> None:
        """Rows whose ids are not known, partitioned by date. Raises StorageError; then nothing was written, or it
        cannot be told, and `known` says which.
        """
        if not rows.height:
            return
        self._load(set())
        assert self._number is not None
        try:
            mine = self.table.append(rows, partition_by=["date"], writer=(WRITER, self._number + 1))
        except BaseException:
            self.forget()
            raise
        if not mine:
            self.forget()
            raise StorageError(
                f"another consumer wrote to {self.table.uri}",
                "run one consumer per data set; the batch is looked at again",
            )
        self._number += 1
        self._ids.update(rows[self.key])

    def forget(self) -> None:
        self._ids, self._days, self._number = set(), set(), None

    def _load(self, days: set[int]) -> None:
        if len(self._ids) > MOST:
            self.forget()
        if self._number is None:
            self._number = self.table.written(WRITER) or 0
            today = int(datetime.now(UTC).timestamp() * 1000) // DAY_MS
            days = days | set(range(today - RECENT + 1, today + 2))
        days = days - self._days
        if not days:
            return
        if self.table.exists():
            dates = [_EPOCH + timedelta(days=day) for day in sorted(days)]
            found = self.table.scan().filter(pl.col("date").is_in(dates), pl.col(self.key).is_not_null())
            self._ids.update(found.select(self.key).collect().to_series())
        self._days |= days
