"""MovieLens 100K (1998): u.data with tabs, u.item with bars and a flag per genre. Knows nothing of other formats."""

from pathlib import Path

import polars as pl

from slipway.workloads.movies.cleaning import Scale
from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.lines import read_table
from slipway.workloads.movies.sources.source import (
    NO_GENRES,
    SINCE_1995,
    Format,
    Source,
    Tables,
    items_frame,
    users_frame,
)

ID = r"[0-9]{1,18}"


def read_tables(folder: Path) -> Tables:
    genres = read_table(folder / "u.genre", rf"^(?<genre>[^|]+)\|(?<index>{ID})$", "index")
    names = genres.rows.sort(pl.col("index").cast(pl.Int64))["genre"].to_list()
    items = read_table(
        folder / "u.item",
        # id | title | released | on video | link | a 0 or 1 per genre
        rf"^(?<item>{ID})\|(?<title>[^|]*)\|[^|]*\|[^|]*\|[^|]*\|(?<flags>[01](?:\|[01]){{{max(len(names) - 1, 0)}}})$",
        "item",
        encoding="iso-8859-1",
    )
    users = read_table(
        folder / "u.user",
        rf"^(?<user>{ID})\|(?<age>[0-9]{{1,3}})\|(?<gender>[MF])\|(?<occupation>[^|]*)\|(?<zip>[^|]*)$",
        "user",
        encoding="iso-8859-1",
    )
    flags = pl.col("flags").str.split("|")
    listed = pl.concat_list(
        [pl.when(flags.list.get(i) == "1").then(pl.lit(n)) for i, n in enumerate(names) if n not in NO_GENRES]
        or [pl.lit(None, dtype=pl.String)]
    ).list.drop_nulls()
    return Tables(items_frame(items.rows, pl.col("title"), listed), users_frame(users.rows), (genres, items, users))


def source(folder: Path) -> Source:
    events = EventFile(
        folder / "u.data",
        separator="\t",
        fields=("user", "item", "rating", "seconds"),
        scale=Scale(1, 5),
        earliest=SINCE_1995,
        complete_tail=True,
    )
    return Source(
        name="ml-100k",
        folder=folder,
        events=events,
        action="rating",
        repeats=False,
        distinct=("user", "item"),
        tables=read_tables,
    )


FORMAT = Format("ml-100k", marks=("u.data",), needs=("u.data", "u.item", "u.user", "u.genre"), open=source)
