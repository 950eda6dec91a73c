"""Thousands of worlds in which anything may go wrong at any time, and nothing that must hold is ever untrue."""

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.architecture.crash_points import crash_point_names
from tests.observed_moves import claimed_by
from tests.simulation.beyond import MOVES_NOT_MADE, POINTS_NOT_PASSED, TAKEN_BY

WORLDS = 5000


def simulated(*arguments: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.simulation`, in the process of its own that it needs."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        capture_output=True, text=True, check=False, timeout=timeout_s,
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the worlds came to."""
    told = tmp_path_factory.mktemp("simulation") / "seen.json"
    done = simulated("--seeds", str(WORLDS), "--beside", "2", "--report", str(told))
    assert told.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(told.read_text())
    return found | {"output": done.stdout}


@pytest.mark.timeout(520)
def test_nothing_is_ever_untrue(seen: dict[str, Any]) -> None:
    """5,000 worlds: processes die, messages are lost, and in the end all three books say the same."""
    assert seen["failed"] == [], seen["output"]
    numbers = seen["numbers"]
    assert seen["seeds"] == WORLDS
    assert numbers["crashes"] > WORLDS / 2
    assert numbers["compared"] == WORLDS
    hours = numbers["virtual_s"] / 3600
    print(f"simulation: seeds={WORLDS} crashes={numbers['crashes']} virtual_hours={hours:.0f} violations=0")


@pytest.mark.timeout(520)
def test_every_legal_move_is_made(seen: dict[str, Any]) -> None:
    """Every edge of every state machine is taken in some world, but for those that `beyond.py` gives a reason for."""
    legal = {tuple(move) for move in seen["legal"]}
    made = {tuple(move) for move in seen["moves"]}
    assert legal - made - MOVES_NOT_MADE.keys() == set()
    assert legal >= MOVES_NOT_MADE.keys(), "a reason for a move that does not exist"
    print(f"simulation: legal moves={len(legal)} made={len(legal & made)}")


def test_a_move_that_no_world_makes_is_made_by_a_named_test() -> None:
    """What is excused names an ordinary test, which is there and is about that very move."""
    assert TAKEN_BY.keys() == MOVES_NOT_MADE.keys()
    for move, (module, test) in TAKEN_BY.items():
        assert move in claimed_by(getattr(importlib.import_module(module), test)), move


@pytest.mark.timeout(520)
def test_every_crash_point_is_passed(seen: dict[str, Any]) -> None:
    """Every crash point of the simulated code is passed, but for those that `beyond.py` gives a reason for."""
    points = set(crash_point_names()) - POINTS_NOT_PASSED.keys()
    passed, died_at = set(seen["points"]), set(seen["died_at"])
    assert points - passed == set()
    print(f"simulation: crash points={len(points)} passed={len(points & passed)} died at={len(points & died_at)}")


@pytest.mark.timeout(520)
def test_a_seed_leads_to_the_same_world_again(seen: dict[str, Any]) -> None:
    """Two processes live through the same world, event for event, alone and after others; another seed is another world."""
    again = simulated("--only", "17").stdout.splitlines()[-1]
    assert seen["logs"]["17"] in again.split()
    assert seen["logs"]["18"] not in again.split()
