"""What is on offer, what of it is used, and one film's own figures."""

import polars as pl
import streamlit as st

from dashboard import charts, hints
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from dashboard.views.overview import PERIODS
from slipway.analytics import popularity
from slipway.analytics.selection import Selection

SHOWN = 200
"""Rows of a table on the page."""


def _events(events: Snapshot, selection: Selection, users: Snapshot | None) -> pl.LazyFrame:
    return selection.apply(events.scan(), users.scan() if users else None)


@st.cache_data(show_spinner="Counting films …", max_entries=64)
def _by_item(*key: Snapshot | Selection | None) -> pl.DataFrame:
    return popularity.by_item(_events(*key))  # type: ignore[arg-type]


@st.cache_data(show_spinner="Following the catalogue …", max_entries=64)
def _coverage(catalogue: int, every: str, *key: Snapshot | Selection | None) -> pl.DataFrame:
    return popularity.coverage(_events(*key), catalogue, every)  # type: ignore[arg-type]


@st.cache_data(show_spinner="Following genres …", max_entries=64)
def _genres(items: Snapshot, every: str, *key: Snapshot | Selection | None) -> pl.DataFrame:
    return popularity.genres(_events(*key), items.scan(), every)  # type: ignore[arg-type]


@st.cache_data(show_spinner=False, max_entries=64)
def _one(item: int, every: str, *key: Snapshot | Selection | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Its events per period, and its ratings by value."""
    rows = _events(*key).filter(pl.col("item") == item)  # type: ignore[arg-type]
    times = rows.group_by(pl.col("date").dt.truncate(every)).agg(pl.len().cast(pl.Int64).alias("events")).sort("date")
    stars = rows.drop_nulls("rating").group_by("rating").agg(pl.len().cast(pl.Int64).alias("ratings")).sort("rating")
    first, second = pl.collect_all([times, stars])
    return first, second


@st.cache_data(show_spinner=False, max_entries=16)
def titles(items: Snapshot) -> pl.DataFrame:
    """item, title, genres (as text), year, released (null where the source does not say)."""
    rows = items.scan()
    released = pl.col("released") if "released" in rows.collect_schema() else pl.lit(None, pl.Datetime("us", "UTC"))
    return rows.select("item", "title", pl.col("genres").list.join(", "), "year", released.alias("released")).collect()


def view(scope: Scope) -> None:
    if scope.events is None or scope.items is None:
        hints.missing("This data set has no events or no items yet.", "slipway ingest")
        return
    key = (scope.events, scope.selection, scope.filtered_users)
    counts, known = _by_item(*key), titles(scope.items)
    if counts.is_empty():
        hints.nothing("No event matches.")
        return
    size, every = max(known.height, counts.height), scope.every
    _figures(counts, size)
    left, right = st.columns(2)
    with (
        left,
        panel(
            "How evenly the catalogue is used",
            "How far the curve bows to the upper left says how much of all use a few films get.",
        ),
    ):
        charts.show(
            charts.lorenz(popularity.lorenz(counts["events"], size)),
            "lorenz",
            "Line: share of events by share of items",
        )
    with right, panel("Coverage over time", f"Share of the catalogue with at least one event in the {PERIODS[every]}."):
        rows = _coverage(size, every, *key)
        figure = charts.line(rows, "date", {"share": "used"}, "", "share of the catalogue", share=True)
        charts.show(figure, "coverage", "Line: share of the catalogue that is used")
    with panel("Genres over time", "Share of the events; a film of two genres counts half in each."):
        rows = _genres(scope.items, every, *key)
        order = rows.group_by("genre").agg(pl.col("events").sum()).sort("events", descending=True)["genre"].to_list()
        order = [name for name in order if name != "others"] + ["others"] * ("others" in order)
        charts.show(charts.shares(rows, order, "", "share of the events"), "genres", "Areas: share of each genre")
    _newest(counts, known)
    _look_up(key, every, counts, known)


def _figures(counts: pl.DataFrame, size: int) -> None:
    events, columns = counts["events"], st.columns(5)
    columns[0].metric("Films", f"{size:,}", border=True, help="in the catalogue")
    columns[1].metric("Used at least once", f"{counts.height / size:.0%}", border=True)
    columns[2].metric(
        "The top 1 % get", f"{popularity.head_share(events, size, 0.01):.0%}", border=True, help="of all events"
    )
    columns[3].metric(
        "The top 10 % get", f"{popularity.head_share(events, size, 0.1):.0%}", border=True, help="of all events"
    )
    columns[4].metric(
        "Gini index", f"{popularity.gini(events, size):.2f}", border=True, help="0: all equal, 1: one film has all"
    )


def _newest(counts: pl.DataFrame, known: pl.DataFrame) -> None:
    dated = known["released"].null_count() < known.height
    reading = (
        "By release." if dated else "By the first chosen event, since this source does not say when a film came out."
    )
    with panel("Newest films", reading):
        rows = counts.join(known, on="item", how="inner")
        since = pl.col("released").dt.date() if dated else pl.col("first")
        rows = rows.with_columns(since.alias("since")).drop_nulls("since").sort(["since", "events"], descending=True)
        st.dataframe(
            rows.select("item", "title", "genres", "since", "events", "mean_rating").head(20),
            hide_index=True,
            height=240,
            column_config=COLUMNS,
        )


COLUMNS = {
    "item": st.column_config.NumberColumn("id", format="%d", width="small"),
    "title": st.column_config.TextColumn("title", width="medium"),
    "year": st.column_config.NumberColumn("year", format="%d"),
    "since": st.column_config.DateColumn("since", format="YYYY-MM-DD"),
    "first": st.column_config.DateColumn("first event", format="YYYY-MM-DD"),
    "last": st.column_config.DateColumn("last event", format="YYYY-MM-DD"),
    "events": st.column_config.NumberColumn("events", format="localized"),
    "mean_rating": st.column_config.NumberColumn("mean rating", format="%.2f"),
}


def _look_up(key: tuple[object, ...], every: str, counts: pl.DataFrame, known: pl.DataFrame) -> None:
    with panel("Look a film up", "Type a part of a title, or an id; click on a row to see that film's figures below."):
        asked = st.text_input("Title or id", key="film", bind="query-params", placeholder="for example: love").strip()
        rows = counts.join(known, on="item", how="left").with_row_index("rank", offset=1)
        if asked.isdigit():
            rows = rows.filter(pl.col("item") == int(asked))
        elif asked:
            rows = rows.filter(pl.col("title").str.to_lowercase().str.contains(asked.lower(), literal=True))
        if rows.is_empty():
            hints.nothing(f"No film with an event matches “{asked}”.")
            return
        cut = f"the {SHOWN} most popular of {rows.height:,}" if rows.height > SHOWN else f"{rows.height:,}"
        st.caption(f"Showing {cut}, the most popular first.")
        rows = rows.head(SHOWN)
        shown = rows.select("rank", "item", "title", "genres", "year", "events", "mean_rating", "first", "last")
        chosen = st.dataframe(
            shown,
            hide_index=True,
            height=300,
            column_config=COLUMNS,
            on_select="rerun",
            selection_mode="single-row",
            key="films",
        )
        place = chosen.selection.rows[0] if chosen.selection.rows and chosen.selection.rows[0] < rows.height else 0
        _film(rows.row(place, named=True), every, key)


def _film(film: dict[str, object], every: str, key: tuple[object, ...]) -> None:
    st.markdown(
        f"**{film['title'] or film['item']}** · {film['genres'] or 'no genre'} · popularity rank {film['rank']:,}"
    )
    times, stars = _one(int(str(film["item"])), every, *key)
    left, right = st.columns(2)
    with left:
        per = PERIODS[every]
        bars = times.with_columns(pl.lit("events").alias("kind"))
        figure = charts.stacked(bars, "date", "events", "kind", "", f"events per {per}", ["events"])
        charts.show(figure, "film-days", f"Bars: its events per {per}")
    with right:
        if stars.is_empty():
            st.caption("It has no ratings in this selection.")
            return
        names = [f"{value:g}" for value in stars["rating"]]
        charts.show(
            charts.bars(names, stars["ratings"].to_list(), "rating", "ratings"), "stars", "Bars: its ratings by value"
        )
