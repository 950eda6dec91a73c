"""Both services die at every crash point there is, once and then in pairs, and each time everything comes right again."""

import re
import subprocess
import sys

import pytest

from tests.architecture.crash_points import crash_point_names
from tests.faults.forked.ground import PROJECT
from tests.faults.forked.plan import excused
from tests.figures import tell
from tests.scenarios import fired

_BUDGET_S = 60
_GIVES_UP_S = 1500
# Which crash points are which scenario; each of them is killed at, or the campaign says that it was not.
_SCENARIOS = {
    "C01": ("flush_holds.before", "create_hold.before_commit"),
    "C02": ("flush_holds.after", "create_hold.after_commit"),
    "C03": ("lock_slots.after",),
    "C04": ("start_saga.after_commit",),
    "C05": ("create_payment_intent.after",),
    "C06": ("admit_payment.after_commit", "intend_create.after_commit"),
    "C07": ("record_create.before_commit",),
    "C08": ("capture_payment.before", "capture_payment.after", "capture_payment_intent.after"),
    "C10": ("cancel_payment_intent.after", "intend_cancel.after_commit"),
    "C12": ("store_event.after_commit",),
    "C13": ("store_event.before_commit",),
    "C14": ("apply_event.before_commit", "apply_event.after_commit"),
    "C15": ("create_refund.after",),
    "C16": ("sweep.before_commit", "sweep.after_commit"),
    "C19": ("post_payment_event.after",),
}
_LINE = re.compile(r"crash points (\d+)/(\d+) recovered, pairs (\d+)/(\d+) recovered, violations (\d+)$")


@pytest.mark.timeout(_GIVES_UP_S + 20)
def test_every_crash_point_is_survived() -> None:
    """C01..C08, C10, C12..C16, C19 and, in pairs, C11, peers B4.65: dead at each point, and after it seats, money and statuses are right."""
    command = [sys.executable, "-m", "tests.faults.forked", "--budget", str(_BUDGET_S), "--workers", "2"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=_GIVES_UP_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = _LINE.search(done.stdout.strip())
    assert line, done.stdout
    tell(line.group())
    recovered, points, pairs_recovered, pairs, violations = map(int, line.groups())
    assert recovered == points == len(crash_point_names()) - len(excused())
    assert pairs_recovered == pairs > 0
    assert violations == 0
    tried = set(crash_point_names()) - excused()
    for scenario, places in _SCENARIOS.items():
        fired(scenario, len(tried.intersection(places)))
    fired("C11", pairs)
