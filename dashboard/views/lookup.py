"""One user: profile, online features, history, and what was recommended beside what was clicked."""

from datetime import UTC, datetime, timedelta

import polars as pl
import streamlit as st

from dashboard import hints, tables
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from dashboard.views import catalogue
from slipway.analytics.attention import ago
from slipway.errors import SlipwayError
from slipway.workloads.movies import attribution

RECENT = 20
"""Answers that are shown."""

LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)
"""As of then nothing is too old: so what the endpoint no longer uses is seen, too."""

COLUMNS = {
    "when": st.column_config.DatetimeColumn("when", format="YYYY-MM-DD HH:mm", timezone="UTC", width=118),
    "title": st.column_config.TextColumn("title", width=185),
    "rating": st.column_config.NumberColumn("rating", format="%.1f", width=55),
    "position": st.column_config.NumberColumn("#", help="position in the answer, 1 = shown first", width=35),
    "clicked": st.column_config.CheckboxColumn("clicked", width=60),
    "action": st.column_config.TextColumn("action", width=70),
}


def view(scope: Scope) -> None:
    if scope.events is None:
        hints.missing("This data set has no events yet.", "slipway ingest")
        return
    asked = st.text_input(
        "User id", key="user", bind="query-params", placeholder=f"for example: {_somebody(scope.events)}"
    )
    asked = asked.strip() or str(_somebody(scope.events))
    if not asked.lstrip("-").isdigit() or abs(int(asked)) >= 2**63:
        st.warning(f"“{asked}” is no user id: ids are whole numbers.", icon=":material/error:")
        return
    user = int(asked)
    titles = (
        catalogue.titles(scope.items) if scope.items else pl.DataFrame(schema={"item": pl.Int64, "title": pl.String})
    )
    st.subheader(f"User {user}", anchor=False)
    st.caption("The filters of days, actions and users do not apply here: all that is known of this user is shown.")
    left, right = st.columns(2)
    with left:
        _profile(scope.users, user)
    online = right.container()
    left, right = st.columns(2)
    with left:
        _history(scope.events, user, titles)
    with right:
        _answers(scope.data_set, user, titles)
    with online:  # last, because Feast takes seconds to import: the page is there before
        _online(scope.data_set, user, titles)


@st.cache_data(show_spinner=False, max_entries=16)
def _somebody(events: Snapshot) -> int:
    """A user of the newest day with the most events on it."""
    last = tables.facts(events).last
    day = events.scan().filter(pl.col("date") == last) if last else events.scan()
    found = day.group_by("user").len().sort(["len", "user"], descending=[True, False]).head(1).collect()
    return int(found["user"][0]) if found.height else 1


@st.cache_data(show_spinner=False, max_entries=64)
def _of_user(snapshot: Snapshot, user: int) -> pl.DataFrame:
    return snapshot.scan().filter(pl.col("user") == user).collect(engine="streaming")


def _profile(users: Snapshot | None, user: int) -> None:
    if users is None:
        return
    rows = _of_user(users, user)
    with panel("Profile"):
        if rows.is_empty():
            st.caption("This user has no profile.")
            return
        known = rows.row(0, named=True)
        for column, name in zip(st.columns(4), ("gender", "age", "occupation", "zip"), strict=True):
            column.metric(name.capitalize(), str(known.get(name) if known.get(name) is not None else "–"))


def _history(events: Snapshot, user: int, titles: pl.DataFrame) -> None:
    with panel("History in the lake", "What this user did, the newest first."):
        rows = _of_user(events, user).sort("timestamp", descending=True)
        if rows.is_empty():
            st.caption("This user never did anything in this data set.")
            return
        named = rows.join(titles.select("item", "title"), on="item", how="left", maintain_order="left")
        st.caption(f"{rows.height:,} events, {rows['item'].n_unique():,} films, {rows['date'].n_unique():,} days.")
        shown = named.select(pl.col("timestamp").alias("when"), "title", "action", "rating", "item").head(500)
        st.dataframe(shown, hide_index=True, height=420, column_config=COLUMNS)


@st.cache_resource(ttl=300, show_spinner="Opening the feature store …")
def _store(data_set: str) -> object:
    from slipway.features.online import OnlineStore

    return OnlineStore.open(data_set=data_set)


def _online(data_set: str, user: int, titles: pl.DataFrame) -> None:
    with panel("Online features", "What the endpoint knows of this user at this moment, from the feature store."):
        command = "feast -c feature_repo materialize-incremental $(date -u +%Y-%m-%dT%H:%M:%S)"
        try:
            store = _store(data_set)
            (used,) = store.read_users([user])  # type: ignore[attr-defined]
            (row,) = store.read_users([user], now=LONG_AGO)  # type: ignore[attr-defined]
        except SlipwayError as error:
            hints.failed(error)
            hints.missing("The online store is filled by:", command)
            return
        if row.fresh_at is None:
            hints.missing("The online store does not know this user. It is filled by the stream, or by:", command)
            return
        age = ago(datetime.now(UTC) - row.fresh_at)
        st.markdown(f"Newest event: {row.fresh_at:%Y-%m-%d %H:%M:%S} ({age} ago).")
        if row.statistics:
            _too_old("statistics", used.statistics)
            words = [(name.replace("_", " "), _said(value)) for name, value in sorted(row.statistics.items())]
            st.dataframe(
                pl.DataFrame(words, schema=["feature", "value"], orient="row"), hide_index=True, height="content"
            )
        if row.history:
            _too_old("history", used.history)
        past = pl.DataFrame({"item": row.items, "when": row.times}).with_columns(
            pl.col("when").cast(pl.Datetime("ms", "UTC"))
        )
        st.caption(f"History of {past.height} films, the newest first.")
        named = past.reverse().join(titles.select("item", "title"), on="item", how="left", maintain_order="left")
        st.dataframe(named.select("when", "title", "item"), hide_index=True, height=180, column_config=COLUMNS)


def _too_old(what: str, used: object) -> None:
    if used is None:
        st.caption(
            f":material/timer_off: These {what} are older than their time to live: the endpoint does not use them."
        )


def _said(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:,.2f}" if isinstance(value, float) else "–" if value is None else str(value)


def _answers(data_set: str, user: int, titles: pl.DataFrame) -> None:
    with panel("Recommended, and clicked", f"The last {RECENT} answers of the endpoint to this user."):
        exposures, feedback = (tables.find("logs", data_set, name) for name in ("exposures", "feedback"))
        if exposures is None:
            hints.missing("No answered request was logged yet.", "slipway simulate traffic --offline 28")
            return
        asked = _of_user(exposures, user).sort("timestamp", descending=True).head(RECENT)
        if asked.is_empty():
            st.caption("This user was never answered.")
            return
        said = _of_user(feedback, user) if feedback else pl.DataFrame(schema=FEEDBACK)
        rows = (
            attribution.label(asked.lazy(), said.lazy(), timedelta(days=7))
            .sort(["event_timestamp", "request_id", "position"], descending=[True, False, False])
            .collect()
            .join(titles.select("item", "title"), on="item", how="left", maintain_order="left")
        )
        answers, clicks = rows["request_id"].n_unique(), int(rows["click"].sum())
        st.caption(f"Answers: {answers}. Items clicked within 7 days: {clicks} of {rows.height}.")
        at, clicked = pl.col("event_timestamp").alias("when"), (pl.col("click") == 1).alias("clicked")
        shown = rows.select("position", "title", clicked, at, "rating", "source", "package")
        st.dataframe(shown, hide_index=True, height=420, column_config=COLUMNS)


FEEDBACK = {
    "event_id": pl.String,
    "request_id": pl.String,
    "user": pl.Int64,
    "item": pl.Int64,
    "timestamp": pl.Datetime("us", "UTC"),
    "action": pl.String,
    "rating": pl.Float32,
}
