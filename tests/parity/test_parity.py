"""Flags change comfort, never whether seats and money are right: a sample in which every two flags meet in every way."""

from pathlib import Path

import pytest

from tests.figures import tell
from tests.parity.campaign import open_parity, run
from tests.parity.combinations import Combination, every_combination, pairwise
from tests.scenarios import fired

_SEED = 20261126


@pytest.mark.timeout(400)
async def test_every_two_flags_in_every_way(
    tmp_path: Path, reservation_database_url: str, payment_database_url: str, redis_url: str
) -> None:
    """X13, X14: the contract holds in each combination, and while all flags are turned over between any two calls."""
    flipped: Combination = list(every_combination())[-1]
    combinations = [*pairwise(_SEED), flipped]
    async with open_parity(
        tmp_path, reservation_url=reservation_database_url, payment_url=payment_database_url, redis_url=redis_url
    ) as (town, switches):
        tally = await run(town, switches, combinations, audit_each=False)
    tell(f"{tally.line()} (pairwise, seed {_SEED})")
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.done == len(combinations) > 6
    assert tally.flips > 5
    fired("X13", tally.flips)
    fired("X14", tally.done)
