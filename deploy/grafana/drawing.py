"""Turns a dashboard as plain data into Grafana's own, with the builders of Grafana's library."""

from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as parts

from deploy.grafana.panels import Colour, Dashboard, Goal, Kind, Meaning, Panel, Query, Row

_Drawn: TypeAlias = timeseries.Panel | stat.Panel | statetimeline.Panel
_TAG = "holdfast"
_GRID_WIDTH = 24
_HEIGHTS = {Kind.LINES: 8, Kind.FIGURE: 5, Kind.STATES: 8}
_REF_IDS = "ABCDEFGH"
_SOURCE = parts.DataSourceRef(type_val="prometheus", uid="${datasource}")


def draw(page: Dashboard) -> parts.Dashboard:
    """Return the dashboard with everything on its place; the same data gives the same dashboard."""
    drawn = (
        dashboard.Dashboard(page.title)
        .uid(f"holdfast-{page.name}")
        .description(page.purpose)
        .tags([_TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(parts.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus").label("Data source"))
        .link(_to_the_others())
    )
    number = 0
    for row in page.rows:
        number = _add_row(drawn, row, number)
    return drawn.build()


def _to_the_others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Holdfast")
        .type(parts.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .keep_time(keep_time=True)
        .include_vars(include_vars=True)
    )


def _add_row(drawn: dashboard.Dashboard, row: Row, number: int) -> int:
    """Add a headline and the panels below it, numbered from `number` on; returns the last number given."""
    drawn.with_row(dashboard.Row(row.title).id(number := number + 1))
    for panel in row.panels:
        drawn.with_panel(_drawn(panel).id(number := number + 1).span(_GRID_WIDTH // row.columns))
    return number


def _drawn(panel: Panel) -> _Drawn:
    drawn = _blank(panel.kind)
    drawn.title(panel.title).description(f"{panel.question} Normal: {panel.normal}")
    drawn.datasource(_SOURCE).unit(panel.unit).height(_HEIGHTS[panel.kind])
    drawn.targets([_target(query, _REF_IDS[place]) for place, query in enumerate(panel.queries)])
    if panel.from_zero:
        drawn.min(0)
    if panel.meanings:
        drawn.mappings([_mapping(panel.meanings)])
    drawn.thresholds(_thresholds(panel.goal))
    if panel.goal and isinstance(drawn, timeseries.Panel):
        drawn.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED))
    return drawn


def _blank(kind: Kind) -> _Drawn:
    """Return an empty panel of this kind, with the looks that all of its kind have."""
    legend = (
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    if kind is Kind.FIGURE:
        latest = common.ReduceDataOptions().calcs(["lastNotNull"])
        return stat.Panel().reduce_options(latest).graph_mode(looks.BigValueGraphMode.AREA)
    if kind is Kind.STATES:
        return statetimeline.Panel().show_value(looks.VisibilityMode.AUTO).legend(legend)
    tooltip = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)
    return timeseries.Panel().legend(legend).tooltip(tooltip).fill_opacity(8)


def _target(query: Query, ref_id: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend)
        .ref_id(ref_id)
        .range()
        .datasource(_SOURCE)
    )


def _mapping(meanings: tuple[tuple[int, Meaning], ...]) -> parts.ValueMap:
    return parts.ValueMap(
        {str(number): parts.ValueMappingResult(meaning.word, meaning.colour) for number, meaning in meanings}
    )


def _thresholds(goal: Goal | None) -> dashboard.ThresholdsConfig:
    """Colour what is beyond the goal; the first step has no number, since it begins at minus infinity."""
    steps = [parts.Threshold(None, Colour.WELL)]
    if goal:
        below, above = (Colour.ALARMED, Colour.WELL) if goal.at_least else (Colour.WELL, Colour.ALARMED)
        steps = [parts.Threshold(None, below), parts.Threshold(goal.value, above)]
    return dashboard.ThresholdsConfig().mode(parts.ThresholdsMode.ABSOLUTE).steps(steps)
