"""Rejected rows, repaired, go the way of new rows once more. Knows the quarantine; what a row means, the workload does.

    slipway data replay --rules repair.yaml
    slipway data replay --drop-reason truncated

Safe to run again, and safe to kill: what is good is put into the lake first, by an operation that adds nothing twice,
and only then are its rows marked as repaired, a day's partition in one commit. A row that is still bad stays as it
came; where no rule changed its text, with the reason that it has now.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from slipway import workload
from slipway.errors import BusyError, StorageError
from slipway.lake.lake import Lake
from slipway.lake.table import Table
from slipway.validation.repair import Repair
from slipway.workload import Progress

DROPPED = "dropped:"  # before the reason of a row that was given up on purpose
ATTEMPTS = 5  # at a day that somebody else keeps writing to


@dataclass(frozen=True)
class Replayed:
    """read: open rows found; repaired: now in the lake; dropped: given up.

    left: reason → rows still bad, as repaired; examples: reason → the first such text, as repaired.
    """

    read: int
    repaired: int
    dropped: int
    left: dict[str, int]
    examples: dict[str, str]


def replay(lake: Lake, data_set: str, repair: Repair, progress: Progress, workload_name: str = "movies") -> Replayed:
    """Clean every open row of raw/<data set>/quarantine again, as `repair` makes it read.

    Raises StorageError, BusyError when the quarantine's rows keep changing under it.
    """
    table = lake.table("raw", data_set, "quarantine")
    if not table.exists():
        return Replayed(0, 0, 0, {}, {})
    again = workload.load(workload_name)
    days = table.scan().filter(~pl.col("repaired")).select(pl.col("day").unique().sort()).collect()["day"].to_list()
    tally = _Tally()
    for done, day in enumerate(days):
        _day(lake, data_set, table, day, repair, again, tally)
        progress("replay", (done + 1) / len(days), {"repaired": tally.repaired, "left": tally.left.total()})
    return Replayed(tally.read, tally.repaired, tally.dropped, dict(sorted(tally.left.items())), tally.examples)


@dataclass
class _Tally:
    read: int = 0
    repaired: int = 0
    dropped: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, judged: pl.DataFrame) -> None:
        """judged: of one day, with `text` as repaired, and what became of each row."""
        self.read += judged.height
        self.repaired += judged["now"].null_count()
        self.dropped += int(judged["dropped"].sum())
        for reason, text in (
            judged.filter(pl.col("now").is_not_null() & ~pl.col("dropped")).select("now", "text").rows()
        ):
            self.left[reason] += 1
            self.examples.setdefault(reason, text)


def _day(
    lake: Lake, data_set: str, table: Table, day: date, repair: Repair, again: workload.Workload, tally: _Tally
) -> None:
    """One partition of the quarantine: its rows, judged again, take their own place in one commit."""
    for _attempt in range(ATTEMPTS):
        version = table.version
        opened = table.open(version)  # an object of its own, which stays at this version
        rows = table.scan(version).filter(pl.col("day") == day).collect().with_row_index("row")
        tried = repair.apply(rows.filter(~pl.col("repaired")).with_columns(pl.col("text").fill_null("")))
        judged = _judge(
            again.reclean(lake, data_set, tried.select("row", "source", "line", "text", "reason")), tried, rows
        )
        judged = judged.with_columns(
            (
                pl.col("now").is_not_null() & (pl.col("now").is_in(repair.drop) | pl.col("reason").is_in(repair.drop))
            ).alias("dropped")
        )
        marked = _marked(rows, judged)
        if marked.equals(rows.drop("row")) or _replaced(opened, marked, day):
            tally.add(judged)
            return
    raise BusyError(Path(table.uri), "something that keeps writing to the quarantine")


def _judge(verdicts: pl.DataFrame, tried: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """row, reason (as kept), text (as repaired), came (as kept), now (the reason that it has now, or null)."""
    return (
        tried.select("row", "reason", "text")
        .join(rows.select("row", came="text"), on="row")
        .join(verdicts.select("row", now="reason"), on="row")
    )


def _marked(rows: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """The day's rows with what was found: their reason is always that of the text which stands beside it."""
    same = pl.col("text") == pl.col("came")
    reason = pl.when("dropped").then(DROPPED + pl.col("reason")).when(same).then(pl.coalesce("now", "reason"))
    found = judged.select("row", found=reason, settled=pl.col("now").is_null() | pl.col("dropped"))
    return (
        rows.join(found, on="row", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("found", "reason").alias("reason"),
            (pl.col("repaired") | pl.col("settled").fill_null(value=False)).alias("repaired"),
        )
        .drop("row", "found", "settled")
    )


def _replaced(opened: DeltaTable, marked: pl.DataFrame, day: date) -> bool:
    """Replace the day's rows in the version that was read; False when a commit since then touched them."""
    try:
        write_deltalake(opened, marked, mode="overwrite", predicate=f"day = '{day}'")
    except CommitFailedError:
        return False
    except (DeltaError, OSError) as error:
        raise StorageError(
            f"the quarantine could not be written: {error}", "check space and rights, and replay again: nothing is lost"
        ) from error
    return True
