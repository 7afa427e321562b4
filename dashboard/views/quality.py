"""What was rejected, when, where and why, down to the rows; and what the tables' suites say."""

from datetime import date

import polars as pl
import streamlit as st
from streamlit.components.v1 import html as frame

from dashboard import charts, hints, tables
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Snapshot
from slipway import workload
from slipway.analytics import quarantine
from slipway.analytics.selection import Selection
from slipway.settings import settings
from slipway.validation.report import Report

ROWS = 200
"""Rejected rows on the page."""


def view(scope: Scope) -> None:
    snapshot = tables.find("raw", scope.data_set, "quarantine")
    if snapshot is None:
        st.success("Nothing was ever rejected in this data set.", icon=":material/check_circle:")
        st.caption("Rows that break a rule come here with their reason, from files and from the stream.")
    else:
        _quarantine(scope, snapshot)
    st.header("Expectations", anchor=False, divider="gray")
    _expectations(scope)


MARKS = {"failed": "✗ failed", "warned": "! warned", "passed": "✓ passed", "skipped": "– skipped"}


@st.cache_data(show_spinner="Checking every table …", max_entries=8)
def _reports(data_set: str, of: tuple[Snapshot, ...]) -> list[Report]:  # noqa: ARG001 - a key of the cache
    """of: the tables' versions, so that an unchanged lake is checked once."""
    return workload.load("movies").validate(tables.lake(), data_set, lambda *_: None)


def _expectations(scope: Scope) -> None:
    st.caption(
        "Each table has a suite of rules. A broken hard rule stops the ETL pipeline; a soft one warns. "
        "`slipway data validate` says the same on the command line."
    )
    if scope.events is None:
        hints.missing("There are no events to check yet.", "slipway ingest")
        return
    asked = f"checked-{scope.data_set}"
    if st.button("Check all tables now", icon=":material/rule:"):
        st.session_state[asked] = True
    if st.session_state.get(asked):
        _show(_reports(scope.data_set, tuple(tables.of(scope.data_set))))
    _past()


def _show(reports: list[Report]) -> None:
    ordered = sorted(reports, key=lambda report: (report.passed, not report.warned, report.suite))
    with panel("The lake now", f"{sum(report.passed for report in reports)} of {len(reports)} suites hold."):
        words = [
            {
                "result": MARKS["failed" if not r.passed else "warned" if r.warned else "passed"],
                "suite": r.suite,
                "rows": r.rows,
                "broken": ", ".join(check.name for check in r.failures) or "–",
                "warnings": ", ".join(check.name for check in r.warnings) or "–",
            }
            for r in ordered
        ]
        number = st.column_config.NumberColumn("rows", format="localized")
        st.dataframe(pl.DataFrame(words), hide_index=True, height="content", column_config={"rows": number})
    for report in ordered:
        for check in (*report.failures, *report.warnings):
            with st.expander(f"{MARKS[check.status]} · {report.suite} · {check.name}: {check.message}"):
                if check.examples:
                    st.dataframe(pl.DataFrame(list(check.examples)), hide_index=True)
                else:
                    st.caption("A figure of the whole table, so no single row is to blame.")


def _past() -> None:
    """Pages that the pipeline's validate step wrote on this machine; on a cluster, Kubeflow's own page has them."""
    pages = {path.parts[-3]: path for path in sorted(settings().home.glob("runs/*/validate/report"), reverse=True)}
    with panel(
        "Reports of past runs", "As the ETL pipeline's step `validate` wrote them on this machine, newest first."
    ):
        if not pages:
            hints.missing("No pipeline has validated this lake yet.", "slipway etl")
            return
        name = st.selectbox("Run", list(pages), index=None, placeholder="choose a run", key="report")
        if name in pages:
            frame(pages[name].read_text("utf-8"), height=700, scrolling=True)


@st.cache_data(show_spinner="Counting rejected rows …", max_entries=64)
def _counts(snapshot: Snapshot, selection: Selection, by: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = selection.dates(snapshot.scan(), "day")
    return quarantine.per_day(rows, by), quarantine.totals(rows)


@st.cache_data(show_spinner=False, max_entries=64)
def _rows(
    snapshot: Snapshot, selection: Selection, reasons: tuple[str, ...], sources: tuple[str, ...], day: date | None
) -> pl.DataFrame:
    rows = quarantine.selected(selection.dates(snapshot.scan(), "day"), reasons, sources)
    return quarantine.newest(rows, ROWS, day)


def _quarantine(scope: Scope, snapshot: Snapshot) -> None:
    selection = _days(scope, snapshot)
    by = st.segmented_control(
        "Colour by", ["reason", "source"], default="reason", key="colour", bind="query-params", required=True
    )
    days, totals = _counts(snapshot, selection, by or "reason")
    if totals.is_empty():
        hints.nothing("Nothing was rejected in these days.")
        return
    _figures(scope, totals)
    with panel(f"Rejected rows by {by}", "Click on a bar to see that day's rows below."):
        sizes = days.group_by(by).agg(pl.col("rows").sum()).sort("rows", descending=True)[by].to_list()
        days, order = _few(days, by, sizes)
        figure = charts.stacked(days, "day", "rows", by, "day of rejection", "rejected rows", order)
        if days["day"].n_unique() <= 31:
            figure.update_xaxes(type="category")
        chosen = charts.show(
            figure, "rejected", f"Bars: rejected rows per day by {by}", on_select="rerun", selection_mode="points"
        )
    points = chosen.selection.points
    day = date.fromisoformat(str(points[0]["x"])[:10]) if points else None
    _totals(totals)
    _drill(snapshot, selection, totals, day)


def _days(scope: Scope, snapshot: Snapshot) -> Selection:
    facts = tables.facts(snapshot)
    if facts.first is None or facts.last is None:
        return Selection()
    chosen = st.date_input(
        "Rejected between (first and last day)",
        value=(facts.first, facts.last),
        min_value=facts.first,
        max_value=facts.last,
        format="YYYY-MM-DD",
        key=f"rejected-{scope.data_set}",
        help="A row is rejected when it comes in, not when its event happened: so this page has days of its own.",
        width=320,
    )
    both = chosen if isinstance(chosen, tuple) else (chosen,)
    return Selection(start=both[0], end=both[-1]) if both else Selection()


def _few(days: pl.DataFrame, by: str, sizes: list[str], most: int = 6) -> tuple[pl.DataFrame, list[str]]:
    """The most frequent keep their names; a colour for each of thirty files would say nothing."""
    if len(sizes) <= most + 1:
        return days, sizes
    kept = sizes[:most]
    named = pl.when(pl.col(by).is_in(kept)).then(pl.col(by)).otherwise(pl.lit("others")).alias(by)
    return days.with_columns(named).group_by("day", by).agg(pl.col("rows").sum()).sort("day"), [*kept, "others"]


def _figures(scope: Scope, totals: pl.DataFrame) -> None:
    bad, repaired = int(totals["rows"].sum()), int(totals["repaired"].sum())
    good = tables.facts(scope.events).rows if scope.events else 0
    columns = st.columns(4)
    columns[0].metric("Rejected rows", f"{bad:,}", border=True)
    columns[1].metric("Repaired since", f"{repaired:,}", border=True, help="replayed: slipway data replay")
    columns[2].metric("Reasons", f"{totals['reason'].n_unique():,}", border=True)
    columns[3].metric(
        "Of all rows", f"{(bad - repaired) / max(bad - repaired + good, 1):.2%}", border=True,
        help="rejected and not repaired, against all events that were accepted",
    )  # fmt: skip


def _totals(totals: pl.DataFrame) -> None:
    with panel("By source and reason"):
        number = st.column_config.NumberColumn(format="localized")
        when = st.column_config.DatetimeColumn("last", format="YYYY-MM-DD HH:mm", timezone="UTC")
        st.dataframe(
            totals.select("source", "reason", "rows", "repaired", "last"),
            hide_index=True,
            height=min(38 + 36 * totals.height, 260),
            column_config={"rows": number, "repaired": number, "last": when},
        )


def _drill(snapshot: Snapshot, selection: Selection, totals: pl.DataFrame, day: date | None) -> None:
    with panel(
        f"The rows themselves{f', of {day}' if day else ''}",
        "As they came. Repair and replay them: `slipway data replay`.",
    ):
        left, right = st.columns(2)
        reasons = left.multiselect(
            "Reasons",
            sorted(totals["reason"].unique()),
            key="reasons",
            bind="query-params",
            placeholder="all",
            select_all=False,
        )
        sources = right.multiselect(
            "Sources",
            sorted(totals["source"].unique()),
            key="sources",
            bind="query-params",
            placeholder="all",
            select_all=False,
        )
        rows = _rows(snapshot, selection, tuple(reasons), tuple(sources), day)
        if rows.is_empty():
            hints.nothing("No rejected row matches.")
            return
        st.caption(f"The newest {rows.height:,} rows." if rows.height == ROWS else f"{rows.height:,} rows.")
        text = st.column_config.TextColumn("text, as it came", width="large")
        when = st.column_config.DatetimeColumn("rejected", format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
        st.dataframe(rows, hide_index=True, height=320, column_config={"rejected_at": when, "text": text})
