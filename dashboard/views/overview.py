"""What is there, how fresh it is, and what needs attention."""

from datetime import UTC, datetime, timedelta

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import charts, hints, live, models, tables
from dashboard.filters import Scope
from dashboard.panel import panel
from dashboard.tables import Facts, Snapshot
from slipway.analytics import activity, attention, response
from slipway.analytics.attention import Finding, Light
from slipway.analytics.selection import Selection
from slipway.errors import TrackingError

MARKS = {
    Light.PROBLEM: ":material/error: :red[**Problem**]",
    Light.WARNING: ":material/warning: :orange[**Look**]",
    Light.GOOD: ":material/check_circle: :green[**Good**]",
    Light.UNKNOWN: ":material/help: :gray[**Unknown**]",
}


def view(scope: Scope) -> None:
    found = [tables.facts(snapshot) for snapshot in tables.of(scope.data_set)]
    by_name = {(str(f.snapshot.area), f.snapshot.name): f for f in found}
    _figures(by_name)
    with panel("What needs attention", "The most urgent first, for all days: the filters do not apply here."):
        attended = st.empty()
        findings = [*_lake_findings(by_name), *_answer_findings(scope)]
        _findings(attended, [*findings, Finding("Newest model", Light.UNKNOWN, "asking MLflow …")])
    with panel("Right now", "From the metrics of what runs on this machine, every five seconds."):
        _live()
    _volumes(scope)
    _tables(found)
    left, right = st.columns(2)
    with left:
        _sizes()
    modelled = right.container()
    _ingested(scope, found)
    with modelled:  # last, because MLflow takes seconds to import: the page is there before
        _findings(attended, [*findings, _model()])


def _figures(by_name: dict[tuple[str, str], Facts]) -> None:
    shown = (
        ("Events", "processed", "events", "what users did: rows of processed/events"),
        ("Items", "processed", "items", "films in the catalogue"),
        ("Users", "processed", "users", "users with a profile"),
        ("Answers", "logs", "exposures", "answered recommendation requests"),
        ("Feedback", "logs", "feedback", "reactions to recommendations"),
        ("Rejected", "raw", "quarantine", "rows in quarantine, repaired ones included"),
    )
    for column, (label, area, name, about) in zip([*st.columns(3), *st.columns(3)], shown, strict=True):
        facts = by_name.get((area, name))
        says = f"{about}: {facts.rows:,}" if facts else f"{about}: none yet"
        column.metric(label, charts.number(facts.rows) if facts else "–", help=says, border=True)


@st.fragment(run_every=5)
def _live() -> None:
    stream, server = live.consumer(), live.server()
    if stream is None:
        hints.missing("No consumer of the stream is running.", "slipway ingest --source stream --follow")
    else:
        lag, rejected = (
            stream.quantile("slipway_stream_lag_seconds", 0.99),
            stream.by("slipway_stream_rejected_total", "reason"),
        )
        shown = (
            ("Messages", charts.number(stream.total("slipway_stream_messages_total")), "committed by the consumer"),
            ("Messages/s", f"{stream.total('slipway_stream_messages_per_second'):,.0f}", "over the last commits"),
            ("Lag, p99", "–" if lag is None else f"{lag:.2f} s", "from the stream to the lake and the online store"),
            ("Set aside", charts.number(sum(rejected.values())), ", ".join(rejected) or "none"),
        )
        for column, (label, value, about) in zip(st.columns(4), shown, strict=True):
            column.metric(label, value, help=about)
    if server is None:
        hints.missing("No model server answers.", "slipway up")
    else:
        p50, p99 = (server.quantile("slipway_request_seconds", share) for share in (0.5, 0.99))
        statuses = server.by("slipway_requests_total", "status")
        failed = sum(count for status, count in statuses.items() if not status.startswith("2") and status != "OK")
        shown = (
            ("Requests", charts.number(sum(statuses.values())), "answered by its servers since each started"),
            ("Median", "–" if p50 is None else f"{1000 * p50:.1f} ms", "from a request's headers to its answer"),
            ("p99", "–" if p99 is None else f"{1000 * p99:.1f} ms", "from a request's headers to its answer"),
            ("Refused or failed", charts.number(failed), ", ".join(sorted(statuses)) or "none"),
        )
        for column, (label, value, about) in zip(st.columns(4), shown, strict=True):
            column.metric(label, value, help=about)


def _findings(spot: DeltaGenerator, findings: list[Finding]) -> None:
    with spot.container():
        for finding in sorted(findings, key=lambda f: -f.light):
            light, words = st.columns([1, 6], vertical_alignment="center")
            light.markdown(MARKS[finding.light])
            words.markdown(f"**{finding.subject}**: {finding.says}")


def _lake_findings(by_name: dict[tuple[str, str], Facts]) -> list[Finding]:
    now, events = datetime.now(UTC), by_name.get(("processed", "events"))
    quarantine = by_name.get(("raw", "quarantine"))
    findings = [
        attention.written("Events", events.written if events else None, now, timedelta(days=1), timedelta(days=7)),
        attention.volume(events.days if events else ()),
        attention.rejected(_open(quarantine.snapshot) if quarantine else 0, events.rows if events else 0),
    ]
    # By the time of rows, since a write may add nothing; these two views have a row for each event.
    views = [by_name.get(("features", name)) for name in ("user_history", "user_statistics")]
    newest = events.newest if events else None
    stale = [v.snapshot.name for v in views if v and v.newest and newest and v.newest < newest]
    if stale:
        findings.append(
            Finding("Features", Light.WARNING, f"older than the newest event: {', '.join(stale)}; slipway etl")
        )
    return findings


@st.cache_data(show_spinner=False, max_entries=16)
def _open(quarantine: Snapshot) -> int:
    return int(quarantine.scan().filter(~pl.col("repaired")).select(pl.len()).collect().item())


@st.cache_data(show_spinner=False, max_entries=16)
def _answers(exposures: Snapshot) -> pl.DataFrame:
    return response.answers(exposures.scan())


def _answer_findings(scope: Scope) -> list[Finding]:
    exposures = tables.find("logs", scope.data_set, "exposures")
    if exposures is None:
        return []
    days = _answers(exposures)
    return [attention.fallbacks(int(days["fallbacks"].sum()), int(days["requests"].sum()))]


@st.cache_data(show_spinner="Counting events …", max_entries=64)
def _per_day(events: Snapshot, selection: Selection, users: Snapshot | None, every: str) -> pl.DataFrame:
    days = activity.per_day(selection.apply(events.scan(), users.scan() if users else None))
    return days.group_by(pl.col("date").dt.truncate(every), "action").agg(pl.col("events").sum()).sort("date")


def _volumes(scope: Scope) -> None:
    partial = "" if scope.every == "1d" else f"The first and the last {PERIODS[scope.every]} may be incomplete."
    with panel("Events over time", partial):
        if scope.events is None:
            hints.missing("This data set has no events yet.", "slipway ingest")
            return
        every = scope.every
        rows = _per_day(scope.events, scope.selection, scope.filtered_users, every)
        if rows.is_empty():
            hints.nothing("No event matches.")
            return
        sizes = rows.group_by("action").agg(pl.col("events").sum()).sort("events", descending=True)
        per = PERIODS[every]
        order, when = sizes["action"].to_list(), "" if every == "1d" else f"first day of the {per}"
        figure = charts.stacked(rows, "date", "events", "action", when, f"events per {per}", order)
        charts.show(figure, "volumes", f"Bars: events per {per} by action")


PERIODS = {"1d": "day", "1w": "week", "1mo": "month"}


def _tables(found: list[Facts]) -> None:
    with panel("Tables", "Each is a versioned Delta table; a training run names the version that it read."):
        rows = pl.DataFrame(
            [
                {
                    "table": f"{f.snapshot.area}/{f.snapshot.name}",
                    "rows": f.rows,
                    "size": charts.readable(f.size),
                    "files": f.files,
                    "version": f.snapshot.version,
                    "newest row": f.newest or (f.last and datetime.combine(f.last, datetime.min.time(), UTC)),
                    "written": f.written,
                }
                for f in found
            ],
            schema={
                "table": pl.String,
                "rows": pl.Int64,
                "size": pl.String,
                "files": pl.Int64,
                "version": pl.Int64,
                "newest row": pl.Datetime("ms", "UTC"),
                "written": pl.Datetime("ms", "UTC"),
            },
        )
        when = st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC")
        number = st.column_config.NumberColumn(format="localized")
        st.dataframe(
            rows,
            hide_index=True,
            column_config={"rows": number, "files": number, "newest row": when, "written": when},
            height="content",
        )


def _sizes() -> None:
    with panel("Size by area", "All data sets together; source files as they came are part of raw."):
        rows: dict[str, int] = {}
        for facts in (tables.facts(snapshot) for snapshot in tables.snapshots()):
            rows[facts.snapshot.area] = rows.get(facts.snapshot.area, 0) + facts.size
        files = sum(file.bytes for data_set in tables.data_sets() for file in tables.ingested(data_set))
        rows["raw"] = rows.get("raw", 0) + files
        ordered = sorted(rows.items(), key=lambda row: -row[1])
        names, values = [name for name, _ in ordered], [size for _, size in ordered]
        charts.show(charts.sizes(names, values), "sizes", "Bars: bytes per area of the lake")


def _model() -> Finding:
    """Draws the models' panel; returns what the newest one is worth saying above."""
    with panel("Newest models"):
        try:
            runs = models.runs()
        except TrackingError as error:
            hints.failed(error)
            return Finding("MLflow", Light.PROBLEM, f"{error.message} → {error.remedy}")
        if not runs:
            hints.missing("No model was trained yet.", "slipway run")
            return Finding("Newest model", Light.UNKNOWN, "no model was trained yet: slipway run")
        named = [run for run in runs if run.aliases]
        for run in [*named, *(run for run in runs[:1] if run not in named)]:
            what = ", ".join(run.aliases) if run.aliases else "newest run"
            verdict = {"admitted": ":green[admitted by the gate]", "refused": ":orange[refused by the gate]"}
            said = verdict.get(run.gate or "", run.status.lower())
            st.markdown(f"**{what.capitalize()}**: `{run.package or run.name}`, {said}, {run.started:%Y-%m-%d %H:%M}")
            if run.reason:
                st.caption(run.reason)
        return attention.gate(runs[0].gate, runs[0].reason)


def _ingested(scope: Scope, found: list[Facts]) -> None:
    number = st.column_config.NumberColumn(format="localized")
    when = st.column_config.DatetimeColumn("when", format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
    with panel("Source files", "What was ingested from files, the newest first; the same content is taken once."):
        files = tables.ingested(scope.data_set)[::-1]
        if not files:
            hints.missing("No file was ingested into this data set.", "slipway ingest --data FOLDER")
        else:
            rows = pl.DataFrame(
                [
                    {
                        "when": file.at,
                        "file": file.file,
                        "format": file.source,
                        "size": charts.readable(file.bytes),
                        "new events": file.events,
                        "known already": file.known,
                        "rejected": sum(file.quarantined.values()),
                    }
                    for file in files[:200]
                ]
            )
            kinds = {"when": when, "new events": number, "known already": number, "rejected": number}
            st.dataframe(rows, hide_index=True, column_config=kinds, height=min(38 + 36 * rows.height, 260))
    with panel("What was written when", "The newest commits of all tables of this data set."):
        parts = [
            tables.commits(f.snapshot).with_columns(pl.lit(f"{f.snapshot.area}/{f.snapshot.name}").alias("table"))
            for f in found
        ]
        if parts:
            newest = pl.concat(parts).sort("when", descending=True).head(30)
            rows = newest.select("when", "table", "operation", pl.col("rows").alias("rows added"), "version")
            st.dataframe(rows, hide_index=True, column_config={"when": when, "rows added": number}, height=260)
