"""The committed dashboards are those that the code draws, and every panel can be believed."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from deploy.grafana.rendering import render
from tests.architecture.source import ROOT
from tests.watching.dashboard_rules import base, drawn, wrong_with_dashboard, wrong_with_panel
from tests.watching.panels import FOLDER, NAMES, dashboard, panels, queries
from tests.watching.promql import catalogue

BY_NAME = pytest.mark.parametrize("name", NAMES)
GOALS = {
    ("guests.json", "Failed answers"): 0.001,
    ("guests.json", "Slowest holds"): 0.1,
    ("guests.json", "Holds answered within 100 ms"): 0.99,
    ("guests.json", "How long a hold takes"): 0.1,
    ("money.json", "Technical failures"): 0.001,
    ("money.json", "Dead events"): 1,
    ("money.json", "Events that wait"): 500,
    ("money.json", "How long events take"): 60,
    ("money.json", "News that waits"): 100,
    ("money.json", "Last comparison with Stripe"): 3600,
    ("processes.json", "How late the event loop wakes"): 0.1,
    ("processes.json", "Oldest transaction"): 300,
    ("sagas-and-locks.json", "Bookings that need a person"): 1,
    ("sagas-and-locks.json", "Rows that are untrue"): 1,
    ("sagas-and-locks.json", "Since invariants were checked"): 3600,
}
_ANSWERS = "http_server_request_duration_seconds"


def test_the_files_are_what_the_code_draws() -> None:
    """Whoever changes a dashboard in deploy/grafana draws it anew, and none is left behind; drawing it again changes nothing."""
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    fresh = render()
    assert sorted(committed) == sorted(fresh)
    assert [name for name in fresh if committed[name] != fresh[name]] == [], "draw them with `make dashboards`"
    assert render() == fresh


@BY_NAME
def test_a_dashboard_is_in_order(name: str) -> None:
    """Its settings, numbers, titles and places: fixed, no two the same, none upon another."""
    page = dashboard(name)
    assert page["uid"] == f"holdfast-{name.removesuffix('.json')}"
    assert list(wrong_with_dashboard(page)) == []


@BY_NAME
def test_every_panel_says_what_it_shows_and_asks_for_what_there_is(name: str) -> None:
    """A title, a question, what is normal, a unit, names of lines; metrics and labels that a service has, well put together."""
    assert [wrong for panel in panels(dashboard(name)) for wrong in wrong_with_panel(panel)] == []


def test_the_goals_are_drawn() -> None:
    """Where there is a promise, the panel shows its line, red on the bad side."""
    shown = {(name, panel["title"]): panel for name in NAMES for panel in panels(dashboard(name))}
    for where, goal in GOALS.items():
        steps = shown[where]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        colours = ["red", "green"] if where[1] == "Holds answered within 100 ms" else ["green", "red"]
        assert [(step["value"], step["color"]) for step in steps] == [(None, colours[0]), (goal, colours[1])], where


def test_every_metric_is_on_some_dashboard() -> None:
    """What is measured is looked at; a metric that nobody would miss should not be kept."""
    assert {base(sample) for sample in catalogue()} - drawn([dashboard(name) for name in NAMES]) == set()


def test_grafana_finds_the_dashboards_and_knows_how_often_we_are_scraped() -> None:
    """The folder is the one that the composition mounts, and the data source's interval is Prometheus's own."""
    [provider] = _yaml("deploy/grafana/provisioning/dashboards/holdfast.yml")["providers"]
    [source] = _yaml("deploy/grafana/provisioning/datasources/holdfast.yml")["datasources"]
    mounts = _yaml("docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert source["jsonData"]["timeInterval"] == _yaml("deploy/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert (source["uid"], source["isDefault"]) == ("prometheus", True)


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_queries_can_be_told_apart() -> None:
    """Whoever runs them against a real Prometheus can name the one that fails; all ranges are Grafana's to choose."""
    asked = queries()
    assert {name for name, _, _ in asked} == set(NAMES)
    assert len(set(asked)) == len(asked)
    assert sum("$__rate_interval" in expression for _, _, expression in asked) > len(asked) / 2


def _ask(expression: str, legend: str = "x") -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel["targets"][0].update(expr=expression, legendFormat=legend)


def _say(**words: Any) -> Callable[[dict[str, Any]], None]:
    return lambda panel: panel.update(words)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_ask("sum (reservation_stream_listenors)"), "no metric reservation_stream_listenors"),
        (_ask('sum (up{process="1"})'), "up has no label process"),
        (_ask("sum by (task) (db_client_connections)", "{{task}}"), "db_client_connections has no label task to keep"),
        (_ask("sum without (instance) (up)"), "up has no label without to keep"),
        (_ask("sum (up"), "no PromQL"),
        (_ask("sum (reservation_holds_total)"), "reservation_holds_total only ever grows"),
        (_ask(f"sum (rate({_ANSWERS}_count[$__interval]))"), "looks back over $__interval"),
        (_ask("reservation_stream_listeners"), "reservation_stream_listeners is not put together"),
        (_ask("sum (payment_webhooks_dead)"), "every process counts payment_webhooks_dead for all"),
        (_ask("sum by (job) (up)"), "lines differ in job"),
        (_ask("sum (up)", "{{job}}"), "the lines' name has job"),
        (_ask("sum (up)", ""), "a line has no name"),
        (_say(title=""), "no title"),
        (_say(description=None), "the description does not ask"),
        (_say(description="How many? Many."), "the description does not ask"),
        (_say(targets=[]), "asks nothing"),
        (_say(datasource={"type": "prometheus", "uid": "mine"}), "does not ask the data source"),
        (_say(fieldConfig={"defaults": {"min": 0}}), "no unit"),
        (_say(fieldConfig={"defaults": {"unit": "s"}}), "begins at 0 without need, or does not"),
        (lambda panel: panel["targets"].append(panel["targets"][0]), "two queries have one name"),
    ],
)
def test_a_spoilt_panel_is_noticed(spoil: Callable[[dict[str, Any]], None], complaint: str) -> None:
    """Each rule reports what breaks it, in a panel that was good before."""
    [panel] = [panel for panel in panels(dashboard("guests.json")) if panel["title"] == "Availability streams"]
    assert wrong_with_panel(panel) == []
    spoilt = copy.deepcopy(panel)
    spoil(spoilt)
    assert any(complaint in wrong for wrong in wrong_with_panel(spoilt)), wrong_with_panel(spoilt)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda page: page["panels"][2].update(id=page["panels"][1]["id"]), "two have the id 2"),
        (lambda page: page["panels"][2].update(title=page["panels"][1]["title"]), "two have the title Failed answers"),
        (lambda page: page["panels"][2]["gridPos"].update(x=3), "Failed answers and Slowest holds overlap"),
        (lambda page: page["panels"][4]["gridPos"].update(x=20), "Bookings confirmed is not on the grid"),
        (lambda page: page["panels"].pop(0), "first row"),
        (lambda page: page.update(refresh="5s"), "refresh is 5s"),
        (lambda page: page["templating"].update(list=[]), "variables is []"),
    ],
)
def test_a_spoilt_dashboard_is_noticed(spoil: Callable[[dict[str, Any]], Any], complaint: str) -> None:
    """Each rule about the whole reports what breaks it."""
    page = dashboard("guests.json")
    spoil(page)
    assert any(complaint in wrong for wrong in wrong_with_dashboard(page)), list(wrong_with_dashboard(page))


def test_a_metric_that_nobody_draws_is_noticed() -> None:
    """What is left out of every dashboard is missing, and `_count`, `_bucket` or `_total` is the same metric."""
    page = json.loads((FOLDER / "guests.json").read_text())
    assert "reservation_holds" in drawn([page])
    page["panels"] = [panel for panel in panels(page) if "reservation_holds_total" not in json.dumps(panel)]
    assert "reservation_holds" not in drawn([page])
    assert _ANSWERS in drawn([page])
