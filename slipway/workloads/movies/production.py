"""The production log → labelled examples in the lake, a date at a time. Knows tables and dates; what a label is,
attribution.py knows.

    slipway ingest --source production

Which dates have new rows follows from the number of rows in each partition of the two logs, which only grow. Those
dates are labelled again as a whole and written where the result differs, so late feedback finds its way into a day
that was labelled before, and a run that was killed is simply done again: nothing is added twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import ceil

import polars as pl
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError
from pydantic import Field, ValidationError

from slipway.errors import ObjectNotFoundError, StorageError
from slipway.lake.lake import Lake
from slipway.lake.table import Table
from slipway.package import Frozen
from slipway.workload import Progress
from slipway.workloads.movies import attribution, rejects
from slipway.workloads.movies.attribution import EXAMPLES, Reason
from slipway.workloads.movies.messages import EXPOSURES, FEEDBACK
from slipway.workloads.movies.rejects import Rejects

DAY = timedelta(days=1)
TABLE = "examples"
MEMORY = "examples.seen.json"
ATTEMPTS = 5  # at a date that another run writes too


class ProductionConfig(Frozen):
    window_hours: float = Field(24.0, gt=0, le=24 * 90, description="feedback counts that long after the exposure")
    skew_seconds: float = Field(5.0, ge=0, le=3600, description="and may be stamped that long before it")
    lookback_days: int = Field(30, ge=1, le=365, description="how far back a request id is looked for")
    settle_minutes: float = Field(60.0, ge=0, description="feedback waits that long for its exposure to arrive")

    @property
    def window(self) -> timedelta:
        return timedelta(hours=self.window_hours)

    @property
    def skew(self) -> timedelta:
        return timedelta(seconds=self.skew_seconds)


class Seen(Frozen):
    """What the last finished run looked at: rows per date of both logs, and the dates to look at again."""

    config: ProductionConfig
    exposures: dict[date, int] = Field(default_factory=dict)
    feedback: dict[date, int] = Field(default_factory=dict)
    pending: tuple[date, ...] = ()


def ingest(
    lake: Lake, data_set: str, config: ProductionConfig, progress: Progress, now: datetime | None = None
) -> dict[str, float]:
    """logs/<data set>/{exposures,feedback} → features/<data set>/examples, and what labels nothing to quarantine.

    Returns of this run: dates and examples written, clicks among them, rows quarantined, and feedback that still
    waits for its exposure. Raises StorageError when there is no exposure log.
    """
    return _Run(lake, data_set, config, progress, now or datetime.now(UTC)).run()


@dataclass
class _Run:
    lake: Lake
    data_set: str
    config: ProductionConfig
    progress: Progress
    now: datetime
    counts: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("dates", "examples", "clicks", "quarantined", "pending"), 0.0)
    )

    @cached_property
    def rejects(self) -> Rejects:
        return Rejects(self.lake, self.data_set, self.now)

    def run(self) -> dict[str, float]:
        log = self.lake.table("logs", self.data_set, "exposures")
        if not log.exists():
            raise StorageError(
                f"data set {self.data_set!r} has no exposures in the lake ({log.uri})",
                "serve some requests (slipway simulate traffic), then: slipway ingest --source stream",
            )
        log.widen(EXPOSURES)  # an older one
        seen, exposures, feedback = self._seen(), _rows(log), _rows(self.lake.table("logs", self.data_set, "feedback"))
        shown = {day for day, rows in exposures.items() if rows != seen.exposures.get(day)}
        answered = {day for day, rows in feedback.items() if rows != seen.feedback.get(day)} | set(seen.pending)
        affected = sorted(shown | self._answered(answered, exposures))
        near = {day + n * DAY for day in shown for n in range(-1, self._days + 2)}
        judged = sorted((answered | (near & self.rejects.unknown())) & feedback.keys())
        pending: list[date] = []
        steps = len(affected) + len(judged)
        for done, day in enumerate(affected, 1):
            self._label(day, judge=day in shown)
            self.progress(f"labelling {day}", done / steps, self.counts)
        for done, day in enumerate(judged, len(affected) + 1):
            if self._judge(day):
                pending.append(day)
            self.progress(f"judging feedback of {day}", done / steps, self.counts)
        now = Seen(config=self.config, exposures=exposures, feedback=feedback, pending=tuple(pending))
        if now != seen:
            self.lake.objects.write(self._memory, now.model_dump_json().encode())
        self.progress("production", 1.0, self.counts)
        return self.counts

    @property
    def _memory(self) -> str:
        return f"features/{self.data_set}/{MEMORY}"

    def _seen(self) -> Seen:
        """Nothing when it is lost or another window was in force: then every date is labelled again."""
        fresh = Seen(config=self.config)
        try:
            known = Seen.model_validate_json(self.lake.objects.read(self._memory))
        except (ObjectNotFoundError, ValidationError):
            return fresh
        labelled = self.lake.table("features", self.data_set, TABLE).exists()
        return known if labelled and known.config == self.config else fresh

    def _exposures(self, first: date, last: date) -> pl.LazyFrame:
        return self._log("exposures", EXPOSURES, first, last)

    def _feedback(self, first: date, last: date) -> pl.LazyFrame:
        return self._log("feedback", FEEDBACK, first, last)

    def _log(self, name: str, schema: pl.Schema, first: date, last: date) -> pl.LazyFrame:
        table = self.lake.table("logs", self.data_set, name)
        rows = table.scan(schema=schema) if table.exists() else pl.LazyFrame(schema=schema)
        return rows.filter(pl.col("date").is_between(first, last)).drop("date")

    def _answered(self, days: Iterable[date], exposures: Mapping[date, int]) -> set[date]:
        """The dates of the exposures that the feedback of these days can label."""
        found: set[date] = set()
        for day in days:
            asked = self._feedback(day, day).select("request_id").unique()
            first, last = day - self._days * DAY, day + DAY
            shown = self._exposures(first, last).join(asked, on="request_id", how="semi")
            dates = shown.select(pl.col("timestamp").dt.date().unique()).collect(engine="streaming")
            found |= set(dates.to_series()) & exposures.keys()
        return found

    @property
    def _days(self) -> int:
        """Dates that a window can reach into."""
        return ceil(self.config.window / DAY)

    def _first_shown(self, day: date) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        """The exposures of a day, and those among them whose request id an earlier day has."""
        whole = self._exposures(day, day)
        before = self._exposures(day - self.config.lookback_days * DAY, day - DAY).select("request_id")
        again = (
            before.join(whole.select("request_id"), on="request_id", how="semi").unique().collect(engine="streaming")
        )
        return (
            whole.join(again.lazy(), on="request_id", how="anti"),
            whole.join(again.lazy(), on="request_id", how="semi"),
        )

    def _label(self, day: date, *, judge: bool) -> None:
        first, again = self._first_shown(day)
        feedback = self._feedback(day - DAY, day + (self._days + 1) * DAY)
        examples = attribution.label(first, feedback, self.config.window, self.config.skew).collect(engine="streaming")
        if self._put(day, examples):
            self.counts["dates"] += 1
            self.counts["examples"] += examples.height
            self.counts["clicks"] += int(examples["click"].sum())
        if judge:
            twice = again.with_columns(pl.lit(Reason.DUPLICATE_EXPOSURE).alias("reason"))
            refused = pl.concat([attribution.rejected_exposures(first), twice]).collect(engine="streaming")
            self.counts["quarantined"] += self.rejects.add(rejects.EXPOSURES, refused)

    def _put(self, day: date, examples: pl.DataFrame) -> bool:
        """Make these the day's examples, in one commit; False when they already are."""
        table = self.lake.table("features", self.data_set, TABLE)
        for _ in range(ATTEMPTS):
            if not table.exists():
                return bool(table.append(examples, partition_by=["date"]))
            opened = table.open()
            there = table.scan(schema=EXAMPLES).filter(pl.col("date") == day).collect()
            if there.sort("event_timestamp", "request_id", "position").equals(examples):
                return False
            with table.writing():
                try:
                    write_deltalake(opened, examples, mode="overwrite", predicate=f"date = '{day}'")
                except CommitFailedError:  # another run labels this very day: look whether it did the same
                    continue
                return True
        raise StorageError(f"{table.uri} keeps changing while {day} is labelled", "wait for the other run to end")

    def _judge(self, day: date) -> bool:
        """Put the day's feedback that labels nothing to quarantine; True when some still waits for its exposure."""
        exposures = self._exposures(day - self.config.lookback_days * DAY, day + DAY)
        judged = attribution.rejected_feedback(
            exposures, self._feedback(day, day), self.config.window, self.config.skew
        )
        waiting = (pl.col("reason") == Reason.UNKNOWN_REQUEST) & (
            pl.col("timestamp") > self.now - timedelta(minutes=self.config.settle_minutes)
        )
        rows = judged.with_columns(waiting.alias("waiting")).collect(engine="streaming")
        still = int(rows["waiting"].sum())
        self.counts["pending"] += still
        refused = rows.drop("waiting")
        self.rejects.settle(day, refused)  # whose exposure came after all
        self.counts["quarantined"] += self.rejects.add(rejects.FEEDBACK, refused.filter(~rows["waiting"]))
        return still > 0


def _rows(table: Table) -> dict[date, int]:
    """Rows per date, from the table's log alone."""
    if not table.exists():
        return {}
    files = table.files().group_by("partition.date").agg(pl.col("rows").sum())
    return dict(files.sort("partition.date").iter_rows())
