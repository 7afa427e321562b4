"""Wikipedia edits of one month (JODIE; Kumar et al., KDD 2019): who edited which page, and when.

ml_wikipedia_ts.txt is `user item seconds`, the seconds since the month began (so timestamps are in January 1970);
wikipedia.txt is `user item` with pages numbered from 1, in order, and is read only where the other is absent.
"""

from pathlib import Path

from slipway.workloads.movies.sources.events import EventFile
from slipway.workloads.movies.sources.source import Format, Source, Tables

TIMED, ORDERED = "ml_wikipedia_ts.txt", "wikipedia.txt"


def read_tables(folder: Path) -> Tables:  # noqa: ARG001 - there is nothing to read: pages and editors are numbers
    return Tables(None, None)


def source(folder: Path) -> Source:
    timed = (folder / TIMED).is_file()
    if timed:
        events = EventFile(folder / TIMED, separator=" ", fields=("user", "item", "seconds"))
    else:
        events = EventFile(folder / ORDERED, separator=" ", fields=("user", "item"))
    return Source(
        name="wikipedia",
        folder=folder,
        events=events,
        action="edit",
        repeats=True,
        distinct=("user", "item", "seconds") if timed else (),
        tables=read_tables,
    )


FORMAT = Format("wikipedia", marks=(TIMED, ORDERED), needs=(), open=source)
