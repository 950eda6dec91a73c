"""A simulation that finds nothing may be blind: each bug that is planted in the running product must be found."""

import re

import pytest

from tests.simulation.test_simulation import simulated

_WITHIN = 5000
_BUGS = 17


@pytest.mark.timeout(400)
def test_every_planted_bug_is_found() -> None:
    """Seventeen bugs that cost money or seats are each found within 5,000 worlds, and in the same world again."""
    done = simulated("--bugs", "--seeds", str(_WITHIN))
    found = re.findall(r"^bug (\w+): found in world (\d+)", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(found) == _BUGS
    print(f"simulation: bugs={len(found)} found, the last one in world {max(int(world) for _, world in found)}")
