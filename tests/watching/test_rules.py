"""Every alert asks for what our services have, says what is wrong, and leads to a page that says what to do."""

import re

import pytest
import yaml

from tests.architecture.source import ROOT
from tests.architecture.test_docs_links import anchors
from tests.watching.prometheus import quick
from tests.watching.promql import selectors, unknown_to_us
from tests.watching.rules import SEVERITIES, Alert, alerts, files, recorded

ALERTS = alerts()
_RUNBOOK = (ROOT / "docs/runbook/index.md").read_text()
_SECTION = re.compile(r"^## (?P<title>.+)\n+(?:Alerts?: (?P<alerts>.+)\n)?", re.MULTILINE)


def called(runbook: str) -> set[tuple[str, str]]:
    """Return which alerts the sections of a runbook say they are for: (anchor, alert)."""
    return {
        (anchor, name)
        for section in _SECTION.finditer(runbook)
        for anchor in anchors(f"## {section['title']}\n")
        for name in re.findall(r"`(\w+)`", section["alerts"] or "")
    }


@pytest.mark.parametrize("name", [*(alert.name for alert in ALERTS), *recorded()])
def test_a_rule_asks_for_what_there_is(name: str) -> None:
    """A metric or label that no service has would make it silent for ever."""
    expressions = recorded() | {alert.name: alert.expression for alert in ALERTS}
    assert unknown_to_us(expressions[name], also=frozenset(recorded())) == []


def test_a_rule_that_asks_for_nothing_is_noticed() -> None:
    """A name, a label and a recording rule with a slip in them; and what is no PromQL at all."""
    slips = ("payment_operation_total > 0", 'up{service="x"} == 0', "holdfast:payment_failure:increase5m > 5")
    assert all(unknown_to_us(slip, also=frozenset(recorded())) for slip in slips)
    with pytest.raises(ValueError, match="parenthesis"):
        selectors("sum(up")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_one_that_somebody_can_answer(alert: Alert) -> None:
    """It says how urgent it is and what is wrong, and names a dashboard."""
    assert alert.severity in SEVERITIES
    assert 20 < len(alert.summary) < 140
    assert (ROOT / "deploy/grafana/dashboards" / f"{alert.dashboard.removeprefix('holdfast-')}.json").is_file()


def test_alerts_and_runbook_know_each_other() -> None:
    """Each alert leads to a section that names it, and each name in the runbook is that of an alert."""
    leading = {(alert.runbook.removeprefix("docs/runbook/index.md#"), alert.name) for alert in ALERTS}
    assert leading ^ called(_RUNBOOK) == set()


def test_every_alert_has_its_own_name() -> None:
    """Two of one name could not be told apart in the runbook."""
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


def test_drills_judge_by_the_same_rules_only_sooner() -> None:
    """Whatever waits for minutes waits for seconds there; a window that nobody scales would make a drill last for hours."""
    for file in files():
        scaled = quick(file.read_text())
        assert re.findall(r"(?:\[|offset |for: )\d+[mhd]", scaled) == []
        assert yaml.safe_load(scaled)["groups"]
    assert quick("    expr: rate(x[5m]) > 1 offset 5m\n    for: 2m\n") == "    expr: rate(x[20s]) > 1 offset 20s\n"
