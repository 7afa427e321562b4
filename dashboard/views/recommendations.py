"""How people answer recommendations, in production and, by slices, in the evaluation."""

from datetime import timedelta

import polars as pl
import streamlit as st

from dashboard import charts, hints, models, tables
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from slipway.analytics import response
from slipway.analytics.selection import SEGMENTS, Selection
from slipway.errors import TrackingError
from slipway.workloads.movies import attribution

REQUESTS = 200_000
"""Answered requests that are looked at: a rate of 5 % is then known to 0.1 %."""

WINDOWS = {"1 hour": timedelta(hours=1), "1 day": timedelta(days=1), "7 days": timedelta(days=7)}
BY = ("package", "revision", "position", "source", *SEGMENTS)


def view(scope: Scope) -> None:
    exposures = tables.find("logs", scope.data_set, "exposures")
    if exposures is None:
        hints.missing(
            "No answered request was logged in this data set yet. Let simulated people ask:",
            "slipway simulate traffic --offline 28",
        )
    else:
        _production(scope, exposures)
    st.header("In the evaluation", anchor=False, divider="gray")
    _evaluation()


def _production(scope: Scope, exposures: Snapshot) -> None:
    left, right = st.columns([3, 1])
    by = (
        left.segmented_control("Split by", BY, default="package", key="by", bind="query-params", required=True)
        or "package"
    )
    window = right.segmented_control(
        "A reaction counts within", list(WINDOWS), default="1 day", key="within", bind="query-params", required=True
    )
    feedback = tables.find("logs", scope.data_set, "feedback")
    rows, share = _impressions(exposures, feedback, scope.users, scope.selection, WINDOWS[window or "1 day"])
    if rows.is_empty():
        hints.nothing("Nothing was shown in these days.")
        return
    _figures(rows, share)
    if feedback is None:
        hints.missing("Nobody reacted yet: there is no feedback.", "slipway simulate traffic --offline 28")
    lazy = rows.lazy().with_columns(pl.col(by).cast(pl.String).fill_null("unknown") if by != "position" else pl.col(by))
    sizes = response.rates(lazy, by).sort("shown", descending=True)
    with panel(
        "Click-through rate over time",
        "At most six values, those shown most; with up to three, the bands are 95 % intervals (Wilson).",
    ):
        top = sizes[by].head(6).sort().cast(pl.String).to_list()
        points = max(
            8, min(120 if len(top) <= 3 else 40, rows.height // (200 * len(top)))
        )  # fewer impressions a point are mostly noise
        step = response.grain(rows["event_timestamp"].min(), rows["event_timestamp"].max(), points)  # type: ignore[arg-type]
        moment = pl.col("event_timestamp").dt.truncate(step).alias("date")
        over = response.rates(lazy.filter(pl.col(by).cast(pl.String).is_in(top)), moment, pl.col(by).cast(pl.String))
        charts.show(charts.rates_over_time(over, by, top), "ctr", f"Lines: click-through rate by {by} over time")
    left, right = st.columns(2)
    with (
        left,
        panel(f"Click-through rate by {by}", "With 95 % intervals: bars whose intervals overlap may well be equal."),
    ):
        ordered = sizes.head(25).sort(by)
        charts.show(charts.rates(ordered, by, by), "ctr-by", f"Bars: click-through rate by {by}")
    with right:
        _speed(exposures, scope.selection)


@st.cache_resource(show_spinner="Joining what was shown with what was done …", max_entries=4)
def _impressions(
    exposures: Snapshot, feedback: Snapshot | None, users: Snapshot | None, selection: Selection, window: timedelta
) -> tuple[pl.DataFrame, int]:
    """One row per shown item, and one request in how many was looked at. Kept uncopied: frames are immutable."""
    shown = selection.users(selection.dates(exposures.scan()), users.scan() if users else None)
    count = shown.select(pl.len()).collect(engine="streaming").item()
    share = max(1, -(-count // REQUESTS))
    said = feedback.scan() if feedback else _nothing()
    later = Selection(selection.start, selection.end and selection.end + window + timedelta(days=1))
    said = later.dates(said)
    if share > 1:
        shown, said = (side.filter(pl.col("request_id").hash(seed=0) % share == 0) for side in (shown, said))
    if selection.actions:
        said = said.filter(pl.col("action").cast(pl.String).is_in(selection.actions))
    rows = attribution.label(shown, said, window).select(
        "event_timestamp", "user", "request_id", "position", "source", "package", "revision", "click", "seconds"
    )
    if users is not None:
        rows = rows.join(
            users.scan().select("user", *(pl.col(n).cast(pl.String) for n in SEGMENTS)), on="user", how="left"
        )
    else:
        rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in SEGMENTS)
    return rows.collect(engine="streaming"), share


def _nothing() -> pl.LazyFrame:
    kinds = {"event_id": pl.String, "request_id": pl.String, "user": pl.Int64, "item": pl.Int64}
    times = {"timestamp": pl.Datetime("us", "UTC"), "action": pl.String, "rating": pl.Float32, "date": pl.Date}
    return pl.LazyFrame(schema={**kinds, **times})


def _figures(rows: pl.DataFrame, share: int) -> None:
    clicks, columns = int(rows["click"].sum()), st.columns(5)
    answered = rows.group_by("request_id").agg(pl.col("click").max())["click"]
    seconds = rows["seconds"].drop_nulls().median()
    columns[0].metric(
        "Answers", charts.number(len(answered)), border=True, help="requests that were answered with items"
    )
    columns[1].metric("Items shown", charts.number(rows.height), border=True)
    columns[2].metric(
        "Clicks", f"{clicks:,}", border=True, help="items with a click, a rating or another positive action"
    )
    columns[3].metric("Click rate", f"{clicks / rows.height:.2%}", border=True, help="of the items shown")
    columns[4].metric("Answers with a click", f"{answered.mean() or 0:.1%}", border=True)
    sampled = f" Sample: one request in {share:,}." if share > 1 else ""
    after = f"Half of the clicks come within {seconds:,.0f} seconds." if isinstance(seconds, float) else ""
    if after or sampled:
        st.caption(after + sampled)


@st.cache_data(show_spinner=False, max_entries=32)
def _answers(exposures: Snapshot, selection: Selection) -> pl.DataFrame:
    return response.answers(selection.dates(exposures.scan()))


def _speed(exposures: Snapshot, selection: Selection) -> None:
    days = _answers(exposures, selection)
    fallen, requests = int(days["fallbacks"].sum()), int(days["requests"].sum())
    with panel(
        "How fast answers are",
        f"Time in the model server. {fallen / max(requests, 1):.1%} of the answers came from a fallback.",
    ):
        if days["p50"].null_count() == days.height:
            st.caption("None of these answers says how long it took: they come from a simulation without an endpoint.")
            return
        figure = charts.line(days, "date", {"p50": "median", "p99": "99th percentile"}, "", "milliseconds", unit=" ms")
        charts.show(figure, "speed", "Lines: median and 99th percentile of the answer time per day")


def _evaluation() -> None:
    try:
        judged = [run for run in models.runs() if run.gate]
    except TrackingError as error:
        hints.failed(error)
        return
    if not judged:
        hints.missing("No model was evaluated yet.", "slipway run")
        return
    named = {run.label: run for run in sorted(judged, key=lambda run: not run.aliases)}
    label = st.selectbox("Model", list(named), key="model", bind="query-params")
    run = named.get(label) or judged[0]
    found = models.evaluation(run.id)
    if found is None:
        hints.missing("This run kept no evaluation that this version can read.", "slipway run")
        return
    (st.success if run.gate == "admitted" else st.warning)(run.reason, icon=":material/gavel:")
    left, right = st.columns(2)
    metric = f"NDCG@{found.k}"
    with (
        left,
        panel(
            f"{metric} of each model",
            f"{found.protocol} split, {found.users:,} users, {found.cases:,} cases; 95 % intervals.",
        ),
    ):
        rows = [(row.model, row.intervals[found.primary]) for row in found.rows if found.primary in row.intervals]
        frame = pl.DataFrame(
            {
                "model": [name for name, _ in rows],
                "value": [i.value for _, i in rows],
                "low": [i.low for _, i in rows],
                "high": [i.high for _, i in rows],
            }
        ).sort("value")
        charts.show(charts.scores(frame, metric), "models", f"Bars: {metric} of each model")
    with (
        right,
        panel(f"{metric} by slice", "Where the model is better or worse; below each slice, its number of cases."),
    ):
        by = st.selectbox("Slice by", list(found.slices), key="slice", bind="query-params")
        parts = found.slices.get(by or "", ())
        if not parts:
            st.caption("This evaluation has no slices.")
            return
        names = [f"{part.label}<br>{part.cases:,}" for part in parts]
        series = [(name, [part.values.get(name) for part in parts]) for name in parts[0].values]
        charts.show(charts.grouped(series, names, by or "", metric), "slices", f"Bars: {metric} by {by}")
