"""Rejected rows, repaired, go the way of new rows once more. Knows the quarantine; what a row means, the workload does.

    slipway data replay --rules repair.yaml
    slipway data replay --drop-reason truncated

Safe to run again, and safe to kill: what is good is put into the lake first, by an operation that adds nothing twice,
and only then are its rows marked as repaired, a day's partition in one commit. The text stays as it came.
"""

from collections import Counter
from dataclasses import dataclass

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
    """read: open rows found; repaired: now in the lake; dropped: given up; left: new reason → rows still bad."""

    read: int
    repaired: int
    dropped: int
    left: dict[str, int]


def replay(lake: Lake, data_set: str, repair: Repair, progress: Progress, workload_name: str = "movies") -> Replayed:
    """Clean every open row of raw/<data set>/quarantine again, as `repair` makes it read.

    Raises StorageError, BusyError when the quarantine's rows keep changing under it.
    """
    table = lake.table("raw", data_set, "quarantine")
    if not table.exists():
        return Replayed(0, 0, 0, {})
    again = workload.load(workload_name)
    days = table.scan().filter(~pl.col("repaired")).select(pl.col("day").unique().sort()).collect()["day"].to_list()
    counts: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for done, day in enumerate(days):
        _day(lake, data_set, table, day, repair, again, counts, left)
        progress("replay", (done + 1) / len(days), {name: float(counts[name]) for name in ("repaired", "dropped")})
    return Replayed(counts["read"], counts["repaired"], counts["dropped"], dict(sorted(left.items())))


def _day(
    lake: Lake,
    data_set: str,
    table: Table,
    day: object,
    repair: Repair,
    again: workload.Workload,
    counts: Counter[str],
    left: Counter[str],
) -> None:
    """One partition of the quarantine: its rows, judged again, take their own place in one commit."""
    for _attempt in range(ATTEMPTS):
        opened = DeltaTable(table.uri, storage_options=table.options)
        rows = pl.scan_delta(opened).filter(pl.col("day") == day).collect().with_row_index("row")
        open_ = rows.filter(~pl.col("repaired"))
        given_up = open_.filter(pl.col("reason").is_in(sorted(repair.drop)))
        tried = open_.join(given_up, on="row", how="anti").select("row", "source", "line", repair.text(), "rejected_at")
        judged = again.reclean(lake, data_set, tried)  # row, reason: null where the row is in the lake now
        verdicts = pl.concat(
            [
                judged.select(pl.col("row").cast(pl.UInt32), "reason", pl.col("reason").is_null().alias("settled")),
                given_up.select("row", (DROPPED + pl.col("reason")).alias("reason"), pl.lit(True).alias("settled")),
            ]
        )
        marked = (
            rows.join(verdicts, on="row", how="left", suffix="_now", maintain_order="left")
            .with_columns(
                pl.coalesce("reason_now", "reason").alias("reason"),
                (pl.col("repaired") | pl.col("settled").fill_null(False)).alias("repaired"),
            )
            .select(rows.columns)
            .drop("row")
        )
        if _mark(opened, marked, day, changed=not marked.equals(rows.drop("row"))):
            counts["read"] += open_.height
            counts["repaired"] += judged["reason"].null_count()
            counts["dropped"] += given_up.height
            left.update(dict(judged["reason"].drop_nulls().value_counts().iter_rows()))
            return
    raise BusyError(table.uri, "something that keeps writing to the quarantine")  # type: ignore[arg-type]


def _mark(opened: DeltaTable, marked: pl.DataFrame, day: object, *, changed: bool) -> bool:
    """Replace the day's rows in the version that was read; False when a commit since then touched them."""
    if not changed:
        return True
    try:
        write_deltalake(opened, marked, mode="overwrite", predicate=f"day = '{day}'")
    except CommitFailedError:
        return False
    except (DeltaError, OSError) as error:
        raise StorageError(
            f"the quarantine could not be written: {error}", "check space and rights, and replay again: nothing is lost"
        ) from error
    return True
