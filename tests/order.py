"""Long files first: with a few workers, what takes longest must not begin last and be waited for by one of them alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

# Files of more than about ten seconds on two calm cores, the longest first; those that keep both cores busy by themselves
# (crash points, mutants, worlds) apart from each other. Everything else follows as it is found.
LONG = (
    "faults/test_every_crash_point.py",
    "faults/test_crash_points.py",
    "embedded/test_make_run.py",
    "reservation/test_saga_injection.py",
    "payment/test_permutations.py",
    "journeys/test_stories.py",
    "mutants/test_mutants.py",
    "fuzz/test_fuzz.py",
    "faults/test_bad_wires.py",
    "payment/test_reconciliation.py",
    "races/test_without_redis.py",
    "faults/test_silent_stripe.py",
    "faults/test_killed_while_paying.py",
    "journeys/test_rolling_deploy.py",
    "embedded/test_stack.py",
    "simulation/test_simulation.py",
    "races/test_expiry_duels.py",
    "races/test_one_slot.py",
    "architecture/test_tutorial.py",
    "payment/test_bursts.py",
    "reservation/test_saga_crashes.py",
    "payment/test_retry_storm.py",
    "simulation/test_planted.py",
    "races/test_limits.py",
    "races/test_expiry_backlog.py",
    "reservation/test_rate_limits.py",
    "reservation/test_saga_matrix.py",
    "payment/test_admin.py",
    "races/test_admission_faults.py",
    "payment/test_starting.py",
)
_RANKS = {name: rank for rank, name in enumerate(LONG)}


def long_files_first(items: list[pytest.Item]) -> None:
    """Bring whole files into order; the tests of one stay as they are."""
    items.sort(key=lambda item: _RANKS.get(_name(item), len(LONG)))


def unknown(root: Path, names: Sequence[str] = LONG) -> list[str]:
    """Return the names that stand for no file."""
    return [name for name in names if not (root / name).is_file()]


def _name(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0].removeprefix("tests/")
