"""The few kinds of panel that all dashboards are made of. Knows Grafana's builders and no metric."""

from dataclasses import dataclass
from typing import Self

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24  # columns of Grafana's grid
EVERY = "$__rate_interval"  # at least four scrapes wide, whatever is zoomed to

SECONDS, SHARE, RATE, BYTES, NUMBER = "s", "percentunit", "reqps", "bytes", "short"


@dataclass(frozen=True)
class Query:
    """PromQL and what a line of it is called: `{{label}}` is its label's value."""

    expr: str
    legend: str = ""


def lines(
    title: str, about: str, unit: str, *queries: Query, width: int = 8, top: float | None = None
) -> timeseries.Panel:
    """Values over time. about: what is good, what is bad, in a sentence. top: where a reader should begin to worry."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .min(0)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if top is not None:
        panel = panel.thresholds(_steps(top)).thresholds_style(common.GraphThresholdsStyleConfig().mode("dashed"))
    for number, query in enumerate(queries):
        panel = panel.with_target(_target(query, number))
    return panel


def figure(title: str, about: str, unit: str, query: Query, width: int = 4, top: float | None = None) -> stat.Panel:
    """One number, as it is now; red from top on."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(_last())
        .no_value("–")
        .with_target(_target(query, 0))
    )
    return panel if top is None else panel.thresholds(_steps(top))


def bars(title: str, about: str, unit: str, query: Query, width: int = 8) -> bargauge.Panel:
    """One bar per line of the answer, as it is now."""
    target = _target(query, 0).instant()
    panel = bargauge.Panel().title(title).description(about).datasource(SOURCE).unit(unit).span(width).height(8)
    return panel.reduce_options(_last()).min(0).no_value("–").with_target(target)


def rows(title: str, about: str, query: Query, width: int = WIDTH) -> table.Panel:
    """The labels of what is there now."""
    target = _target(query, 0).instant().format(PromQueryFormat.TABLE)
    return table.Panel().title(title).description(about).datasource(SOURCE).span(width).height(7).with_target(target)


class Board:
    """A dashboard in the making: variables first, then rows of panels from top to bottom."""

    def __init__(self, name: str, title: str, about: str) -> None:
        self._builder = (
            build.Dashboard(f"Slipway: {title}")
            .uid(f"slipway-{name}")
            .description(about)
            .tags(["slipway"])
            .editable()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .refresh("30s")
            .time("now-6h", "now")
            .timezone("utc")
            .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
            .link(build.DashboardLink("Slipway").tags(["slipway"]).as_dropdown(True).include_vars(True).keep_time(True))
        )

    def choose(self, name: str, label: str, query: str, many: bool = True) -> Self:
        """A variable whose values are an answer of Prometheus; all of them at first."""
        variable = (
            build.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
        if many:
            variable = variable.multi(True).include_all(True).all_value(".*")
        self._builder = self._builder.with_variable(variable)
        return self

    def row(self, title: str, *panels: timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel) -> Self:
        self._builder = self._builder.with_row(build.Row(title))
        for panel in panels:
            self._builder = self._builder.with_panel(panel)
        return self

    def build(self) -> Dashboard:
        board = self._builder.build()
        for number, panel in enumerate(board.panels or [], start=1):
            panel.id_val = number  # links to a panel hold as long as the order does
        return board


def _target(query: Query, number: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(SOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _steps(top: float) -> build.ThresholdsConfig:
    steps = [Threshold(value=None, color="green"), Threshold(value=top, color="red")]
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
