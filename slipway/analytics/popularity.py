"""How evenly the catalogue is used: Lorenz curve, Gini, coverage, genres. Knows events and items."""

from typing import Any

import numpy as np
import polars as pl


def by_item(events: pl.LazyFrame) -> pl.DataFrame:
    """item, events, mean_rating (null without ratings), first, last (dates): the most used first."""
    return (
        events.group_by("item")
        .agg(
            pl.len().cast(pl.Int64).alias("events"),
            pl.col("rating").mean().alias("mean_rating"),
            pl.col("date").min().alias("first"),
            pl.col("date").max().alias("last"),
        )
        .sort(["events", "item"], descending=[True, False])
        .collect(engine="streaming")
    )


def lorenz(counts: pl.Series, catalogue: int, points: int = 201) -> pl.DataFrame:
    """items, events: shares in 0..1 of the most popular items and of the events that they get, from (0, 0) to (1, 1).

    counts: events per item that occurs; catalogue: how many items there are, at least as many.
    """
    ordered = np.zeros(max(catalogue, len(counts)))
    ordered[: len(counts)] = np.sort(counts.to_numpy())[::-1]
    total = ordered.sum()
    shares = np.concatenate([[0.0], np.cumsum(ordered) / total if total else np.zeros(len(ordered))])
    at = np.unique(np.linspace(0, len(ordered), points).round().astype(np.int64))
    return pl.DataFrame({"items": at / max(len(ordered), 1), "events": shares[at]})


def gini(counts: pl.Series, catalogue: int) -> float:
    """0: every item is used as much; towards 1: one item has all events (Gini 1912, over the whole catalogue)."""
    ordered = np.zeros(max(catalogue, len(counts)))
    ordered[len(ordered) - len(counts) :] = np.sort(counts.to_numpy())
    n, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float(2 * (np.arange(1, n + 1) * ordered).sum() / (n * total) - (n + 1) / n)


def head_share(counts: pl.Series, catalogue: int, share: float) -> float:
    """The share of the events that the most popular `share` of the catalogue gets."""
    head = max(1, round(share * max(catalogue, len(counts))))
    total = int(counts.sum())
    return float(counts.sort(descending=True).head(head).sum()) / total if total else 0.0


def period(first: Any, last: Any) -> str:
    """Days to a point of a curve over time, so that it has at most about 70 points, each of enough events."""
    days = (last - first).days + 1 if first is not None and last is not None else 0
    return "1d" if days <= 62 else "1w" if days <= 490 else "1mo"


def coverage(events: pl.LazyFrame, catalogue: int, every: str) -> pl.DataFrame:
    """date (a period's first day), items, share: distinct items used in each period, against the whole catalogue."""
    return (
        events.group_by(pl.col("date").dt.truncate(every))
        .agg(pl.col("item").n_unique().cast(pl.Int64).alias("items"))
        .with_columns((pl.col("items") / max(catalogue, 1)).alias("share"))
        .sort("date")
        .collect(engine="streaming")
    )


def genres(events: pl.LazyFrame, items: pl.LazyFrame, every: str, most: int = 6) -> pl.DataFrame:
    """date, genre, events, share: an item of two genres counts half in each; the rarer genres are "others".

    items: ITEMS. Sorted by date, then by the genres' size.
    """
    counted = events.group_by(pl.col("date").dt.truncate(every), "item").agg(pl.len().alias("n"))
    named = pl.when(pl.col("genres").list.len() > 0).then("genres").otherwise(pl.lit(["no genre"]))
    kinds = items.select("item", named.alias("genre")).with_columns(pl.col("genre").list.len().alias("kinds"))
    spread = (
        counted.join(kinds.explode("genre"), on="item")
        .with_columns((pl.col("n") / pl.col("kinds")).alias("part"))
        .group_by("date", "genre")
        .agg(pl.col("part").sum().alias("events"))
        .collect(engine="streaming")
    )
    sizes = spread.group_by("genre").agg(pl.col("events").sum()).sort(["events", "genre"], descending=[True, False])
    kept = sizes["genre"].head(most).to_list()
    rank = {genre: place for place, genre in enumerate([*kept, "others"])}
    return (
        spread.with_columns(pl.when(pl.col("genre").is_in(kept)).then("genre").otherwise(pl.lit("others")))
        .group_by("date", "genre")
        .agg(pl.col("events").sum())
        .with_columns((pl.col("events") / pl.col("events").sum().over("date")).alias("share"))
        .sort("date", pl.col("genre").replace_strict(rank, default=len(rank)))
    )
