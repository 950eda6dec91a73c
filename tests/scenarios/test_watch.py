"""A run proves only what its tests have shown, and a full run that has not shown what is demanded fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.scenarios import fired, page
from tests.scenarios.__main__ import _record
from tests.scenarios.catalogue import catalogue
from tests.scenarios.coverage import Outcome, covered_by
from tests.scenarios.watch import RESULTS_FILE

_TOLD = "\nscenario: K01 3\n"
# Their ids are demanded, and many more are: so this tiny suite proves two of them and lacks the rest.
_CASES = '''
import pytest
from tests.scenarios import fired

@pytest.mark.parametrize("times", [1, 2])
def test_a_fault(times):
    """K01: it came."""
    fired("K01", times)

def test_a_silent_fault():
    """K02: it never came."""

class TestInput:
    """V01: of all sorts."""
    def test_one(self):
        pass
'''


@pytest.mark.parametrize(
    ("outcomes", "covered", "failed"),
    [
        ([Outcome(("K01",), passed=True, printed=_TOLD)], {"K01"}, set()),
        ([Outcome(("K01",), passed=True)], set(), set()),
        ([Outcome(("K02",), passed=True, printed=_TOLD)], set(), set()),
        ([Outcome(("V01", "I1"), passed=True)], {"V01", "I1"}, set()),
        ([Outcome(("V01",), passed=True), Outcome(("V01",), passed=False)], set(), {"V01"}),
        ([Outcome(("Z01",), passed=True, printed="\nscenario: Z01 1\n")], {"Z01"}, set()),
    ],
)
def test_what_counts_as_covered(outcomes: list[Outcome], covered: set[str], failed: set[str]) -> None:
    """A fault counts when it was told by the very test that names it; one failed test outweighs all that passed."""
    found = covered_by(outcomes)
    assert (found.covered, found.failed) == (covered, failed)


def test_what_is_missing_is_named() -> None:
    """Each area has its line; what is demanded and missing is named, what is not demanded yet is only counted."""
    everything = covered_by([Outcome((name,), passed=True, printed=f"\nscenario: {name} 1\n") for name in catalogue()])
    assert everything.missing() == []
    assert all("missing" not in line for line in everything.lines(name_missing=True))
    nothing = covered_by([])
    assert nothing.missing() == [name for name, scenario in catalogue().items() if scenario.required]
    assert "K01" in next(line for line in nothing.lines(name_missing=True) if line.startswith("seats: covered 0/"))
    assert all("missing" not in line for line in nothing.lines(name_missing=False))


def test_a_fault_that_never_came_fails_its_test() -> None:
    """`fired` is an assertion first."""
    with pytest.raises(AssertionError, match="proves nothing"):
        fired("K01", 0)


@pytest.mark.parametrize(("options", "full"), [((), True), (("-n", "1"), True), (("-k", "fault or one"), False)])
def test_a_full_run_that_lacks_something_fails(tmp_path: Path, options: tuple[str, ...], full: bool) -> None:
    """The same in one process and in several; a run of chosen tests is not judged."""
    cases = tmp_path / "cases"
    cases.mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = cases\n")
    hooks = "pytest_itemcollected, pytest_sessionfinish"
    (cases / "conftest.py").write_text(
        f"from tests.scenarios.watch import {hooks}, show\n\ndef pytest_terminal_summary(terminalreporter):\n"
        "    show(terminalreporter)\n"
    )
    (cases / "test_cases.py").write_text(_CASES)
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:valkey", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), RESULTS_FILE: str(results)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == (1 if full else 0), done.stdout + done.stderr
    assert "seats: covered 2/" in done.stdout
    assert ("this full run has not proved" in done.stdout) == full
    assert json.loads(results.read_text()) == {
        "full": full,
        "tests": {"passed": 4, "failed": 0, "error": 0},
        "results": {"K01": "passed, fault seen 3x", "V01": "passed"},
    }


def test_a_run_that_was_written_down_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page tells which run it was and how each scenario ended; what that run has not proved says so."""
    coverage = covered_by([Outcome(("K01",), passed=True, printed=_TOLD), Outcome(("K02",), passed=False)])
    told = {"tests": {"passed": 7, "failed": 1, "error": 1}, "results": coverage.verdicts() | {"Z99": "passed"}}
    record = _record(told)
    assert list(record["results"]) == ["K01", "K02"]
    written = tmp_path / "last_run.json"
    written.write_text(json.dumps(record))
    monkeypatch.setattr(page, "LAST_RUN", written)
    assert "7 tests passed, 2 failed; it proved 1 of 168" in page.last_run_line()
    results = {row[0]: row[-1] for row in page.rows("races")}
    assert (results["`K01`"], results["`K02`"], results["`K03`"]) == ("passed, fault seen 3x", "failed", "not proved")


def test_before_the_first_run_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty record is shown as one."""
    written = tmp_path / "last_run.json"
    written.write_text('{"date": "", "commit": "", "results": {}}')
    monkeypatch.setattr(page, "LAST_RUN", written)
    assert page.last_run_line() == "No full run has been written down yet.\n"
    assert {row[-1] for row in page.rows("races")} == {""}
