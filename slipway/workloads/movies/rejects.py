"""Rows of the production log that label nothing, in the lake's quarantine: each once, and settled when it does label.

Knows the quarantine's table and how a row of the log is written there (as the message that it was); what a row is
rejected for, attribution.py knows.
"""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import polars as pl
from deltalake.exceptions import CommitFailedError

from slipway.errors import StorageError
from slipway.lake.lake import Lake
from slipway.lake.table import Table
from slipway.workloads.movies.attribution import Reason
from slipway.workloads.movies.messages import QUARANTINE

ATTEMPTS = 5  # at rows that somebody else writes beside
EXPOSURES, FEEDBACK = "production:exposures", "production:feedback"


@dataclass(frozen=True)
class Rejects:
    lake: Lake
    data_set: str
    now: datetime

    @cached_property
    def _table(self) -> Table:
        return self.lake.table("raw", self.data_set, "quarantine")

    def add(self, source: str, refused: pl.DataFrame) -> int:
        """Add those of `refused` (rows of a log and their reason) that are not there yet; how many that were.

        The same row twice in a log is there twice.
        """
        nth = pl.int_range(pl.len()).over("text").alias("nth")
        rows = _messages(refused).with_columns(nth)
        if not rows.height:
            return 0
        if self._table.exists():
            known = self._table.scan().filter(pl.col("source") == source).select("text")
            known = known.join(rows.lazy().select("text").unique(), on="text", how="semi").with_columns(nth)
            rows = rows.join(known.collect(engine="streaming"), on=["text", "nth"], how="anti")
        if rows.height:
            marks = {
                "rejected_at": pl.lit(self.now),
                "source": pl.lit(source),
                "line": pl.lit(None),
                "repaired": pl.lit(value=False),
                "day": pl.lit(self.now.date()),
            }
            columns = {name: marks.get(name, pl.col(name)).cast(dtype) for name, dtype in QUARANTINE.items()}
            self._table.append(rows.select(**columns), partition_by=["day"])
        return rows.height

    def unknown(self) -> set[date]:
        """The dates of the feedback that still counts as an answer to an unknown request."""
        if not self._table.exists():
            return set()
        return set(self._unknown().select(pl.col("date").unique()).collect(engine="streaming").to_series())

    def settle(self, day: date, refused: pl.DataFrame) -> int:
        """Mark a day's answers to unknown requests as repaired where they are not among `refused` any more."""
        if not self._table.exists():
            return 0
        mine = self._unknown().filter(pl.col("date") == day).select("text")
        found = mine.join(_messages(refused).lazy(), on="text", how="anti").unique().collect(engine="streaming")
        for _ in range(ATTEMPTS if found.height else 0):
            with self._table.writing():
                try:
                    self._table.open().merge(
                        found,
                        predicate=f"old.text = new.text AND old.source = '{FEEDBACK}' AND NOT old.repaired "
                        f"AND old.reason = '{Reason.UNKNOWN_REQUEST}'",
                        source_alias="new",
                        target_alias="old",
                    ).when_matched_update({"repaired": "true"}).execute()
                except CommitFailedError:
                    continue
                return found.height
        if found.height:
            raise StorageError(f"{self._table.uri} keeps changing", "run it again when the other writers are done")
        return 0

    def _unknown(self) -> pl.LazyFrame:
        at = pl.col("text").str.json_path_match("$.timestamp").cast(pl.Int64).cast(pl.Datetime("ms", "UTC"))
        wanted = (pl.col("source") == FEEDBACK) & (pl.col("reason") == Reason.UNKNOWN_REQUEST) & ~pl.col("repaired")
        return self._table.scan().filter(wanted).select("text", at.dt.date().alias("date"))


def _messages(refused: pl.DataFrame) -> pl.DataFrame:
    """reason, text: the JSON object that the row was in the stream."""
    return refused.with_columns(pl.col("timestamp").dt.epoch("ms")).select(
        "reason", pl.struct(pl.exclude("reason")).struct.json_encode().alias("text")
    )
