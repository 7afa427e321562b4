"""user_statistics and user_history of many users at once. Knows arrays, no table and no date that it was not given.

One row of statistics per user and instant at which something happened, one of history per user and day; the values are
those that state.py arrives at event by event. Windows are whole UTC days, so each is a difference of two running sums.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from slipway.workloads.movies.features import state
from slipway.workloads.movies.features.genres import Genres, IntArray
from slipway.workloads.movies.features.views import DAY_MS, EVENT, HISTORY, LONG, SHORT

COLUMNS = {"user": pl.Int64(), "item": pl.Int64(), "timestamp": pl.Datetime("ms", "UTC"), "rating": pl.Float32()}


def ordered(events: pl.DataFrame) -> pl.DataFrame:
    """In each user's order of (time, item), an event that is there twice once."""
    return events.sort("user", "timestamp", "item", "rating", nulls_last=True).unique(
        ["user", "timestamp", "item"], keep="first", maintain_order=True
    )


@dataclass(frozen=True)
class _Arrays:
    """Columns of `ordered` events. key: ascending, one step a day, users further apart than any window."""

    user: IntArray
    item: IntArray
    time: IntArray
    day: IntArray
    key: IntArray
    rated: IntArray  # (n + 1,) running count of ratings, from 0
    thousandths: IntArray  # (n + 1,) running sum of the ratings

    @classmethod
    def of(cls, events: pl.DataFrame) -> "_Arrays":
        user = events["user"].to_numpy()
        time = events["timestamp"].dt.epoch("ms").to_numpy()
        day = time // DAY_MS
        rating = events["rating"].cast(pl.Float64)
        sums = np.rint(rating.fill_null(0.0).to_numpy() * 1000).astype(np.int64)
        number = np.cumsum(_firsts(user)) - 1
        width = (day.max() - day.min() if len(day) else 0) + 2 * LONG
        return cls(
            user=user,
            item=events["item"].to_numpy(),
            time=time,
            day=day,
            key=number * width + (day - (day.min() if len(day) else 0)) + LONG,
            rated=_running(rating.is_not_null().to_numpy().astype(np.int64)),
            thousandths=_running(sums),
        )


def statistics(events: pl.DataFrame, genres: Genres, first_day: int) -> pl.DataFrame:
    """Rows of user_statistics without created_timestamp, in order of user and time, from first_day (since 1970) on.

    events: COLUMNS, `ordered`, from LONG - 1 days before first_day on; earlier ones do no harm.
    """
    a = _Arrays.of(events)
    rows = np.flatnonzero(_lasts(a.user, a.time) & (a.day >= first_day))
    begin = np.searchsorted(a.key, a.key[rows] - LONG + 1)
    short = np.searchsorted(a.key, a.key[rows] - SHORT + 1)
    rated = a.rated[rows + 1] - a.rated[begin]
    mean = (a.thousandths[rows + 1] - a.thousandths[begin]) / 1000 / np.maximum(rated, 1)
    return pl.DataFrame(
        {
            "user": a.user[rows],
            "events_7d": rows - short + 1,
            "events_28d": rows - begin + 1,
            "mean_rating_28d": pl.Series(mean.astype(np.float32)).set(pl.Series(rated == 0), None),
            "genres_28d": _distinct(genres, genres.index(a.item), begin, rows + 1),
            "last_event": a.time[rows],
            EVENT: _stamps(a.time[rows]),
        }
    )


def history(events: pl.DataFrame, older: pl.DataFrame, genres: Genres, first_day: int) -> pl.DataFrame:
    """Rows of user_history without created_timestamp, in order of user and day, from first_day on.

    events: as for `statistics`. older: user, item, timestamp of what may lie before events: per user the newest
    HISTORY before first_day suffice.
    """
    whole = ordered(pl.concat([older, events.select("user", "item", "timestamp")]).with_columns(rating=None))
    a = _Arrays.of(whole)
    ends = np.flatnonzero(_lasts(a.user, a.day) & (a.day >= first_day))
    # Where each row's user begins: the newest mark of a user's first event up to that row.
    starts = np.maximum(
        np.maximum.accumulate(np.where(_firsts(a.user), np.arange(len(a.user)), 0))[ends], ends - HISTORY + 1
    )
    lengths = ends - starts + 1
    offsets = _running(lengths)
    flat = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return pl.DataFrame(
        {
            "user": a.user[ends],
            "items": _lists(a.item[flat], offsets),
            "times": _lists(a.time[flat], offsets),
            "window": _windows(events, genres, first_day),
            EVENT: _stamps(a.time[ends]),
        }
    )


def _windows(events: pl.DataFrame, genres: Genres, first_day: int) -> list[str]:
    """Per user and day from first_day on, what state.window says of the LONG days that end then."""
    a = _Arrays.of(events)
    begins = np.flatnonzero(_firsts(a.user, a.day))
    if not len(begins):
        return []
    ends = np.append(begins[1:], len(a.user))
    index = genres.index(a.item)
    present = np.stack(
        [np.logical_or.reduceat(has[index], begins) for has in genres.has] or [np.zeros(len(begins), bool)]
    )
    packed = np.packbits(present, axis=0).T.copy()  # (days, bytes): equal bytes are equal genres
    texts: dict[bytes, str] = {}
    pieces = []
    rated, sums = a.rated[ends] - a.rated[begins], a.thousandths[ends] - a.thousandths[begins]
    for row, values in enumerate(
        zip(a.day[begins].tolist(), (ends - begins).tolist(), rated.tolist(), sums.tolist(), strict=True)
    ):
        bits = packed[row].tobytes()
        if bits not in texts:
            texts[bits] = state.names(genres.names[g] for g in np.flatnonzero(present[: len(genres.names), row]))
        pieces.append(state.piece(*values, texts[bits]))
    since = np.searchsorted(a.key[begins], a.key[begins] - LONG + 1).tolist()
    wanted = np.flatnonzero(a.day[begins] >= first_day).tolist()
    return [f"[{','.join(pieces[since[row] : row + 1])}]" for row in wanted]


def _distinct(genres: Genres, index: IntArray, begin: IntArray, end: IntArray) -> IntArray:
    """(rows,) how many genres occur among the events begin..end of each row."""
    found = np.zeros(len(begin), dtype=np.int64)
    for has in genres.has:
        running = _running(has[index].astype(np.int64))
        found += running[end] > running[begin]
    return found


def _firsts(*columns: IntArray) -> npt.NDArray[np.bool_]:
    """Where a row differs from the one before it."""
    mark = np.ones(len(columns[0]), dtype=np.bool_)
    mark[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return mark


def _lasts(*columns: IntArray) -> npt.NDArray[np.bool_]:
    mark = np.ones(len(columns[0]), dtype=np.bool_)
    mark[:-1] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return mark


def _running(values: npt.NDArray[Any]) -> IntArray:
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])


def _stamps(times: IntArray) -> pl.Series:
    return pl.Series(times).cast(pl.Datetime("ms", "UTC")).dt.cast_time_unit("us")


def _lists(values: IntArray, offsets: IntArray) -> pl.Series:
    import pyarrow as pa

    found = pl.from_arrow(pa.LargeListArray.from_arrays(offsets, values))
    assert isinstance(found, pl.Series)
    return found
