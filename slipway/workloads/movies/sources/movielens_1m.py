"""MovieLens 1M (2003), and the simulator, which writes its files: `::` between fields, titles in ISO-8859-1."""

from pathlib import Path

import polars as pl

from slipway.workloads.movies.cleaning import Scale
from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.lines import Table, read_table
from slipway.workloads.movies.sources.source import (
    SINCE_1995,
    Format,
    Source,
    Tables,
    items_frame,
    split_genres,
    users_frame,
)

ID = r"[0-9]{1,18}"


def read_movies(folder: Path) -> tuple[Table, pl.DataFrame]:
    """movies.dat and its ITEMS. A title may hold anything, `::` included."""
    table = read_table(
        folder / "movies.dat", rf"^(?<item>{ID})::(?<title>.*)::(?<genres>[^:]*)$", "item", encoding="iso-8859-1"
    )
    return table, items_frame(table.rows, pl.col("title"), split_genres("genres"))


def read_users(folder: Path) -> tuple[Table, pl.DataFrame]:
    """users.dat and its USERS. age is the lower end of a band, occupation a code: the data set's README says which."""
    table = read_table(
        folder / "users.dat",
        rf"^(?<user>{ID})::(?<gender>[MF])::(?<age>[0-9]{{1,3}})::(?<occupation>[^:]*)::(?<zip>[^:]*)$",
        "user",
        encoding="iso-8859-1",
    )
    return table, users_frame(table.rows)


def read_tables(folder: Path) -> Tables:
    movies, items = read_movies(folder)
    people, users = read_users(folder)
    return Tables(items, users, (movies, people))


def source(folder: Path) -> Source:
    events = EventFile(
        folder / "ratings.dat",
        separator="::",
        fields=("user", "item", "rating", "seconds"),
        scale=Scale(1, 5),
        earliest=SINCE_1995,
        complete_tail=True,
    )
    return Source(
        name="ml-1m",
        folder=folder,
        events=events,
        action="rating",
        repeats=False,
        distinct=("user", "item"),
        tables=read_tables,
    )


FORMAT = Format("ml-1m", marks=("ratings.dat",), needs=("ratings.dat", "movies.dat", "users.dat"), open=source)
