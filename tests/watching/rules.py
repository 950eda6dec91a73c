"""The alerting and recording rules of deploy/prometheus/rules, as what reads them wants them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.source import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
SEVERITIES = {
    "page": "wakes somebody: guests or money are in trouble now",
    "ticket": "is looked at in the morning",
    "none": "is always on, for whoever watches the watch",
}


@dataclass(frozen=True)
class Alert:
    """One alert; `waits` is how long its expression must have been true (Prometheus' `for`)."""

    name: str
    expression: str
    waits: str
    severity: str
    summary: str
    runbook: str
    dashboard: str


def files() -> list[Path]:
    return sorted((FOLDER / "rules").glob("*.yml"))


def recorded() -> dict[str, str]:
    """Return the expressions of the recording rules by name."""
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def alerts() -> list[Alert]:
    return [_alert(rule) for rule in _rules() if "alert" in rule]


def _alert(rule: dict[str, Any]) -> Alert:
    notes = rule["annotations"]
    return Alert(
        rule["alert"], rule["expr"], rule.get("for", "0s"), rule["labels"]["severity"],
        notes["summary"], notes["runbook"], notes["dashboard"],
    )  # fmt: skip


def _rules() -> Iterator[dict[str, Any]]:
    for file in files():
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]
