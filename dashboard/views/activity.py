"""When people act, how long they stay, and whether they come back."""

import polars as pl
import streamlit as st

from dashboard import charts, hints
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from dashboard.views.overview import PERIODS
from slipway.analytics import activity
from slipway.analytics.selection import Selection

SAMPLED_USERS = 20_000
"""Sessions and cohorts need each user's events together; so many users tell lengths and shares well enough."""


def _events(events: Snapshot, selection: Selection, users: Snapshot | None) -> pl.LazyFrame:
    return selection.apply(events.scan(), users.scan() if users else None)


@st.cache_data(show_spinner="Counting hours …", max_entries=64)
def _hours(*key: Snapshot | Selection | None) -> pl.DataFrame:
    return activity.by_hour(_events(*key))  # type: ignore[arg-type]


@st.cache_data(show_spinner="Counting days …", max_entries=64)
def _days(*key: Snapshot | Selection | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = _events(*key)  # type: ignore[arg-type]
    return activity.per_day(rows), activity.users_per_day(rows)


@st.cache_data(show_spinner="Looking for sessions …", max_entries=64)
def _sessions(*key: Snapshot | Selection | None) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Lengths, medians, and one user in how many was looked at."""
    rows = _events(*key)  # type: ignore[arg-type]
    users = rows.select(pl.col("user").n_unique()).collect(engine="streaming").item()
    share = activity.one_in(users, SAMPLED_USERS)
    found = activity.sessions(activity.sample_users(rows, share)).collect(engine="streaming").lazy()
    typical = found.select(
        pl.len().alias("sessions"),
        pl.col("events").median(),
        pl.col("seconds").median(),
        (pl.len() / pl.col("user").n_unique()).alias("per_user"),
    )
    return activity.session_lengths(found), typical.collect(), share


@st.cache_data(show_spinner="Following cohorts …", max_entries=64)
def _cohorts(share: int, *key: Snapshot | Selection | None) -> pl.DataFrame:
    return activity.retention(activity.sample_users(_events(*key), share))  # type: ignore[arg-type]


def view(scope: Scope) -> None:
    if scope.events is None:
        hints.missing("This data set has no events yet.", "slipway ingest")
        return
    key = (scope.events, scope.selection, scope.filtered_users)
    days, users = _days(*key)
    if days.is_empty():
        hints.nothing("No event matches.")
        return
    _figures(days, users)
    with panel(
        "When people act", "Lighter is busier. Each cell counts the events of that hour over all chosen weeks, in UTC."
    ):
        _heat(_hours(*key))
    lengths, typical, share = _sessions(*key)
    left, right = st.columns(2)
    with left:
        _users(scope, users)
    with right:
        _lengths(lengths, typical, share)
    if days["action"].n_unique() > 1:
        _actions(scope, days)
    _retention(_cohorts(share, *key), share)


def _figures(days: pl.DataFrame, users: pl.DataFrame) -> None:
    total, columns = int(days["events"].sum()), st.columns(4)
    columns[0].metric("Events", f"{total:,}", border=True)
    columns[1].metric("Days with events", f"{users.height:,}", border=True)
    columns[2].metric("Events per such day", f"{total / max(users.height, 1):,.0f}", border=True)
    columns[3].metric("Users per such day", f"{users['users'].mean() or 0:,.0f}", border=True, help="distinct, mean")


def _heat(hours: pl.DataFrame) -> None:
    z = [hours.filter(pl.col("weekday") == day)["events"].to_list() for day in range(1, 8)]
    figure = charts.heat(
        z, [f"{hour:02}" for hour in range(24)], charts.WEEKDAYS, "hour (UTC)", "", "events", height=300
    )
    charts.show(figure, "hours", "Heat map: events by weekday and hour")


def _users(scope: Scope, users: pl.DataFrame) -> None:
    every = scope.every
    per = "" if every == "1d" else f"; each point is the mean of a {PERIODS[every]}"
    with panel("Active users", f"Distinct users per day{per}."):
        rows = users.group_by(pl.col("date").dt.truncate(every)).agg(pl.col("users").mean()).sort("date")
        figure = charts.line(rows, "date", {"users": "users"}, "", "users per day", height=416)
        charts.show(figure, "active-users", "Line: active users per day")


def _actions(scope: Scope, days: pl.DataFrame) -> None:
    with panel("What people do", f"Share of each action per {PERIODS[scope.every]}."):
        moment = pl.col("date").dt.truncate(scope.every)
        rows = days.group_by(moment, pl.col("action").alias("genre")).agg(pl.col("events").sum())
        rows = rows.with_columns((pl.col("events") / pl.col("events").sum().over("date")).alias("share"))
        order = rows.group_by("genre").agg(pl.col("events").sum()).sort("events", descending=True)["genre"].to_list()
        figure = charts.shares(rows, order, "", "share of the events")
        charts.show(figure, "action-shares", "Areas: share of each action")


def _lengths(lengths: pl.DataFrame, typical: pl.DataFrame, share: int) -> None:
    with panel("How long a session is", f"A pause of more than 30 minutes begins a new session.{_sampled(share)}"):
        names, values = lengths["length"].to_list(), lengths["sessions"].to_list()
        charts.show(
            charts.bars(names, values, "events in the session", "sessions"), "lengths", "Bars: sessions by length"
        )
        median = typical.row(0, named=True)
        columns = st.columns(3)
        columns[0].metric("Median events", f"{median['events'] or 0:,.0f}")
        columns[1].metric("Median minutes", f"{(median['seconds'] or 0) / 60:,.0f}")
        columns[2].metric("Sessions per user", f"{median['per_user'] or 0:,.1f}")


def _retention(cohorts: pl.DataFrame, share: int) -> None:
    left, right = st.columns([3, 2])
    with (
        left,
        panel(
            "Who comes back, by cohort",
            "Each row is the users whose first chosen event was in that week; each cell, the share seen again so "
            f"many weeks later. At most the last 26 cohorts.{_sampled(share)}",
        ),
    ):
        if cohorts.is_empty():
            hints.nothing("No whole week is selected.")
            return
        cohorts = cohorts.filter(pl.col("week").max().over("cohort") > 0)  # nobody could have come back to the others
        weeks = range(1, int(cohorts["week"].max() or 0) + 1)
        names = cohorts["cohort"].unique().sort().tail(26).to_list()
        known = {(cohort, week): share for cohort, week, _, share in cohorts.iter_rows()}
        z = [[known.get((cohort, week)) for week in weeks] for cohort in names]
        labels = [cohort.isoformat() for cohort in names]
        height = max(220, 18 * len(names) + 110)
        if not weeks:
            hints.nothing("Only one week is selected.")
            return
        charts.show(
            charts.heat(z, list(weeks), labels, "weeks later", "first week", "seen again", share=True, height=height),
            "cohorts",
            "Heat map: share of each weekly cohort that came back",
        )
    with right, panel("Who comes back, over all", "Of all users who could have been back by then."):
        curve = activity.retention_curve(cohorts).filter(pl.col("week") > 0)
        figure = charts.line(
            curve, "week", {"share": "seen again"}, "weeks after the first", "share seen in that week", share=True
        )
        figure.update_xaxes(dtick=1 if curve.height <= 14 else None)
        charts.show(figure, "retention", "Line: share of users seen again by week")


def _sampled(share: int) -> str:
    return "" if share == 1 else f" Sample: one user in {share:,}, with all events."
