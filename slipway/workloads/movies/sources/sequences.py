"""ML-1M as the sequence papers publish it: `user item`, chronological, re-numbered, without times or ratings.

Titles and attributes come from the original movies.dat and users.dat through the maps back to the original ids
(sas_to_original_*.txt: `number original`), where these lie beside.
"""

from pathlib import Path

import polars as pl

from slipway.workloads.movies.dataset import ITEMS
from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.lines import Table, read_table
from slipway.workloads.movies.sources.movielens_1m import read_movies, read_users
from slipway.workloads.movies.sources.source import Format, Source, Tables, users_frame

PAIR = r"^(?<number>[0-9]{1,18}) (?<original>[0-9]{1,18})$"


def _map(path: Path) -> tuple[Table, pl.DataFrame]:
    table = read_table(path, PAIR, "number")
    return table, table.rows.select(pl.col("number", "original").cast(pl.Int64))


def read_tables(folder: Path) -> Tables:
    items = users = None
    read: list[Table] = []
    if (folder / "sas_to_original_items.txt").is_file():
        table, numbers = _map(folder / "sas_to_original_items.txt")
        movies, titles = None, ITEMS.to_frame()
        if (folder / "movies.dat").is_file():
            movies, titles = read_movies(folder)
        items = (
            numbers.join(titles, left_on="original", right_on="item", how="left")
            .rename({"number": "item"})
            .select(ITEMS.names())
            .sort("item")
        )
        read += [table] + ([movies] if movies else [])
    if (folder / "sas_to_original_users.txt").is_file() and (folder / "users.dat").is_file():
        table, numbers = _map(folder / "sas_to_original_users.txt")
        people, attributes = read_users(folder)
        joined = numbers.join(attributes, left_on="original", right_on="user", how="left")
        users = users_frame(joined.rename({"number": "user"}))
        read += [table, people]
    return Tables(items, users, tuple(read))


def source(folder: Path) -> Source:
    return Source(
        name="ml-1m-sas",
        folder=folder,
        events=EventFile(folder / "ml-1m-sas.txt", separator=" ", fields=("user", "item")),
        action="interaction",
        repeats=False,
        distinct=("user", "item"),
        tables=read_tables,
    )


FORMAT = Format("ml-1m-sas", marks=("ml-1m-sas.txt",), needs=("ml-1m-sas.txt",), open=source)
