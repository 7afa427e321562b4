"""What a format module says about its files. Knows the data set's tables, and no format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from slipway.workloads.movies.dataset import ITEMS, USERS, Action, SourceName
from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.lines import Table

NO_GENRES = ("unknown", "(no genres listed)", "")
SINCE_1995 = 788_918_400  # 1995-01-01 UTC in seconds: MovieLens went online in 1997


@dataclass(frozen=True)
class Tables:
    """What is known beside the events.

    items: ITEMS, the only items that may occur; None where the source has no list.
    users: USERS; None where the source has none.
    read:  the files as they were read, for the bad lines in them.
    """

    items: pl.DataFrame | None
    users: pl.DataFrame | None
    read: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Source:
    """A recognised folder.

    repeats:   people come back to the same item, so only the same user, item and second is a duplicate.
    distinct:  columns of events that may occur together once; () where the order alone is known and repeats are data.
    tables:    reads the other files; raises OSError.
    """

    name: SourceName
    folder: Path
    events: EventFile
    action: Action
    repeats: bool
    distinct: tuple[str, ...]
    tables: Callable[[Path], Tables]

    @property
    def noun(self) -> str:
        """What an item without a title is called, before its number."""
        return "page" if self.action == "edit" else "movie"


@dataclass(frozen=True)
class Format:
    """marks: files any of which means this format; needs: the files that must lie beside."""

    name: SourceName
    marks: tuple[str, ...]
    needs: tuple[str, ...]
    open: Callable[[Path], Source]


def items_frame(rows: pl.DataFrame, title: pl.Expr, genres: pl.Expr) -> pl.DataFrame:
    """ITEMS from a table's rows with an `item` column; the year is the one at the end of the title."""
    return (
        rows.select(pl.col("item").cast(pl.Int64), title.alias("title"), genres.alias("genres"))
        .with_columns(pl.col("title").str.extract(r"\(([0-9]{4})\)\s*$").cast(pl.Int32).alias("year"))
        .sort("item")
        .cast(ITEMS)
    )


def split_genres(column: str) -> pl.Expr:
    """`Action|Comedy` → a list, without the words that say there is none."""
    return pl.col(column).str.split("|").list.eval(pl.element().filter(~pl.element().is_in(NO_GENRES)))


def users_frame(rows: pl.DataFrame) -> pl.DataFrame:
    """USERS from rows with a `user` column; attributes that the source lacks are null."""
    known = [
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in USERS.items()
    ]
    return rows.select(known).sort("user")
