"""One user's features, kept up to date event by event. Knows arithmetic, no store and no stream.

    state = UserState.from_row(row.history, row.statistics)
    state.apply(items=[7], times_ms=[…], ratings=[4.0], genres=[["Drama"]])
    store.write("user_history", [{"user": 1, **state.rows()["user_history"]}], created=now)

The state is the row of user_history: the items and times, and `window`, what each of the last 28 days held. All
values of user_statistics follow from it. They are those of the batch (users.py), whatever the order of arrival:
events are ordered by (time, item), days are counted in integers, ratings in thousandths.

An event is (user, item, time): one that is among the last 200 already changes nothing, so a message that is delivered
again within that reach does no harm. Beyond it the caller's event ids must tell.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np

from slipway.workloads.movies.features.views import DAY_MS, HISTORY, LONG, SHORT

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Day:
    """What one UTC day of one user held."""

    events: int = 0
    rated: int = 0
    thousandths: int = 0  # sum of the ratings
    genres: set[str] = field(default_factory=set)


class UserState:
    def __init__(self) -> None:
        self._events: list[tuple[int, int]] = []  # (time in ms, item), ascending, at most HISTORY
        self._days: dict[int, Day] = {}  # days since 1970 → what that day held; the newest event's LONG days

    @classmethod
    def from_row(cls, history: Mapping[str, Any] | None, statistics: Mapping[str, Any] | None = None) -> Self:
        """The state as it was when `history` (items, times, window) was written; None: a user never seen.

        statistics: taken so that callers can hand over both rows as they read them; it follows from the history.
        """
        del statistics
        state = cls()
        if history and history.get("items"):
            state._events = sorted(zip(history["times"], history["items"], strict=True))
            for day, events, rated, thousandths, genres in json.loads(history.get("window") or "[]"):
                state._days[day] = Day(events, rated, thousandths, set(genres))
        return state

    def apply(
        self,
        items: Sequence[int],
        times_ms: Sequence[int],
        ratings: Sequence[float | None],
        genres: Sequence[Sequence[str]],
    ) -> None:
        """Add events, one per position of the four sequences, in any order; those that are known change nothing."""
        known = set(self._events)
        for item, time, rating, kinds in zip(items, times_ms, ratings, genres, strict=True):
            if (time, item) in known:
                continue
            known.add((time, item))
            day = self._days.setdefault(time // DAY_MS, Day())
            day.events += 1
            if rating is not None:
                day.rated += 1
                day.thousandths += round(rating * 1000)
            day.genres.update(kinds)
        self._events = sorted(known)[-HISTORY:]
        if self._events:
            first = self._events[-1][0] // DAY_MS - LONG + 1
            self._days = {day: held for day, held in self._days.items() if day >= first}

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of user_history and user_statistics as of the newest event, without the user; {} without events."""
        if not self._events:
            return {}
        last = self._events[-1][0]
        stamp = {"event_timestamp": _EPOCH + timedelta(milliseconds=last)}
        days = self._days.values()
        rated = sum(day.rated for day in days)
        mean = sum(day.thousandths for day in days) / 1000 / rated if rated else None
        short = last // DAY_MS - SHORT + 1
        return {
            "user_history": {
                "items": [item for _, item in self._events],
                "times": [time for time, _ in self._events],
                "window": window(self._days),
                **stamp,
            },
            "user_statistics": {
                "events_7d": sum(held.events for day, held in self._days.items() if day >= short),
                "events_28d": sum(day.events for day in days),
                "mean_rating_28d": None if mean is None else float(np.float32(mean)),
                "genres_28d": len(set().union(*(day.genres for day in days))),
                "last_event": last,
                **stamp,
            },
        }


def window(days: Mapping[int, Day]) -> str:
    """The days as user_history carries them, oldest first."""
    held = sorted(days.items())
    return f"[{','.join(piece(day, o.events, o.rated, o.thousandths, names(o.genres)) for day, o in held)}]"


def piece(day: int, events: int, rated: int, thousandths: int, genres: str) -> str:
    """One day of the window, as JSON without spaces; genres: what `names` made."""
    return f"[{day},{events},{rated},{thousandths},{genres}]"


def names(genres: Iterable[str]) -> str:
    return json.dumps(sorted(genres), separators=(",", ":"), ensure_ascii=False)
