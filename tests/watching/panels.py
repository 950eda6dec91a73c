"""Reads the committed dashboards: which panels there are, and what each of them asks Prometheus."""

import json
from typing import Any

from tests.architecture.source import ROOT

FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
NAMES = tuple(sorted(path.name for path in FOLDER.glob("*.json")))


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def panels(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard; a row is only a headline."""
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str, str]]:
    """Return every question to Prometheus: dashboard, panel, expression with Grafana's `$__rate_interval` left in."""
    return [
        (name, panel["title"], target["expr"])
        for name in NAMES
        for panel in panels(dashboard(name))
        for target in panel["targets"]
    ]
