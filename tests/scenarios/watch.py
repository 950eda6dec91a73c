"""Watches a run of pytest: what its tests have proved stands in its summary, and a full run that lacks something fails.

Docstrings travel with the reports as user properties, and what was told travels as captured output, so it is the same
whether the tests ran here or in other processes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.catalogue import ids_in
from tests.scenarios.coverage import Coverage, Outcome, covered_by

RESULTS_FILE = "SCENARIO_RESULTS"
"""The environment variable that names a file for what a run has proved; `python -m tests.scenarios` sets it."""

_PROPERTY = "scenarios"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let each report know which scenarios its test is about."""
    said = [getattr(getattr(item, part, None), "__doc__", None) or "" for part in ("cls", "obj")]
    item.user_properties.append((_PROPERTY, tuple(dict.fromkeys(ids_in("\n".join(said))))))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a full run that has left a demanded scenario unproved, and write down what it has proved if asked to."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    coverage = coverage_of(reporter)
    if exitstatus == pytest.ExitCode.OK and is_full(session.config) and coverage.missing():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if target := os.environ.get(RESULTS_FILE):
        tests = {kind: len(reporter.getreports(kind)) for kind in ("passed", "failed", "error")}
        told = {"full": is_full(session.config), "tests": tests, "results": coverage.verdicts()}
        Path(target).write_text(json.dumps(told))


def show(reporter: pytest.TerminalReporter) -> None:
    """Write the section of the summary."""
    coverage = coverage_of(reporter)
    if not coverage.covered and not coverage.failed:
        return
    reporter.section("scenarios")
    full = is_full(reporter.config)
    reporter.write_line("\n".join(coverage.lines(name_missing=full)))
    if full and coverage.missing():
        reporter.write_line(f"this full run has not proved: {', '.join(coverage.missing())}", red=True)


def is_full(config: pytest.Config) -> bool:
    """Tell whether everything is run: no file, no word, no mark was chosen, and nothing left out."""
    chosen = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "collectonly")
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(map(config.getoption, chosen))


def coverage_of(reporter: pytest.TerminalReporter) -> Coverage:
    """Judge all tests that have been reported so far."""
    return covered_by(_outcomes(reporter))


def _outcomes(reporter: pytest.TerminalReporter) -> Iterator[Outcome]:
    for kind in ("passed", "failed", "error"):
        for report in reporter.getreports(kind):
            ids = dict(getattr(report, "user_properties", ())).get(_PROPERTY, ())
            yield Outcome(tuple(ids), kind == "passed", getattr(report, "capstdout", ""))
