"""Runs the ordinary tests once as they are and once per planted bug, a few at a time, and says who noticed what."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.databases import lend, migrated_template, open_server
from tests.mutants.bugs import Bug
from tests.mutants.planting import PROJECT, VARIABLE

AT_A_TIME = 2
_RUN_LIMIT_S = 100
_TEST_LIMIT_S = 30
_FAILED = re.compile(r"^FAILED (\S+)", re.MULTILINE)
# Tests of properties run without Hypothesis' plugin too; for all others it would be loaded in vain, thirteen times.
_LEAN = ("-p", "no:hypothesispytest", "-p", "no:anyio")
_TESTS_FAILED = 1  # pytest's exit code; a run that could not even collect its tests ends with another


@dataclass(frozen=True)
class Verdict:
    """What one run of the tests came to. `killers` are the tests that failed."""

    bug: Bug | None
    exit_code: int
    killers: tuple[str, ...]
    took_s: float
    printed: str

    @property
    def is_right(self) -> bool:
        """Tell whether the honest product passed, or the planted bug made a test fail (and not merely a fixture)."""
        if self.bug is None:
            return self.exit_code == 0
        return self.exit_code == _TESTS_FAILED and bool(self.killers)

    @property
    def line(self) -> str:
        if self.bug is None:
            return f"{'passes' if self.is_right else 'FAILS':9} {'(no bug planted)':26} {self.took_s:5.1f} s"
        if self.is_right:
            word, who = "killed", self.killers[0]
        elif self.exit_code == 0:
            word, who = "SURVIVED", f"nobody noticed: {self.bug.meaning}"
        else:
            word, who = "BROKEN", f"no test got as far as failing (pytest ended with {self.exit_code})"
        return f"{word:9} {self.bug.name:26} {self.took_s:5.1f} s  {who}"


def verdict(bug: Bug | None, exit_code: int, printed: str, took_s: float) -> Verdict:
    return Verdict(bug, exit_code, tuple(_FAILED.findall(printed)), took_s, printed)


def hunt(bugs: Sequence[Bug], tell: Callable[[str], None]) -> list[Verdict]:
    """Run everything; the first verdict is that of the honest product, under all tests of all bugs."""
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-mutants-", ignore_cleanup_errors=True) as folder,
        open_server(Path(folder)) as server,
        ThreadPoolExecutor(AT_A_TIME) as hands,
    ):
        for service in ("reservation", "payment"):
            migrated_template(server, service)  # once for all runs, and by honest code
        verdicts, lent = [], lend(server)
        for each in hands.map(lambda bug: _run(bug, bugs, lent), (None, *bugs)):
            tell(each.line)
            verdicts.append(each)
    return verdicts


def summary(verdicts: Sequence[Verdict]) -> str:
    planted = [each for each in verdicts if each.bug is not None]
    return f"mutants {sum(each.is_right for each in planted)}/{len(planted)} killed"


def _run(bug: Bug | None, bugs: Sequence[Bug], lent: Mapping[str, str]) -> Verdict:
    tests = bug.caught_by if bug else tuple(sorted({path for each in bugs for path in each.caught_by}))
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants.planting", *_LEAN, "-q", "-rf", "--tb=short"]
    command += [f"--timeout={_TEST_LIMIT_S}", *(["--exitfirst"] if bug else []), *tests]
    began = time.monotonic()
    # A folder of its own: pytest tidies up the folder that its runs share, and two that do so at once fail.
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-", ignore_cleanup_errors=True) as folder:
        exit_code, printed = _finished(
            [*command, f"--basetemp={folder}/run"], {**_server(bug, lent), VARIABLE: bug.name if bug else ""}
        )
    return verdict(bug, exit_code, printed, time.monotonic() - began)


def _server(bug: Bug | None, lent: Mapping[str, str]) -> Mapping[str, str]:
    """Return the lent server, whose databases are honest; a bug in the schema brings its own."""
    return {} if bug and bug.is_in_the_schema else lent


def _finished(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end, or to the limit; return its exit code and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(
        command, cwd=PROJECT, env=inherited | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        try:
            printed, _ = child.communicate(timeout=_RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            printed, _ = child.communicate()
    return child.returncode, printed
