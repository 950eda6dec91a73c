"""Both services die at every crash point there is, once and then in pairs, and each time everything comes right again."""

import re
import subprocess
import sys

import pytest

from tests.architecture.crash_points import crash_point_names
from tests.faults.forked.ground import PROJECT
from tests.faults.forked.plan import NOT_ON_ANY_PATH
from tests.figures import tell

_BUDGET_S = 75
_GIVES_UP_S = 540
_LINE = re.compile(r"crash points (\d+)/(\d+) recovered, pairs (\d+)/(\d+) recovered, violations (\d+)$")


@pytest.mark.timeout(_GIVES_UP_S + 20)
def test_every_crash_point_is_survived() -> None:
    """C01, C02, C04..C16, C19 and, in pairs, C11: dead at each point, and after it seats, money and statuses are right."""
    command = [sys.executable, "-m", "tests.faults.forked", "--budget", str(_BUDGET_S), "--workers", "2"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=_GIVES_UP_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = _LINE.search(done.stdout.strip())
    assert line, done.stdout
    tell(line.group())
    recovered, points, pairs_recovered, pairs, violations = map(int, line.groups())
    assert recovered == points == len(crash_point_names()) - len(NOT_ON_ANY_PATH)
    assert pairs_recovered == pairs > 0
    assert violations == 0
