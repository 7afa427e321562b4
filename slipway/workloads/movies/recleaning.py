"""Rows of the quarantine go the way of new ones: cleaned like those of their source, and into the lake once.

Knows where a source's rows belong. What is written is looked for in the lake first, by what names it (event_id,
request_id, item, user; a file's event by all that it says), so that doing it again, also after a crash between two
tables, adds nothing.
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from slipway.errors import BusyError
from slipway.lake import ledger
from slipway.lake.lake import Area, Lake
from slipway.lake.table import Table
from slipway.workloads.movies import messages
from slipway.workloads.movies.cleaning import Reason
from slipway.workloads.movies.dataset import LAKE_EVENTS, USERS
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.messages import CATALOGUE, KEYS, KINDS, ROWS, Kind
from slipway.workloads.movies.sources import FORMATS
from slipway.workloads.movies.sources.lines import Block
from slipway.workloads.movies.sources.source import Format, Source

WRITER = "replay"
VERDICTS = pl.Schema({"row": pl.UInt32(), "reason": pl.String()})
LISTS = {"items": {"u.item", "movies.dat", "movies.csv"}, "users": {"u.user", "users.dat"}}


def reclean(lake: Lake, data_set: str, rows: pl.DataFrame) -> pl.DataFrame:
    """rows: row, source, line, text, reason. Returns VERDICTS of all of them: a null reason is in the lake now.

    Rows of a source that nobody cleans ("production:…" are judgements about rows that are in the lake) keep their
    reason. Raises StorageError, and BusyError when another replay writes at the same time.
    """
    sources = rows["source"].unique().to_list()
    # What may name an item comes before what needs its name.
    ordered = sorted(sources, key=lambda s: (not _lists_items(s), s))
    verdicts = [_verdicts(lake, data_set, source, rows.filter(pl.col("source") == source)) for source in ordered]
    return pl.concat([pl.DataFrame(schema=VERDICTS), *verdicts]).sort("row")


def _lists_items(source: str) -> bool:
    name = _place(source)[1]
    return name.endswith(".items") or name in LISTS["items"]


def _place(source: str) -> tuple[str, str]:
    """ "stream:ml-1m.events[3]" (a partition of Kafka's) → "stream", "ml-1m.events"."""
    origin, _, name = source.partition(":")
    return origin, name.partition("[")[0] if origin == "stream" else name


def _verdicts(lake: Lake, data_set: str, source: str, rows: pl.DataFrame) -> pl.DataFrame:
    origin, name = _place(source)
    kind = next((kind for kind in KINDS if name == kind or name.endswith(f".{kind}")), None)
    form = next((form for form in FORMATS if name in (*form.marks, *form.needs)), None)
    if origin == "stream" and kind is not None:
        return _messages(lake, data_set, kind, rows)
    if origin == "files" and form is not None:
        if name in form.marks:
            return _lines(lake, data_set, form, name, rows)
        table = next((table for table, files in LISTS.items() if name in files), None)
        if table is not None:
            return _listed(lake, data_set, form, name, table, rows)
    return rows.select(VERDICTS.names()).cast(VERDICTS)


def _messages(lake: Lake, data_set: str, kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """A message of the stream, repaired. A double of a message that is in the lake is settled: nothing is missing."""
    rules = messages.rules(int(datetime.now(UTC).timestamp() * 1000), _items(lake, data_set))
    cleaned = messages.clean([text.encode() for text in rows["text"]], kind, rules)
    kinds: tuple[Kind, ...] = ("events", "feedback") if kind == "feedback" else (kind,)
    for into in kinds:
        area: Area = "processed" if into in ("events", "items") else "logs"
        table = lake.table(area, data_set, into)
        by = ["date"] if "date" in ROWS[into] else []
        _add(table, messages.lake_rows(cleaned.good, into), KEYS[into], by)
    bad = cleaned.bad.with_columns(pl.when(pl.col("reason") != Reason.DUPLICATE).then(pl.col("reason")).alias("reason"))
    return _by_place(rows, bad, "line")


def _lines(lake: Lake, data_set: str, form: Format, name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Lines of a file of events."""
    events = lake.table("processed", data_set, "events")
    number = _next(events)
    with tempfile.TemporaryDirectory(prefix="slipway-replay-") as scratch:
        (Path(scratch) / name).touch()
        source = form.open(Path(scratch))
    known = _items(lake, data_set) if LISTS["items"] & set(form.needs) else None
    texts, broken = _one_line_each(rows)
    # One character per byte, as the lines of a file are read; what no byte stands for is bad in any case.
    block = "".join(f"{text}\n" for text in texts).encode("iso-8859-1", "replace")
    parsed = source.events.parse(Block(1, block), known)
    good = _lake_events(parsed.events.filter(~pl.col("source_row").is_in(broken)), source, rows)
    distinct = _distinct(source)
    first = good.unique(distinct, keep="first", maintain_order=True)
    twice = _unlike(good.join(first, on="place", how="anti"), first)  # what says the same again is settled with it
    if events.exists():
        there = (
            events.scan(schema=LAKE_EVENTS)
            .filter(pl.col("event_id").is_null())
            .join(first.lazy().select(distinct), on=distinct, how="semi")
            .collect(engine="streaming")
        )
        met = first.join(there, on=distinct, how="semi")
        twice = pl.concat([twice, _unlike(met, there)])
        first = first.join(met, on="place", how="anti")
    _append(events, first.select(LAKE_EVENTS.names()).sort("timestamp"), number, ["date"])
    _occurring(lake, data_set, form, source, first)
    return _of_lines(rows, parsed.bad.select(pl.col("line").alias("place"), "reason"), twice, broken)


def _listed(lake: Lake, data_set: str, form: Format, name: str, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Lines of a file of items or users: read with the format's own reader, beside empty files of its other names."""
    texts, broken = _one_line_each(rows)
    with tempfile.TemporaryDirectory(prefix="slipway-replay-") as scratch:
        folder = Path(scratch)
        for needed in form.needs:
            (folder / needed).write_bytes(_original(lake, data_set, needed) if needed in _CODES else b"")
        header = _original(lake, data_set, name).partition(b"\n")[0] + b"\n" if name.endswith(".csv") else b""
        (folder / name).write_bytes(header + "".join(f"{text}\n" for text in texts).encode())
        read = form.open(folder).tables(folder)
    lines = next(one for one in read.read if one.file == name)
    shift = 1 if header else 0
    key = table.removesuffix("s")
    found = (read.items if table == "items" else read.users).join(  # type: ignore[union-attr]
        lines.rows.select(pl.col(key).cast(pl.Int64), (pl.col("line") - shift).alias("place")), on=key
    )
    found = found.filter(~pl.col("place").is_in(broken))
    schema = CATALOGUE if table == "items" else USERS
    new = _fill(found, schema)
    target = lake.table("processed", data_set, table)
    twice = found.clear().select("place")
    if target.exists():
        there = target.scan().join(new.lazy().select(key), on=key, how="semi").collect()
        told = [column for column in found.columns if column not in (key, "place", "genres")]
        same = found.join(there, on=[key, *told], how="semi", nulls_equal=True)
        twice = found.join(there, on=key, how="semi").join(same, on="place", how="anti").select("place")
    _add(target, new, key, [])
    return _of_lines(rows, lines.bad.select((pl.col("line") - shift).alias("place"), "reason"), twice, broken)


_CODES = {"u.genre"}  # what the lines of other files are read with


def _one_line_each(rows: pl.DataFrame) -> tuple[list[str], list[int]]:
    """The texts, and the places (from 1) of those that are no single line: a repair made two of it, or nothing."""
    texts = rows["text"].fill_null("").to_list()
    broken = [place for place, text in enumerate(texts, 1) if not text.strip() or "\n" in text or "\r" in text[:-1]]
    gone = set(broken)
    return ["-" if place in gone else text for place, text in enumerate(texts, 1)], broken


def _of_lines(rows: pl.DataFrame, bad: pl.DataFrame, twice: pl.DataFrame, broken: list[int]) -> pl.DataFrame:
    """VERDICTS of lines by their places, from 1; broken ones were never read, whatever the reader says of them."""
    marks = [(twice["place"].to_list(), Reason.DUPLICATE), (broken, Reason.FIELDS)]
    more = [(place, str(reason)) for places, reason in marks for place in places]
    added = pl.DataFrame(more, schema={"place": pl.Int64, "reason": pl.String}, orient="row")
    return _by_place(rows, pl.concat([bad, added]).unique("place", keep="last"), "place", first=1)


def _by_place(rows: pl.DataFrame, bad: pl.DataFrame, place: str, first: int = 0) -> pl.DataFrame:
    """VERDICTS of all rows, of which bad has the reasons by their place."""
    placed = rows.select("row").with_row_index(place, offset=first).with_columns(pl.col(place).cast(pl.Int64))
    return placed.join(bad.select(place, "reason"), on=place, how="left").select(VERDICTS.names()).cast(VERDICTS)


def _lake_events(events: pl.DataFrame, source: Source, rows: pl.DataFrame) -> pl.DataFrame:
    """LAKE_EVENTS of a file's rows, and `place` among those that were given; source_row is the line in the file."""
    lines = rows.select(pl.col("line").alias("source_row")).with_row_index("place", offset=1)
    time = (pl.col("seconds") * 1000).cast(LAKE_EVENTS["timestamp"])
    return (
        events.rename({"source_row": "place"})
        .join(lines.with_columns(pl.col("place").cast(pl.Int64)), on="place")
        .with_columns(time.alias("timestamp"), pl.lit(source.action).alias("action"))
        .with_columns(pl.col("timestamp").dt.date().alias("date"))
        .pipe(_fill, LAKE_EVENTS, "place")
    )


def _unlike(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The rows that no other repeats word by word: same user, item, time and rating."""
    said = ["user", "item", "timestamp", "rating", "action"]
    return rows.join(others.select(said), on=said, how="anti", nulls_equal=True)


def _distinct(source: Source) -> list[str]:
    return ["timestamp" if column == "seconds" else column for column in source.distinct]


def _fill(rows: pl.DataFrame, schema: pl.Schema, *more: str) -> pl.DataFrame:
    """The schema's columns, null where the rows have none, and the `more` that they have."""
    columns = [(pl.col(n) if n in rows.columns else pl.lit(None)).cast(dtype).alias(n) for n, dtype in schema.items()]
    return rows.select(*columns, *more)


def _items(lake: Lake, data_set: str) -> IntArray | None:
    table = lake.table("processed", data_set, "items")
    return table.scan().select("item").collect()["item"].to_numpy() if table.exists() else None


def _occurring(lake: Lake, data_set: str, form: Format, source: Source, events: pl.DataFrame) -> None:
    """Where the source has no list of its items or users, they are listed as they occur."""
    if not LISTS["items"] & set(form.needs):
        items = events.select("item").unique().sort("item")
        titles = items.with_columns(
            pl.format(f"{source.noun} {{}}", "item").alias("title"), pl.lit([], pl.List(pl.String)).alias("genres")
        )
        _add(lake.table("processed", data_set, "items"), _fill(titles, CATALOGUE), "item", [])
    if not LISTS["users"] & set(form.needs):
        users = _fill(events.select("user").unique().sort("user"), USERS)
        _add(lake.table("processed", data_set, "users"), users, "user", [])


def _original(lake: Lake, data_set: str, name: str) -> bytes:
    """A source file as it came last; nothing where it was not kept."""
    kept = [record for record in ledger.records(lake, data_set) if record.file == name]
    return lake.objects.read(f"raw/{data_set}/files/{kept[-1].sha256[:16]}/{name}") if kept else b""


def _add(table: Table, rows: pl.DataFrame, key: str, partition_by: Sequence[str]) -> None:
    """Append the rows whose key the table does not have."""
    number = _next(table)
    new = rows.unique(key, keep="first", maintain_order=True)
    if table.exists():
        there = table.scan().select(key).join(new.lazy().select(key), on=key, how="semi")
        new = new.join(there.collect(engine="streaming"), on=key, how="anti", maintain_order="left")
    _append(table, new, number, partition_by)


def _next(table: Table) -> int:
    """The number of this replay's commit, taken before anything is looked for: of two replays one commits it."""
    return (table.written(WRITER) or 0) + 1


def _append(table: Table, rows: pl.DataFrame, number: int, partition_by: Sequence[str]) -> None:
    if rows.height and not table.append(rows, partition_by=partition_by, writer=(WRITER, number)):
        raise BusyError(Path(table.uri), "another replay, which wrote first")
