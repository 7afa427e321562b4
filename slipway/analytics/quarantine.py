"""What was rejected, when, from where and why. Knows the lake's quarantine table, not the rules that filled it."""

from datetime import date

import polars as pl


def kind() -> pl.Expr:
    """source without its instance: "files" of "files:ratings.dat", "stream" of "stream:movies.events"."""
    return pl.col("source").str.split(":").list.first()


def selected(rows: pl.LazyFrame, reasons: tuple[str, ...] = (), sources: tuple[str, ...] = ()) -> pl.LazyFrame:
    """() selects all."""
    if reasons:
        rows = rows.filter(pl.col("reason").is_in(reasons))
    if sources:
        rows = rows.filter(pl.col("source").is_in(sources))
    return rows


def per_day(rows: pl.LazyFrame, by: str) -> pl.DataFrame:
    """day, <by>, rows, repaired: sorted by day. by: "reason" or "source"."""
    return (
        rows.group_by("day", by)
        .agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("repaired").sum().cast(pl.Int64).alias("repaired"))
        .sort("day", by)
        .collect(engine="streaming")
    )


def totals(rows: pl.LazyFrame) -> pl.DataFrame:
    """source, reason, rows, repaired, first, last (when): the most frequent first."""
    return (
        rows.group_by("source", "reason")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("repaired").sum().cast(pl.Int64).alias("repaired"),
            pl.col("rejected_at").min().alias("first"),
            pl.col("rejected_at").max().alias("last"),
        )
        .sort(["rows", "source", "reason"], descending=[True, False, False])
        .collect(engine="streaming")
    )


def newest(rows: pl.LazyFrame, limit: int, day: date | None = None) -> pl.DataFrame:
    """The rows as they came, the newest first."""
    if day is not None:
        rows = rows.filter(pl.col("day") == day)
    columns = ["rejected_at", "source", "reason", "line", "text", "repaired"]
    return rows.select(columns).top_k(limit, by="rejected_at").collect().sort("rejected_at", descending=True)
