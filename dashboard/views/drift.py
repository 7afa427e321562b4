"""How far features moved away from what the model was trained on."""

from datetime import date, timedelta

import polars as pl
import streamlit as st

from dashboard import charts, hints, tables
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from slipway.analytics import drift
from slipway.analytics.drift import Drift, Level
from slipway.analytics.selection import SEGMENTS, Selection

SAMPLED = 200_000
"""Rows a side: PSI's noise is then far below its thresholds."""

KEYS = ("user", "item", "event_timestamp", "created_timestamp", "date", "timestamp")
MARKS = {
    Level.MAJOR: ":material/error: major",
    Level.MODERATE: ":material/warning: moderate",
    Level.STABLE: ":material/check_circle: stable",
    Level.UNKNOWN: ":material/help: too few values",
}
EVENTS = "events"


def view(scope: Scope) -> None:
    if scope.events is None:
        hints.missing("This data set has no events yet.", "slipway ingest")
        return
    days = tables.facts(scope.events).days
    if len(days) < 2:
        hints.missing(
            "There is only one day of events: nothing to compare yet.", "slipway simulate traffic --offline 28"
        )
        return
    named = {EVENTS: scope.events} | {s.name: s for s in tables.of(scope.data_set, "features") if _moves(s)}
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        name = st.segmented_control(
            "Features of", list(named), default=EVENTS, key="of", bind="query-params", required=True
        )
    until, why = _trained_until(scope.data_set, days)
    first, last = days[0][0], days[-1][0]
    with right:
        chosen = st.date_input(
            "Trained on data until",
            until,
            min_value=first,
            max_value=last,
            format="YYYY-MM-DD",
            key=f"until-{scope.data_set}",
        )
    until = chosen if isinstance(chosen, date) else until
    st.caption(
        f"{why} Training snapshot: {first} to {until}. Now: the days after it"
        f"{f', up to {scope.selection.end}' if scope.selection.end else ''}."
    )
    if len(named) == 1:
        what = "Only the events' own columns so far; the feature tables are not built yet."
        hints.missing(what, "slipway etl")
    source = named.get(name or EVENTS, scope.events)
    found = _compare(source, scope.items, scope.users, until, scope.selection)
    if not found or not max(d.current_rows for d in found) or not max(d.reference_rows for d in found):
        hints.nothing(f"There is no row of {name} up to {until}, or none after it. Choose another day above.")
        return
    _bars(found)
    _one(found)


@st.cache_data(ttl=60, show_spinner=False)
def _trained_until(data_set: str, days: tuple[tuple[date, int], ...]) -> tuple[date, str]:
    """The last day that the newest pinned snapshot of the events holds, if there are newer days; else where the default
    temporal split stops training.
    """
    last, why = days[-1][0], "No training run has pinned a snapshot yet, so the first 85 % of the events stand for it."
    pinned = [s for s in tables.lake().snapshots(data_set) if (s.area, s.table) == ("processed", "events") and s.files]
    if pinned:
        newest = max(pinned, key=lambda s: s.created)
        taken = f"The newest training snapshot, {newest.id[:12]} of {newest.created:%Y-%m-%d},"
        end = date.fromisoformat(max(file.partition["date"] or "" for file in newest.files))
        if end < last:
            return end, f"{taken} ends there."
        last, why = (
            end,
            f"{taken} holds every event there is, so its first 85 %, which a model learns from, stand for it.",
        )
    total, seen, until = sum(rows for _, rows in days), 0, days[0][0]
    for day, rows in days[:-1]:
        until, seen = day, seen + rows
        if seen >= 0.85 * total:
            break
    return min(until, last - timedelta(days=1)), why


def _moves(snapshot: Snapshot) -> bool:
    """Whether its rows have times: a profile that was always so cannot drift. Examples are labels, not features."""
    newest = tables.facts(snapshot).newest
    return snapshot.name != "examples" and newest is not None and newest.year > 1970


def _rows(source: Snapshot, items: Snapshot | None, users: Snapshot | None) -> pl.LazyFrame:
    """A date, a user where there is one, and the columns that have a distribution."""
    rows = source.scan()
    if source.area == "processed":
        time = pl.col("timestamp")
        rows = rows.select(
            "date", "user", "item", "rating", pl.col("action").cast(pl.String),
            time.dt.hour().alias("hour of day"), time.dt.weekday().alias("weekday (1 = Monday)"),
        )  # fmt: skip
        if items is not None:
            film = items.scan().select("item", pl.col("genres").list.first().alias("first genre"), "year")
            rows = rows.join(film, on="item", how="left").with_columns(
                (pl.col("date").dt.year() - pl.col("year")).alias("age of the film (years)")
            )
            rows = rows.drop("year")
        if users is not None:
            rows = rows.join(users.scan().select("user", *SEGMENTS), on="user", how="left")
            rows = rows.rename({name: f"user's {name}" for name in SEGMENTS})
        return rows
    schema = rows.collect_schema()
    lists = [name for name, kind in schema.items() if isinstance(kind, pl.List | pl.Array)]
    return rows.with_columns(
        pl.col("event_timestamp").dt.date().alias("date"),
        *(pl.col(n).list.len().alias(f"length of {n}") for n in lists),
    )


@st.cache_data(show_spinner="Comparing distributions …", max_entries=32)
def _compare(
    source: Snapshot, items: Snapshot | None, users: Snapshot | None, until: date, selection: Selection
) -> list[Drift]:
    rows = _rows(source, items, users)
    schema = rows.collect_schema()
    if "user" in schema:
        rows = selection.users(rows, users.scan() if users else None)
    names = drift.comparable(schema, skip=KEYS)
    begin = max(filter(None, (selection.start, until + timedelta(days=1))))
    now = Selection(start=begin, end=selection.end)
    if source.area == "processed" and selection.actions:
        rows = rows.filter(pl.col("action").is_in(selection.actions))
    before, after = (_sampled(side.dates(rows).select(names)) for side in (Selection(end=until), now))
    found = drift.compare(before.drop("rating", strict=False), after.drop("rating", strict=False))
    if "rating" in names:  # of what was rated: how much was not is the action's matter
        found += drift.compare(*(side.select("rating").drop_nulls() for side in (before, after)))
    return sorted(found, key=lambda d: -d.psi if d.psi == d.psi else 1.0)


def _sampled(rows: pl.LazyFrame) -> pl.DataFrame:
    count = rows.select(pl.len()).collect(engine="streaming").item()
    return rows.gather_every(max(1, -(-count // SAMPLED))).collect(engine="streaming")


def _bars(found: list[Drift]) -> None:
    sampled = max(max(d.reference_rows, d.current_rows) for d in found) >= SAMPLED // 2
    note = f" Sample: at most {SAMPLED:,} rows a side, evenly spread." if sampled else ""
    worst = sum(d.level is Level.MAJOR for d in found)
    says = (
        f"{worst} of {len(found)} features changed in a major way." if worst else "No feature changed in a major way."
    )
    with panel(
        "How far each feature moved",
        f"{says} Below {drift.MODERATE:g} is stable, above {drift.MAJOR:g} is major.{note}",
    ):
        drawn = [d for d in found if d.psi == d.psi]
        names, values = [d.feature for d in drawn], [d.psi for d in drawn]
        figure = charts.psi(names, values, drift.MODERATE, drift.MAJOR)
        charts.show(figure, "psi", "Bars: PSI of each feature against the training snapshot")


def _one(found: list[Drift]) -> None:
    with panel("One feature, then and now"):
        names = [d.feature for d in found]
        name = st.selectbox("Feature", names, key="feature", bind="query-params")
        one = found[names.index(name)] if name in names else found[0]
        st.markdown(
            f"{MARKS[one.level]} · PSI **{one.psi:.3f}** · Jensen-Shannon divergence **{one.js:.3f}** "
            f"(0: equal, 1: disjoint) · {one.reference_rows:,} rows then, {one.current_rows:,} now"
        )
        charts.show(
            charts.sides(one.bins, one.reference, one.current, one.feature),
            "sides",
            f"Bars: {one.feature}, then and now",
        )
