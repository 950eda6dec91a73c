"""Hundreds of worlds in which anything may go wrong at any time, and nothing that must hold is ever untrue."""

import json
import subprocess
import sys
from typing import Any

import pytest

WORLDS = 200


def simulated(*arguments: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.simulation`, in the process of its own that it needs."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip


def report_of(tmp_path_factory: pytest.TempPathFactory, *, first: int) -> dict[str, Any]:
    """Return what some worlds came to."""
    told = tmp_path_factory.mktemp("simulation") / "report.json"
    done = simulated("--seed", str(first), "--seeds", str(WORLDS), "--report", str(told))
    assert told.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(told.read_text())
    found["output"] = done.stdout
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report_of(tmp_path_factory, first=0)


@pytest.mark.timeout(520)
def test_nothing_is_ever_untrue(report: dict[str, Any]) -> None:
    """200 worlds: processes die, messages are lost, and in the end all three books say the same."""
    assert report["failed"] == [], report["output"]
    assert report["seeds"] == WORLDS
    assert report["crashes"] > WORLDS / 2
    print(f"simulation: {report['line']}")


@pytest.mark.timeout(100)
def test_a_seed_leads_to_the_same_world_again() -> None:
    """Two processes live through the same world, event for event; another seed is another world."""
    first, again, other = (simulated("--only", seed).stdout for seed in ("17", "17", "18"))
    assert first == again
    assert first != other
    assert "log=" in first.splitlines()[-1]
