"""How people answered what they were shown: click-through rates with their uncertainty. Knows no model.

An impression is one shown item of one answered request (attribution.EXAMPLES); `click` is 1 when feedback on it came
inside the attribution window.
"""

from datetime import datetime

import polars as pl

Z = 1.959964  # of a two-sided 95 % interval


def wilson(clicked: pl.Expr, shown: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """95 % interval of a share (Wilson 1927): honest where few were shown, and never below 0 or above 1."""
    share, z2 = clicked / shown, Z * Z
    middle = (share + z2 / (2 * shown)) / (1 + z2 / shown)
    half = Z * ((share * (1 - share) / shown + z2 / (4 * shown * shown)).sqrt()) / (1 + z2 / shown)
    return (middle - half).clip(0, 1), (middle + half).clip(0, 1)


def rates(impressions: pl.LazyFrame, *by: str | pl.Expr) -> pl.DataFrame:
    """<by>, shown, clicked, ctr, low, high: one row per group, sorted. impressions: a column click of 0 and 1."""
    low, high = wilson(pl.col("clicked"), pl.col("shown"))
    counted = impressions.group_by(*by).agg(
        pl.len().cast(pl.Int64).alias("shown"), pl.col("click").cast(pl.Int64).sum().alias("clicked")
    )
    rated = counted.with_columns(
        (pl.col("clicked") / pl.col("shown")).alias("ctr"), low.alias("low"), high.alias("high")
    )
    found = rated.collect(engine="streaming")
    return found.sort(found.columns[: len(by)])


def answers(exposures: pl.LazyFrame) -> pl.DataFrame:
    """date, requests, fallbacks, p50, p99 (ms): one row per day, sorted. exposures: logs/<data set>/exposures."""
    fell = pl.col("fallback").is_not_null() & ~pl.col("fallback").is_in(["", "none"])
    return (
        exposures.group_by("date")
        .agg(
            pl.len().cast(pl.Int64).alias("requests"),
            fell.sum().cast(pl.Int64).alias("fallbacks"),
            pl.col("milliseconds").quantile(0.5).alias("p50"),
            pl.col("milliseconds").quantile(0.99).alias("p99"),
        )
        .sort("date")
        .collect(engine="streaming")
    )


STEPS = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "6h": 360, "1d": 1_440, "1w": 10_080}


def grain(first: datetime, last: datetime, points: int = 120) -> str:
    """The finest step that gives a curve at most so many points: minutes for a load test, weeks for years."""
    minutes = (last - first).total_seconds() / 60
    return next((step for step, length in STEPS.items() if minutes / length <= points), "1mo")
