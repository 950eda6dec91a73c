"""A guest converts in the very moment in which the sweeper comes for the hold: a thousand duels, one winner each."""

import asyncio
import random
from collections import Counter

import pytest

from reservation_service.booking.expiry import release_expired
from reservation_service.errors import HoldExpired
from tests.figures import tell
from tests.reservation.saga_bench import SEATS, Bench, Story
from tests.scenarios import fired

DUELS = 1_000
AT_ONCE = 8  # as many as there are connections: nobody waits for one
SEED = 20_261_123
ENDS = ("confirmed", "expired")
SHARE = 0.10

AIM = """
UPDATE reservations AS r SET expires_at = clock_timestamp() + make_interval(secs => aim.in_s)
FROM unnest(CAST(:ids AS uuid[]), CAST(:in_s AS float8[])) AS aim (id, in_s) WHERE r.id = aim.id
"""


class Aim:
    """Where the expiry is put after the start, moved after each round so that neither side always wins."""

    def __init__(self) -> None:
        self.dice = random.Random(SEED)
        self.after_s = 0.030

    def moment(self) -> float:
        return self.after_s * self.dice.uniform(0.2, 1.8)

    def learn(self, converted: float) -> None:
        """Give the guests less time when more than half of them made it, and more when fewer did."""
        self.after_s = min(1.0, max(0.0005, self.after_s * (0.85 if converted > 0.5 else 1.15)))


@pytest.mark.timeout(300)
async def test_a_thousand_duels(bench: Bench) -> None:
    """T02, I3, I23, peers B1.12: exactly one winner in each of 1,000 duels, and each side wins at least 100 of them."""
    stories, aim, won = await bench.copies(DUELS), Aim(), Counter[str]()

    async def convert(story: Story) -> str:
        try:
            return str((await bench.convert(story))["status"])
        except HoldExpired:
            return "expired"

    async def sweep(until: asyncio.Event) -> None:
        while not until.is_set():
            await release_expired(bench.database, bench.engine._metrics, batch=100)
            await asyncio.sleep(0.001)

    async with asyncio.timeout(240):
        for begin in range(0, DUELS, AT_ONCE):
            duel, over = stories[begin : begin + AT_ONCE], asyncio.Event()
            await bench.sql(AIM, ids=[story.hold_id for story in duel], in_s=[aim.moment() for _ in duel])
            sweeping = asyncio.create_task(sweep(over))
            told = await asyncio.gather(*map(convert, duel))
            over.set()
            await sweeping
            won.update(told)
            aim.learn(told.count("confirmed") / AT_ONCE)
    await asyncio.sleep(0.05)
    await release_expired(bench.database, bench.engine._metrics, batch=DUELS)

    rows = await bench.sql(
        "SELECT status, count(*) AS n FROM reservations WHERE time_slot_id = :id GROUP BY 1", id=stories[0].slot_id
    )
    assert {str(row["status"]): row["n"] for row in rows} == dict(won), "what was told is what is"
    assert set(won) == set(ENDS)
    assert await bench.taken(stories[0]) == won["confirmed"] * SEATS
    twice = await bench.sql(
        "SELECT 1 FROM reservation_events WHERE to_status IN ('expired', 'pending')"
        " GROUP BY reservation_id HAVING count(*) > 1"
    )
    tell(
        f"duels convert against sweeper: rounds={DUELS} seed={SEED} converted={won['confirmed']}"
        f" expired={won['expired']} two winners={len(twice)}"
    )
    assert not twice
    assert min(won[end] for end in ENDS) >= SHARE * DUELS, won
    fired("T02", won["expired"])
