"""Seats come back exactly once: many sweepers, and sweepers against new holds."""

import asyncio
import random

import pytest

from reservation_service.booking.expiry import release_expired
from reservation_service.metrics import Metrics
from reservation_service.store import reservations, slots
from tests.reservation.box_office import BoxOffice
from tests.reservation.saga_bench import Bench, Story
from tests.scenarios import fired

HOLDS = 250
BATCH = 100
PASSED_OVER_WITHIN_S = 8.0  # a sweeper that waited for another's locks would get them after 3 s, or never
SLOTS = 5
SEED = 20_261_123


async def lapsed(bench: Bench, count: int) -> Story:
    """Return one of so many holds of one slot whose time is over."""
    story, *_ = await bench.copies(count)
    await bench.sql(
        "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 s' WHERE time_slot_id = :id",
        id=story.slot_id,
    )
    return story


def metrics_of(bench: Bench) -> Metrics:
    return bench.engine._metrics


async def sweep_all(bench: Bench) -> list[int]:
    """Sweep until there is nothing that nobody else has in hand; return how many holds each batch had."""
    batches = []
    while (batch := await release_expired(bench.database, metrics_of(bench), batch=BATCH)) > 0:
        batches.append(batch)
    return batches


async def test_two_sweepers_expire_each_hold_once(bench: Bench) -> None:
    """K08, I3: one sweeper's batch is still open while two others sweep: every lapsed hold is expired by exactly one."""
    stories = [await lapsed(bench, HOLDS // SLOTS) for _ in range(SLOTS)]
    async with bench.database.transaction("test") as tx:
        in_hand = await slots.expire_due(tx, batch=BATCH)
        async with asyncio.timeout(PASSED_OVER_WITHIN_S):
            meanwhile = await asyncio.gather(sweep_all(bench), sweep_all(bench))
    batches = [in_hand, *(batch for swept in meanwhile for batch in swept), *await sweep_all(bench)]
    assert max(batches) <= BATCH
    assert sum(batches) == HOLDS
    assert [await bench.taken(story) for story in stories] == [0] * SLOTS
    events = await bench.sql("SELECT reservation_id, count(*) FROM reservation_events GROUP BY 1 HAVING count(*) > 1")
    assert not events
    await bench.assert_consistent()
    fired("K08", sum(map(len, meanwhile)))


async def test_a_sweeper_that_dies_leaves_whole_batches(bench: Bench) -> None:
    """C16: the batch whose transaction did not commit is untouched; the next tick does it."""
    story = await lapsed(bench, 30)

    async def dying_sweep() -> None:
        async with bench.database.transaction("test") as tx:
            assert await slots.expire_due(tx, batch=20) == 20
            raise RuntimeError("kill -9")

    with pytest.raises(RuntimeError, match="kill"):
        await dying_sweep()
    assert await bench.taken(story) == 60
    assert await release_expired(bench.database, metrics_of(bench), batch=20) == 20
    assert await release_expired(bench.database, metrics_of(bench), batch=20) == 10
    assert await release_expired(bench.database, metrics_of(bench), batch=20) == 0
    fired("C16", 1)


async def test_a_hold_somebody_works_on_is_passed_over(bench: Bench) -> None:
    """T01, K08: a row that is locked is skipped, not waited for; what is pending is never swept."""
    locked, pending = await bench.story(), await bench.story()
    await bench.convert(pending)
    over = "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 s' WHERE id IN (:locked, :pending)"
    await bench.sql(over, locked=locked.hold_id, pending=pending.hold_id)
    async with bench.database.transaction("test") as tx:
        await reservations.lock_booking(tx, locked.hold_id)
        swept = await asyncio.wait_for(
            release_expired(bench.database, metrics_of(bench), batch=100), PASSED_OVER_WITHIN_S
        )
    assert swept == 0
    assert (await bench.booking(pending))["status"] == "pending"
    assert await release_expired(bench.database, metrics_of(bench), batch=100) == 1
    await bench.sql("UPDATE reservations SET expires_at = now() + interval '1 hour' WHERE id = :id", id=pending.hold_id)
    await bench.pass_deadline(pending)
    await bench.run_to_rest(pending, pays=False)
    fired("K08", 1)


async def test_new_holds_against_sweepers(office: BoxOffice) -> None:
    """I2, T10: seats are taken, lapse and are swept on the same few slots at once; the counters stay exact."""
    offers = [await office.offer(capacity=6) for _ in range(3)]
    dice, lapsed_ids = random.Random(SEED), list[str]()

    async def guest() -> None:
        answer = await office.customer().hold(dice.choice(offers), dice.choice([1, 2, 3]))
        assert answer.status_code in {201, 409, 503}, answer.text  # 503: eight times somebody else was quicker
        if answer.status_code == 201:
            await office.let_expire(answer.json()["id"])
            lapsed_ids.append(answer.json()["id"])

    async def sweeper() -> None:
        for _ in range(15):
            await office.sweep(batch=3)

    await asyncio.gather(*(guest() for _ in range(60)), sweeper(), sweeper())
    await office.sweep()
    assert [await office.free(offer) for offer in offers] == [6, 6, 6]
    fired("T10", len(lapsed_ids))
