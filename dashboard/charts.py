"""Figures from small frames: axes with titles and units, sorted, readable on white and black. Knows no lake.

Streamlit's theme gives fonts, grid and background, in light and dark; colours come from dashboard.theme.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard.theme import BLUE, GREY, ORANGE, RED, SCALE, SERIES

HEIGHT = 320
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def show(figure: go.Figure, key: str, alt: str, **events: Any) -> Any:
    """Draw it; alt: what a screen reader says."""
    return st.plotly_chart(figure, key=key, alt=alt, config={"displaylogo": False, "displayModeBar": False}, **events)


def _laid_out(figure: go.Figure, x: str, y: str, height: int = HEIGHT, legend: bool = True) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28 if legend else 12, "b": 8},
        xaxis={"title": x, "automargin": True},
        yaxis={"title": y, "automargin": True, "rangemode": "tozero", "tickformat": ","},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
        showlegend=legend,
        hovermode="closest",
        bargap=0.12,
    )
    return figure


def colours(names: Sequence[str]) -> dict[str, str]:
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}


def stacked(rows: pl.DataFrame, x: str, y: str, by: str, x_title: str, y_title: str, order: Sequence[str]) -> go.Figure:
    """Bars over time, one colour per value of `by`, in the given order from below."""
    figure, colour = go.Figure(), colours(order)
    for name in order:
        part = rows.filter(pl.col(by) == name)
        figure.add_bar(
            x=part[x].to_list(), y=part[y].to_list(), name=name, marker={"color": colour[name], "line": {"width": 0}},
            hovertemplate="%{x|%Y-%m-%d}: %{y:,.0f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    return _laid_out(figure, x_title, y_title, legend=len(order) > 1)


def shares(rows: pl.DataFrame, order: Sequence[str], x_title: str, y_title: str) -> go.Figure:
    """Stacked areas that add up to 100 %. rows: date, genre, share."""
    figure, colour = go.Figure(), colours(order)
    dates = rows["date"].unique().sort()
    for name in order:
        part = dates.to_frame().join(rows.filter(pl.col("genre") == name), on="date", how="left").fill_null(0)
        figure.add_scatter(
            x=part["date"].to_list(), y=part["share"].to_list(), name=name, stackgroup="all", mode="lines",
            line={"width": 0.5, "color": colour[name]},
            hovertemplate="%{x|%Y-%m-%d}: %{y:.1%}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure = _laid_out(figure, x_title, y_title)
    figure.update_yaxes(tickformat=".0%", range=[0, 1])
    return figure


def line(
    rows: pl.DataFrame,
    x: str,
    ys: dict[str, str],
    x_title: str,
    y_title: str,
    *,
    share: bool = False,
    unit: str = "",
    height: int = HEIGHT,
) -> go.Figure:
    """One line per column of ys (column → name); gaps where values are null."""
    figure = go.Figure()
    kind = "%{y:.1%}" if share else "%{y:,.5~g}" + unit
    at = "%{x|%Y-%m-%d}" if rows.schema[x] == pl.Date else "%{x}"
    for place, (column, name) in enumerate(ys.items()):
        dash = ("solid", "dot", "dash")[place % 3]
        figure.add_scatter(
            x=rows[x].to_list(), y=rows[column].to_list(), name=name,
            mode="lines+markers" if len(rows) <= 60 else "lines",
            line={"color": SERIES[place % len(SERIES)], "dash": dash, "width": 2}, marker={"size": 5},
            hovertemplate=f"{at}: {kind}<extra>{name}</extra>",
        )  # fmt: skip
    figure = _laid_out(figure, x_title, y_title, height=height, legend=len(ys) > 1)
    if share:
        figure.update_yaxes(tickformat=".0%")
    return figure


def heat(
    z: list[list[float | None]], x: Sequence[Any], y: Sequence[Any], x_title: str, y_title: str, legend: str,
    *, share: bool = False, height: int = HEIGHT,
) -> go.Figure:  # fmt: skip
    """z: (len(y), len(x)), first row on top; None is left blank."""
    value = "%{z:.0%}" if share else "%{z:,}"
    top = max((cell for row in z for cell in row if cell is not None), default=1) or 1
    figure = go.Figure(
        go.Heatmap(
            z=z, x=list(x), y=list(y), colorscale=SCALE, xgap=1, ygap=1, zmin=0, zmax=top,
            colorbar={
                "title": {"text": legend, "side": "right"}, "tickformat": ".0%" if share else "~s", "thickness": 12,
            },
            hovertemplate=f"%{{y}}, {x_title.lower()} %{{x}}: {value}<extra></extra>", hoverongaps=False,
        )
    )  # fmt: skip
    figure = _laid_out(figure, x_title, y_title, height=height, legend=False)
    figure.update_yaxes(autorange="reversed", rangemode="normal", type="category", showgrid=False)
    figure.update_xaxes(type="category", showgrid=False, tickangle=0)
    return figure


def bars(names: Sequence[str], values: Sequence[float], x_title: str, y_title: str, *, unit: str = "") -> go.Figure:
    """Upright bars in the given order."""
    figure = go.Figure(
        go.Bar(
            x=list(names),
            y=list(values),
            marker_color=BLUE,
            hovertemplate="%{x}: %{y:,.5~g}" + unit + "<extra></extra>",
        )
    )
    figure = _laid_out(figure, x_title, y_title, legend=False)
    figure.update_xaxes(type="category")
    return figure


def lorenz(rows: pl.DataFrame) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(
        x=rows["items"].to_list(), y=rows["events"].to_list(), name="this selection", line={"color": BLUE, "width": 3},
        hovertemplate="the first %{x:.0%} of the catalogue have %{y:.0%} of the events<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="if all films were equally popular", mode="lines",
        line={"color": GREY, "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip
    figure = _laid_out(figure, "share of the catalogue, most popular first", "share of the events")
    figure.update_xaxes(tickformat=".0%", range=[0, 1.01], dtick=0.25)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


CUT = 1.0
"""Bars of PSI end here: beyond it a feature has changed beyond recognition, and the thresholds must stay readable."""


def psi(names: Sequence[str], values: Sequence[float], moderate: float, major: float) -> go.Figure:
    """Lying bars, the greatest on top, with the two thresholds; the number beside each is the whole value."""
    colour = [RED if value >= major else ORANGE if value >= moderate else BLUE for value in values]
    pattern = ["/" if value >= major else "." if value >= moderate else "" for value in values]
    figure = go.Figure(
        go.Bar(
            x=[min(value, CUT) for value in values], y=list(names), orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern}}, customdata=list(values),
            text=[f"{value:.3f}{' →' if value > CUT else ''}" for value in values],
            textposition="outside", cliponaxis=False, hovertemplate="%{y}: PSI %{customdata:.3f}<extra></extra>",
        )
    )  # fmt: skip
    for at, name in ((moderate, f"moderate {moderate:g}"), (major, f"major {major:g}")):
        figure.add_vline(
            x=at, line={"color": GREY, "dash": "dash"}, annotation_text=name, annotation_position="top", layer="below"
        )
    height = max(180, 34 * len(names) + 90)
    figure = _laid_out(figure, "population stability index (PSI)", "", height=height, legend=False)
    figure.update_layout(margin={"t": 36})
    figure.update_yaxes(autorange="reversed", type="category", rangemode="normal")
    figure.update_xaxes(range=[0, min(max([*values, major]), CUT) * 1.15])
    return figure


def sides(bins: Sequence[str], reference: Sequence[float], current: Sequence[float], x_title: str) -> go.Figure:
    """Two distributions side by side."""
    figure = go.Figure()
    for name, values, colour, pattern in (("training snapshot", reference, GREY, "/"), ("now", current, BLUE, "")):
        figure.add_bar(
            x=list(bins), y=list(values), name=name, marker={"color": colour, "pattern": {"shape": pattern}},
            hovertemplate="%{x}: %{y:.1%}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group")
    figure = _laid_out(figure, x_title, "share of the rows")
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%")
    return figure


def rates(rows: pl.DataFrame, by: str, x_title: str) -> go.Figure:
    """Click-through rates with 95 % intervals. rows: <by>, ctr, low, high, shown."""
    figure = go.Figure(
        go.Bar(
            x=rows[by].cast(pl.String).to_list(), y=rows["ctr"].to_list(), marker_color=BLUE,
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 4, "color": GREY,
                "array": (rows["high"] - rows["ctr"]).to_list(), "arrayminus": (rows["ctr"] - rows["low"]).to_list(),
            },
            customdata=rows.select("shown", "low", "high").rows(),
            hovertemplate="%{x}: %{y:.2%}, 95 %% interval %{customdata[1]:.2%} – %{customdata[2]:.2%}, "
            "%{customdata[0]:,} shown<extra></extra>".replace("%%", "%"),
        )
    )  # fmt: skip
    figure = _laid_out(figure, x_title, "click-through rate", legend=False)
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".1%")
    return figure


def rates_over_time(rows: pl.DataFrame, by: str, order: Sequence[str]) -> go.Figure:
    """One line per value of `by`, the 95 % interval as a band. rows: date, <by>, ctr, low, high, shown."""
    figure, colour = go.Figure(), colours(order)
    for place, name in enumerate(order):
        part = rows.filter(pl.col(by) == name).sort("date")
        days, tint = part["date"].to_list(), colour[name]
        if len(order) <= 3:  # more of them hide each other
            figure.add_scatter(
                x=[*days, *days[::-1]], y=[*part["high"], *part["low"].reverse()],
                fill="toself", fillcolor=tint, opacity=0.15, line={"width": 0}, hoverinfo="skip", showlegend=False,
                legendgroup=name,
            )  # fmt: skip
        figure.add_scatter(
            x=days, y=part["ctr"].to_list(), name=name, legendgroup=name, mode="lines+markers",
            line={"color": tint, "dash": ("solid", "dot", "dash")[place % 3]}, marker={"size": 5},
            customdata=part["shown"].to_list(),
            hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:.2%} of %{customdata:,} shown<extra>" + name + "</extra>",
        )  # fmt: skip
    figure = _laid_out(figure, "", "click-through rate")
    figure.update_yaxes(tickformat=".1%")
    return figure


def grouped(
    rows: Sequence[tuple[str, Sequence[float | None]]], x: Sequence[str], x_title: str, y_title: str
) -> go.Figure:
    """One group of bars per x, one colour per row (name, values)."""
    figure, colour = go.Figure(), colours([name for name, _ in rows])
    for name, values in rows:
        figure.add_bar(
            x=list(x), y=list(values), name=name, marker_color=colour[name],
            hovertemplate="%{x}: %{y:.4f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group")
    figure = _laid_out(figure, x_title, y_title)
    figure.update_xaxes(type="category")
    return figure


def scores(rows: pl.DataFrame, metric: str) -> go.Figure:
    """Lying bars with 95 % intervals, the best on top. rows: model, value, low, high."""
    texts = [f"{value:.4f}" for value in rows["value"]]
    figure = go.Figure(
        go.Bar(
            x=rows["value"].to_list(), y=rows["model"].to_list(), orientation="h", marker_color=BLUE, text=texts,
            textposition="inside", insidetextanchor="start", hovertemplate="%{y}: %{x:.4f}<extra></extra>",
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 4, "color": GREY,
                "array": (rows["high"] - rows["value"]).to_list(),
                "arrayminus": (rows["value"] - rows["low"]).to_list(),
            },
        )
    )  # fmt: skip
    figure = _laid_out(figure, metric, "", height=HEIGHT + 60, legend=False)
    figure.update_yaxes(type="category", rangemode="normal")
    return figure


def sizes(names: Sequence[str], values: Sequence[float]) -> go.Figure:
    """Bytes as lying bars, the greatest on top."""
    figure = go.Figure(
        go.Bar(
            x=list(values), y=list(names), orientation="h", marker_color=BLUE, text=[readable(v) for v in values],
            textposition="outside", cliponaxis=False, hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure = _laid_out(figure, "size on disk", "", height=max(160, 34 * len(names) + 70), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", rangemode="normal")
    figure.update_xaxes(showticklabels=False, range=[0, max([*values, 1]) * 1.25])
    return figure


def readable(size: float) -> str:
    """Bytes in the unit in which people say them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def number(count: float) -> str:
    """A count that fits on a tile: 99,999, then 231.6 k, 25.0 M."""
    for limit, divisor, unit in ((1e5, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M"), (float("inf"), 1e9, " G")):
        if count < limit:
            return f"{count:,.0f}" if divisor == 1 else f"{count / divisor:,.1f}{unit}"
    raise AssertionError
