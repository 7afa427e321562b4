"""The stream's messages, one JSON object each, and the lake's rows they become. Knows no broker and no table's place.

    cleaned = clean(texts, "events", rules)      # texts: bytes as they came
    rows = lake_rows(cleaned.good, "events")     # LAKE_EVENTS

events     {"event_id", "user", "item", "timestamp": ms since 1970 UTC, "action", "rating" if rated, "sent" or not}
feedback   an event with "request_id": the recommendation that it answers
exposures  {"request_id", "user", "timestamp", "items": […], and what is known of: "scores", "sources", "propensities",
           "model", "package", "revision", "fallback", "milliseconds", "session": […], "features",
           "stages": […], "stage_milliseconds": […]}
shadows    what a mirrored request would have been answered: as exposures, seen by nobody and never learned from
items      {"item", "title", "genres": […], "year", "released": ms}

Other fields are ignored, so that a producer may be newer than we are.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, get_args

import orjson
import polars as pl

from slipway.workloads.movies import cleaning
from slipway.workloads.movies.cleaning import Cleaned, Reason, Rules, Scale
from slipway.workloads.movies.dataset import LAKE_EVENTS
from slipway.workloads.movies.interactions import IntArray
from slipway.workloads.movies.sources.lines import LONGEST_LINE
from slipway.workloads.movies.sources.source import SINCE_1995

Kind = Literal["events", "feedback", "exposures", "shadows", "items"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEAD_LETTERS = "dead-letters"
LONGEST = LONGEST_LINE  # bytes of a message
SKEW = 300_000  # ms that a producer's clock may be ahead of ours
SCALE = Scale(0.5, 5, decimals=True)

FEEDBACK = pl.Schema(  # logs/<data set>/feedback, partitioned by date
    {name: LAKE_EVENTS[name] for name in ("event_id", "request_id", "user", "item", "timestamp", "action", "rating")}
    | {"date": pl.Date()}
)
EXPOSURES = pl.Schema(  # logs/<data set>/{exposures,shadows}, partitioned by date
    {
        "request_id": pl.String(),
        "user": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "items": pl.List(pl.Int64()),
        "scores": pl.List(pl.Float32()),
        "sources": pl.List(pl.String()),
        "propensities": pl.List(pl.Float32()),  # probability of this item at this position under the serving policy
        "model": pl.String(),
        "package": pl.String(),
        "revision": pl.String(),
        "fallback": pl.String(),  # why the answer is not the model's own; null when it is
        "milliseconds": pl.Float32(),
        "session": pl.List(pl.Int64()),  # items that came with the request, oldest first; null: not told
        "features": pl.String(),  # where the features came from; null: not told
        "stages": pl.List(pl.String()),
        "stage_milliseconds": pl.List(pl.Float32()),  # that each of the stages took
        "date": pl.Date(),
    }
)
CATALOGUE = pl.Schema(  # processed/<data set>/items
    {
        "item": pl.Int64(),
        "title": pl.String(),
        "genres": pl.List(pl.String()),
        "year": pl.Int32(),
        "released": pl.Datetime("ms", "UTC"),
    }
)
QUARANTINE = pl.Schema(  # raw/<data set>/quarantine, partitioned by day
    {
        "rejected_at": pl.Datetime("ms", "UTC"),
        "source": pl.String(),  # "files:<file>" or "stream:<topic>"
        "reason": pl.String(),
        "line": pl.Int64(),  # in the file, or the message's position in the stream
        "text": pl.String(),
        "repaired": pl.Boolean(),
        "day": pl.Date(),  # of rejected_at, in UTC: the partition
    }
)
ROWS: dict[Kind, pl.Schema] = {
    "events": LAKE_EVENTS,
    "feedback": FEEDBACK,
    "exposures": EXPOSURES,
    "shadows": EXPOSURES,
    "items": CATALOGUE,
}
KEYS: dict[Kind, str] = {
    "events": "event_id",
    "feedback": "event_id",
    "exposures": "request_id",
    "shadows": "request_id",
    "items": "item",
}


@dataclass(frozen=True)
class Field:
    """One field of a message: its column's type, whether it may be absent or null, and how far it may go.

    most: the largest number, or the longest text in characters. least: the smallest number.
    """

    dtype: pl.DataType
    optional: bool = False
    most: int = (1 << 63) - 1
    least: int = -(1 << 63)

    @property
    def accepts(self) -> set[type]:
        """JSON types of the value, or of the list's elements."""
        inner = self.dtype.inner if isinstance(self.dtype, pl.List) else self.dtype
        if inner == pl.String:
            return {str}
        return {float, int} if inner == pl.Float32 else {int}


_ID = Field(pl.Int64(), least=0, most=10**18 - 1)
_NAME = Field(pl.String(), most=256)
_TIME = Field(pl.Int64())
_WORD = Field(pl.String(), optional=True, most=256)
_EVENT = {
    "event_id": _NAME,
    "user": _ID,
    "item": _ID,
    "timestamp": _TIME,
    "action": _NAME,
    "rating": Field(pl.Float32(), optional=True),
    "sent": Field(pl.Int64(), optional=True),
}
_EXPOSURE = {
    "request_id": _NAME,
    "user": _ID,
    "timestamp": _TIME,
    "items": Field(pl.List(pl.Int64()), least=0, most=10**18 - 1),
    "scores": Field(pl.List(pl.Float32()), optional=True),
    "sources": Field(pl.List(pl.String()), optional=True, most=256),
    "propensities": Field(pl.List(pl.Float32()), optional=True, least=0, most=1),
    "model": _WORD,
    "package": _WORD,
    "revision": _WORD,
    "fallback": _WORD,
    "milliseconds": Field(pl.Float32(), optional=True, least=0),
    "session": Field(pl.List(pl.Int64()), optional=True, least=0, most=10**18 - 1),
    "features": _WORD,
    "stages": Field(pl.List(pl.String()), optional=True, most=256),
    "stage_milliseconds": Field(pl.List(pl.Float32()), optional=True, least=0),
}
FORMS: dict[Kind, dict[str, Field]] = {
    "events": _EVENT,
    "feedback": {"request_id": _NAME, **_EVENT},
    "exposures": _EXPOSURE,
    "shadows": _EXPOSURE,
    "items": {
        "item": _ID,
        "title": Field(pl.String(), most=1000),
        "genres": Field(pl.List(pl.String()), most=256),
        "year": Field(pl.Int32(), optional=True, least=0, most=9999),
        "released": Field(pl.Int64(), optional=True, least=-(10**15), most=10**15),
    },
}
_LISTS = ("scores", "sources", "propensities")  # of an exposure: one value per item
ACTIONS: list[str] = LAKE_EVENTS["action"].categories.to_list()  # type: ignore[attr-defined]


def rules(now: int, items: IntArray | None = None, skew: int = SKEW) -> Rules:
    """What a message may say now. now, skew: ms; items: the known ones, or None where there is no catalogue yet."""
    return Rules(scale=SCALE, earliest=SINCE_1995 * 1000, latest=now + skew, items=items)


def clean(texts: Sequence[bytes], kind: Kind, rules: Rules) -> Cleaned:
    """Messages as they came → good: a row per sound message, with its fields and `line`; bad: line, reason, text.

    line: the message's place in `texts`, from 0. Of several messages with one id the first is good.
    """
    rows, bad = read(texts, kind)
    own = replace(
        rules, distinct=() if kind == "items" else (KEYS[kind],), items=None if kind == "items" else rules.items
    )
    cleaned = cleaning.clean(rows, own)
    bad = pl.concat([bad, cleaned.bad.select("line", "reason")]).sort("line")
    said = pl.Series("text", [readable(texts[line]) for line in bad["line"]], dtype=pl.String)
    return Cleaned(cleaned.good, bad.with_columns(said))


def readable(text: bytes) -> str:
    """The message as the quarantine keeps it: whole unless too long; bytes that are no UTF-8 as \\x..."""
    return text[:LONGEST].decode("utf-8", "backslashreplace")


def lake_rows(good: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """The rows of ROWS[kind], in time's order; feedback becomes events too, by kind="events"."""
    schema = ROWS[kind]
    if kind == "items":
        return good.select(schema.names()).cast(schema)
    time = pl.col("timestamp").cast(schema["timestamp"])
    rows = good.with_columns(time, time.dt.date().alias("date"))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows.columns]
    return rows.with_columns(missing).select(schema.names()).cast(schema).sort("timestamp", maintain_order=True)


def read(texts: Sequence[bytes], kind: Kind) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows: the form's fields and `line`, of the messages that have the form; bad: line, reason of the others)."""
    wrong: dict[int, Reason] = {}
    lines: list[int] = []
    objects: list[dict[str, Any]] = []
    loads: Callable[[bytes], Any] = orjson.loads
    for line, text in enumerate(texts):
        if len(text) > LONGEST:
            wrong[line] = Reason.SIZE
            continue
        try:
            parsed = loads(text)
        except orjson.JSONDecodeError:
            wrong[line] = _unreadable(text)
            continue
        if type(parsed) is not dict:
            wrong[line] = Reason.JSON
            continue
        lines.append(line)
        objects.append(parsed)
    columns: dict[str, pl.Series] = {}
    broken: dict[int, Reason] = {}  # by place in objects
    for name, field in FORMS[kind].items():
        values = [parsed.get(name) for parsed in objects]
        columns[name] = _column(name, values, field, broken)
    rows = pl.DataFrame({**columns, "line": pl.Series(lines, dtype=pl.Int64)})
    for reason, mask in _impossible(rows, kind):
        for place in mask.arg_true() if mask.any() else ():
            broken.setdefault(place, reason)
    if broken:
        wrong |= {lines[place]: reason for place, reason in broken.items()}
        kept = pl.Series([place not in broken for place in range(len(lines))], dtype=pl.Boolean)
        rows = rows.filter(kept)
    bad = pl.DataFrame(
        {"line": list(wrong), "reason": [str(reason) for reason in wrong.values()]},
        schema={"line": pl.Int64, "reason": pl.String},
    )
    return rows, bad


def _unreadable(text: bytes) -> Reason:
    try:
        text.decode()
    except UnicodeDecodeError:
        return Reason.ENCODING
    return Reason.JSON


def _column(name: str, values: list[Any], field: Field, broken: dict[int, Reason]) -> pl.Series:
    """The values as a column; those that cannot be there become null, and their place goes to `broken`.

    Nearly always all are as they should be, which the set of their types says at once.
    """
    types = field.accepts | ({type(None)} if field.optional else set())
    nested = isinstance(field.dtype, pl.List)
    if nested:
        outer = {list, type(None)} if field.optional else {list}
        sound = set(map(type, values)) <= outer
        sound = sound and set(map(type, chain.from_iterable(v for v in values if v is not None))) <= field.accepts
    else:
        sound = set(map(type, values)) <= types
    if sound and _within(chain.from_iterable(v for v in values if v) if nested else values, field):
        return pl.Series(name, values, dtype=field.dtype)
    for place, value in enumerate(values):
        if reason := judge(value, field):
            broken.setdefault(place, reason)
            values[place] = None
    return pl.Series(name, values, dtype=field.dtype)


def _within(values: Iterable[Any], field: Field) -> bool:
    there = [value for value in values if value is not None]
    if not there:
        return True
    if field.accepts == {str}:
        return min(map(len, there)) > 0 and max(map(len, there)) <= field.most
    return bool(min(there) >= field.least and max(there) <= field.most)


def judge(value: Any, field: Field) -> Reason | None:
    """Why this value cannot stand in the field; None when it can."""
    nested = isinstance(field.dtype, pl.List)
    if value is None:
        return None if field.optional else Reason.MISSING
    elements = value if nested else [value]
    if type(elements) is not list or not {type(element) for element in elements} <= field.accepts:
        return Reason.TYPE
    if _within(elements, field):
        return None
    if field.accepts == {str}:
        return Reason.MISSING if "" in elements else Reason.SIZE
    return Reason.NUMBER


def _impossible(rows: pl.DataFrame, kind: Kind) -> Iterable[tuple[Reason, pl.Series]]:
    """What each field may say alone and the message as a whole cannot."""
    if kind in ("events", "feedback"):
        yield Reason.ACTION, ~rows["action"].is_in(ACTIONS)
        yield Reason.RATING, rows["rating"].is_null() == (rows["action"] == "rating")
    elif kind in ("exposures", "shadows"):
        shown = rows["items"].list.len()
        for name in _LISTS:
            yield Reason.LISTS, rows[name].list.len() != shown
        yield Reason.LISTS, rows["stages"].list.len().ne_missing(rows["stage_milliseconds"].list.len())
        yield Reason.LISTS, shown == 0
