"""The sidebar: which data set, days, actions and users. Its state is in the URL, so a view can be sent to others."""

from dataclasses import dataclass
from datetime import date

import polars as pl
import streamlit as st

from dashboard import tables
from dashboard.tables import Snapshot
from slipway.analytics import activity, popularity
from slipway.analytics.selection import Selection, segments
from slipway.settings import settings

EVERYBODY = "all users"


@dataclass(frozen=True)
class Scope:
    """What every chart of a page is about. events, items, users: None where the data set has no such table yet."""

    data_set: str
    selection: Selection
    events: Snapshot | None
    items: Snapshot | None
    users: Snapshot | None

    @property
    def filtered_users(self) -> Snapshot | None:
        """The users' table only where the selection needs it, so that it is no part of a cache's key otherwise."""
        return self.users if self.selection.segment else None

    @property
    def every(self) -> str:
        """The step of curves over time: fine for a few weeks, coarse for years."""
        facts = tables.facts(self.events) if self.events else None
        if facts is None or facts.first is None or facts.last is None:
            return "1d"
        start, end = self.selection.start or facts.first, self.selection.end or facts.last
        return popularity.period(max(start, facts.first), min(end, facts.last))


def sidebar() -> Scope | None:
    """None when the lake has no data set at all."""
    known = tables.data_sets()
    if not known:
        return None
    with st.sidebar:
        st.subheader("Filters", anchor=False)
        default = known.index(settings().data_set) if settings().data_set in known else 0
        data_set = st.selectbox("Data set", known, index=default, key="data", bind="query-params", on_change=_forget)
        events = tables.find("processed", data_set, "events")
        users = tables.find("processed", data_set, "users")
        start, end = _dates(data_set)
        actions = _actions(events)
        segment = _segment(users)
        st.button("Reset filters", on_click=_forget, icon=":material/restart_alt:", width="stretch")
        st.caption("All times are UTC. The filters apply to every page and are kept in the address.")
    return Scope(
        data_set=data_set,
        selection=Selection(start, end, actions, segment),
        events=events,
        items=tables.find("processed", data_set, "items"),
        users=users,
    )


def _forget() -> None:
    """Another data set has other days, actions and users. Set, not removed: what is removed comes back from the URL."""
    state = st.session_state
    state["actions"], state["users"] = [], EVERYBODY
    if bounds := _bounds(state["data"]):
        state["dates"] = bounds


def _bounds(data_set: str) -> tuple[date, date] | None:
    """The first and the last day of events and logs."""
    found = [tables.facts(s) for s in tables.of(data_set) if s.area in ("processed", "logs")]
    first = min((f.first for f in found if f.first), default=None)
    last = max((f.last for f in found if f.last), default=None)
    return None if first is None or last is None else (first, last)


def _dates(data_set: str) -> tuple[date | None, date | None]:
    """None where the first or last day of all is chosen: what comes in later is then seen, too."""
    bounds = _bounds(data_set)
    if bounds is None:
        return None, None
    first, last = bounds
    chosen = st.date_input(
        "Days (first and last)",
        value=bounds,
        min_value=first,
        max_value=last,
        format="YYYY-MM-DD",
        key="dates",
        bind="query-params",
        help=f"There are data from {first} to {last}.",
    )
    both = chosen if isinstance(chosen, tuple) else (chosen,)
    if len(both) < 2:
        st.caption("Choose the last day, too.")
        both = (both[0], both[0]) if both else bounds
    return (None if both[0] == first else both[0]), (None if both[1] == last else both[1])


@st.cache_data(show_spinner="Reading the actions …", max_entries=16)
def _kinds(events: Snapshot) -> list[str]:
    days = activity.per_day(events.scan())
    return days.group_by("action").agg(pl.col("events").sum()).sort("events", descending=True)["action"].to_list()


def _actions(events: Snapshot | None) -> tuple[str, ...]:
    if events is None:
        return ()
    kinds = _kinds(events)
    if len(kinds) < 2:
        return ()
    return tuple(
        st.multiselect(
            "Actions", kinds, key="actions", bind="query-params", placeholder="all actions", select_all=False
        )
    )


@st.cache_data(show_spinner=False, max_entries=16)
def _segments(users: Snapshot) -> list[tuple[str, str]]:
    return segments(users.scan())


def _segment(users: Snapshot | None) -> tuple[str, str] | None:
    if users is None:
        return None
    named = {f"{attribute}: {value}": (attribute, value) for attribute, value in _segments(users)}
    chosen = st.selectbox("Users", [EVERYBODY, *named], key="users", bind="query-params")
    return named.get(chosen)
