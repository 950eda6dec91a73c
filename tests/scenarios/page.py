"""The page of failure modes, rendered from the list, the docstrings and the last full run that was written down."""

import json
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.scenarios.catalogue import FOLDER, Scenario, catalogue, groups
from tests.scenarios.claims import claims
from tests.scenarios.elsewhere import answers, complaints

LAST_RUN = FOLDER / "last_run.json"
_FROM_THE_PAGE = "../../"

Row = tuple[str, ...]


def last_run() -> dict[str, Any]:
    """Return the committed results: when, of which commit, and how each scenario ended."""
    found: dict[str, Any] = json.loads(LAST_RUN.read_text())
    return found


def last_run_line() -> str:
    """Say of which run the last column tells."""
    run = last_run()
    if not run["commit"]:
        return "No full run has been written down yet.\n"
    passed, failed = run["tests"]["passed"], run["tests"]["failed"] + run["tests"]["error"]
    counted = f"{passed} tests passed, {failed} failed"
    proved = sum(result.startswith("passed") for result in run["results"].values())
    return (
        f"The last full run that was written down: {run['date']}, commit `{run['commit']}`, {counted}; "
        f"it proved {proved} of {len(catalogue())}.\n"
    )


def rows(group: str) -> list[Row]:
    """Return a line for each scenario of a group."""
    return [_row(scenario) for scenario in catalogue().values() if scenario.group == group]


def _row(scenario: Scenario) -> Row:
    files = ", ".join(f"[{path.rpartition('/')[2]}]({_FROM_THE_PAGE}{path})" for path in _tests()[scenario.id])
    run = last_run()
    result = run["results"].get(scenario.id, "not proved" if run["commit"] else "")
    return f"`{scenario.id}`", scenario.kind, scenario.area.title, scenario.what, scenario.holds, files, result


@cache
def _tests() -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for claim in claims():
        for scenario_id in claim.ids:
            if claim.path not in found[scenario_id]:
                found[scenario_id].append(claim.path)
    return found


def elsewhere_rows() -> list[Row]:
    """Return a line for each thing that has gone wrong in other systems."""
    return [
        (f"`{one.id}`", one.what, ", ".join(f"`{test}`" for _, test in answers().get(one.id, ())) or one.not_ours)
        for one in complaints().values()
    ]


ELSEWHERE_HEADS = ("row", "what happened elsewhere", "the test here")
HEADS = ("id", "kind", "promise of", "what happens", "what holds", "tests", "last result")


def tables(table: Callable[[Row, list[Row]], str]) -> dict[str, Callable[[], str]]:
    """Return what renders each block of the page, by the block's name; `table` makes Markdown of heads and rows."""
    blocks: dict[str, Callable[[], str]] = {
        f"failure-modes.{group}": lambda group=group: table(HEADS, rows(group))  # type: ignore[misc]
        for group in groups()
    }
    return blocks | {
        "failure-modes.last-run": last_run_line,
        "failure-modes.elsewhere": lambda: table(ELSEWHERE_HEADS, elsewhere_rows()),
    }
