"""MovieLens latest-small, latest, 20M, 25M and 32M: comma-separated UTF-8 with a header, half stars, no users."""

from pathlib import Path

import polars as pl

from slipway.workloads.movies.cleaning import Scale
from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.lines import read_table
from slipway.workloads.movies.sources.source import SINCE_1995, Format, Source, Tables, items_frame, split_genres

# A title with a comma or a quote is quoted, and quotes in it are doubled (RFC 4180).
MOVIE = r'^(?<item>[0-9]{1,18}),(?<title>"(?:[^"]|"")*"|[^",]*),(?<genres>[^",]*)$'


def read_tables(folder: Path) -> Tables:
    movies = read_table(folder / "movies.csv", MOVIE, "item", header="movieId,title,genres")
    quoted = pl.col("title").str.starts_with('"')
    inner = pl.col("title").str.head(-1).str.slice(1).str.replace_all('""', '"', literal=True)
    title = pl.when(quoted).then(inner).otherwise(pl.col("title"))
    return Tables(items_frame(movies.rows, title, split_genres("genres")), None, (movies,))


def source(folder: Path) -> Source:
    events = EventFile(
        folder / "ratings.csv",
        separator=",",
        fields=("user", "item", "rating", "seconds"),
        header="userId,movieId,rating,timestamp",
        scale=Scale(0.5, 5, decimals=True),
        earliest=SINCE_1995,
        complete_tail=True,
    )
    return Source(
        name="ml-csv",
        folder=folder,
        events=events,
        action="rating",
        repeats=False,
        distinct=("user", "item"),
        tables=read_tables,
    )


FORMAT = Format("ml-csv", marks=("ratings.csv",), needs=("ratings.csv", "movies.csv"), open=source)
