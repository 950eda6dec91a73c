"""X12: a release that knows one step more runs beside this one: what it has begun is its own, and it is not kept waiting."""

from reservation_service.saga.engine import Engine
from tests.release.next_reservation import STEP, longer
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import Bench, Story
from tests.scenarios import fired


async def _begun_by_the_next(bench: Bench) -> tuple[Story, Engine]:
    """Return a booking that waits for its guest to pay, and the later release that has begun it."""
    story, later = await bench.story(), bench.another_engine(release=longer)
    await bench.convert(story, engine=later)
    assert (STEP, "do", "done") in await bench.journal(story)
    return story, later


async def test_an_older_release_takes_no_turn_at_what_it_cannot_read(bench: Bench) -> None:
    """It looks ten times as soon as the payment is there, and has not moved the saga: the later one finds it due."""
    story, later = await _begun_by_the_next(bench)
    assert await bench.pay(story)
    paid = await bench.the_saga(story)
    assert [await bench.engine.run_due() for _ in range(10)] == [0] * 10
    assert dict(await bench.the_saga(story)) == dict(paid)
    assert await later.run_due() == 1
    await later.drain(10)
    await assert_whole(bench, story, "confirmed", saga="completed")
    fired("X12", 1)


async def test_a_guest_who_asks_the_older_release_again_delays_nothing(bench: Bench) -> None:
    """The same convert call at the older release shows how the booking stands, and puts nothing off."""
    story, later = await _begun_by_the_next(bench)
    before = await bench.the_saga(story)
    booking = await bench.convert(story)
    assert booking["status"] == "pending"
    assert dict(await bench.the_saga(story)) == dict(before)
    await bench.pay(story, engine=later)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_cancellation_at_the_older_release_is_carried_out_by_the_later_one(bench: Bench) -> None:
    """What the older one has opened again it gives back at once: the later one finds it due, and not after a while."""
    story, later = await _begun_by_the_next(bench)
    await bench.pay(story, engine=later)
    await bench.cancel(story)
    (saga,) = await bench.sql(
        "SELECT status, lease_until, due_at <= clock_timestamp() AS due FROM sagas WHERE reservation_id = :id",
        id=story.hold_id,
    )
    assert dict(saga) == {"status": "unwinding", "lease_until": None, "due": True}
    assert (await bench.engine.run_due(), await later.run_due()) == (0, 1)
    await later.drain(10)
    await assert_whole(bench, story, "cancelled", saga="compensated")
