"""Guests who pay when their booking is over, and what must then be true of it."""

from typing import Any

from reservation_service.store import slots
from shared.identifiers import new_id
from shared.payment_contract import PaymentEvent, PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import TOTAL_MINOR, Bench, Story, plain_price

CAPTURED = {"status": PaymentStatus.CAPTURED, "captured": TOTAL_MINOR, "captures": 1}


async def given_up(bench: Bench, **more: Any) -> Story:
    """Return a booking whose payment could not be cancelled for so long that its seats went back; all is well again."""
    story = await bench.story(**more)
    await bench.convert(story)
    for operation in ("cancel", "get"):
        bench.payments.always(operation, acts.TIMEOUT)
    await bench.pass_grace(story)
    await bench.turn()
    await bench.turn()
    bench.payments.heal()
    booking, saga = await bench.booking(story), await bench.the_saga(story)
    assert (booking["status"], booking["failure_reason"], saga["status"]) == ("failed", "deadline", "unwinding")
    assert await bench.taken(story) == 0
    return story


async def ended(bench: Bench, **more: Any) -> Story:
    """Return a booking that has failed, and whose payment was seen cancelled."""
    story = await bench.story(**more)
    await bench.convert(story)
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.the_saga(story))["status"] == "compensated"
    return story


async def told(bench: Bench, event: PaymentEvent) -> bool:
    news = await bench.engine.signal(event)
    await bench.engine.drain(10)
    return news


async def pays_late(bench: Bench, story: Story, **values: Any) -> None:
    """Let the card be authorised, or what `values` say, and let it be told."""
    assert await told(bench, bench.payments.change(story.payment_id, **{"status": PaymentStatus.AUTHORIZED, **values}))
    await bench.run_to_rest(story, pays=False)


async def assert_rebooked(bench: Bench, story: Story) -> None:
    booking = await bench.booking(story)
    assert booking["notices"] == ["rebooked"], booking["notices"]
    assert (booking["failure_reason"], booking["seats_pinned"]) == (None, True)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def assert_returned(bench: Bench, story: Story, notice: str, *, status: str = "failed") -> None:
    assert (await bench.booking(story))["notices"] == [notice]
    await assert_whole(bench, story, status, saga="compensated")


def as_held(story: Story, seats: int, **more: Any) -> slots.NewHold:
    """Return what somebody wants to hold on the slot of a story; the price is nobody's concern here."""
    hold_id = more.pop("hold_id", new_id())
    wanted = {
        "hold_id": hold_id,
        "caller": "bert",
        "key": str(hold_id),
        "fingerprint": b"f",
        "time_slot_id": story.slot_id,
        "seats": seats,
        "ttl_s": 600,
        "items": [],
        "price": plain_price(0),
        "total_minor": 0,
        "currency": "EUR",
        "capture_method": "manual",
        "client_reference": None,
        "metadata": None,
        "active_holds_max": 10_000,
    }
    return slots.NewHold(**{**wanted, **more})


async def others(bench: Bench, story: Story, seats: int, **more: Any) -> slots.NewHold:
    """Let somebody hold seats of the same slot."""
    hold = as_held(story, seats, **more)
    async with bench.database.transaction("test") as tx:
        row = await slots.take_seats(tx, hold)
    assert row["expires_at"] is not None, dict(row)
    return hold


async def refund_only(bench: Bench, story: Story) -> None:
    await bench.sql(
        "UPDATE experiences SET late_payment_policy = 'refund' FROM time_slots AS s"
        " WHERE s.experience_id = experiences.id AND s.id = :id",
        id=story.slot_id,
    )
