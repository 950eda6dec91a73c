"""Two thousand requests of every kind at both running services: no 5xx, one shape of refusals, and a clean audit."""

import pytest

from tests.figures import tell
from tests.fuzz.campaign import run
from tests.fuzz.generated import plain_draw
from tests.system import System

_REQUESTS = 2000
_SEED = 20261124
_BUDGET_S = 400.0  # half a minute on a machine that has nothing else to do


@pytest.mark.timeout(450)
def test_nothing_that_is_sent_breaks_anything(system: System) -> None:
    """V05, V06, W10, I26: well-formed, forbidden and broken requests at every operation; the audit follows the test."""
    found = run(system, plain_draw(_SEED), count=_REQUESTS, number=_SEED, budget_s=_BUDGET_S)
    tell(found.line())
    assert not found.bugs, "\n".join(found.bugs[:5])
    assert found.sent == _REQUESTS, "the machine was too slow to learn what this test is for"
    assert not found.barren()
    assert found.flat(), found.grown_mib
