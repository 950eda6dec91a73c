"""Money that comes when its booking is over, and goes back: once, with a word to the guest, and nobody's seats moved."""

from collections.abc import Awaitable, Callable

import pytest

from reservation_service.booking.reservations import payment_id
from shared.payment_contract import PaymentStatus
from tests.reservation.late_guests import (
    CAPTURED,
    assert_returned,
    ended,
    given_up,
    others,
    pays_late,
    refund_only,
    told,
)
from tests.reservation.saga_bench import ANNA, CAPACITY, SEATS, TOTAL_MINOR, Bench, Story


async def resold(bench: Bench, story: Story) -> None:
    await others(bench, story, CAPACITY - SEATS + 1)


async def closed(bench: Bench, story: Story) -> None:
    await bench.sql("UPDATE time_slots SET status = 'closed' WHERE id = :id", id=story.slot_id)


async def past_cutoff(bench: Bench, story: Story) -> None:
    await bench.sql("UPDATE time_slots SET sells_until = clock_timestamp() WHERE id = :id", id=story.slot_id)


async def superseded(bench: Bench, story: Story) -> None:
    """The same key made a new hold, which has lapsed since."""
    key = str(story.hold_id)
    hold = await others(bench, story, SEATS, caller=ANNA.subject, key=key, supersedes=story.hold_id)
    await bench.sql("UPDATE reservations SET expires_at = clock_timestamp() WHERE id = :id", id=hold.hold_id)


async def another(bench: Bench, story: Story) -> None:
    await others(bench, story, 1, caller=ANNA.subject)


AGAINST = {
    resold: "refunded_resold",
    refund_only: "refunded_late",
    closed: "refunded_closed",
    past_cutoff: "refunded_closed",
    superseded: "refunded_newer_booking",
    another: "refunded_newer_booking",
}


@pytest.mark.parametrize(
    ("happens", "captured"),
    [*((happens, False) for happens in AGAINST), (resold, True), (closed, True)],
    ids=lambda value: getattr(value, "__name__", "captured" if value is True else "authorised"),
)
async def test_late_money_goes_back(
    bench: Bench, happens: Callable[[Bench, Story], Awaitable[None]], captured: bool
) -> None:
    """T03, S13: resold, or something else stands against it: never taken, or refunded in full, once, and the guest is told.

    Peers B4: 55, 61, 62, 63.
    """
    story = await given_up(bench)
    await happens(bench, story)
    taken = await bench.taken(story)
    before = bench.payments.counted()["refund"]
    await pays_late(bench, story, **(CAPTURED if captured else {}))
    assert await bench.taken(story) == taken, "nobody else's seats were touched"
    assert bench.payments.counted()["refund"] - before == int(captured)
    entry, booking = bench.entry(story), await bench.booking(story)
    assert (entry.status, entry.captured, entry.refunded) == (
        ("refunded", TOTAL_MINOR, TOTAL_MINOR) if captured else ("canceled", 0, 0)
    )
    assert (booking["status"], booking["notices"]) == ("failed", [AGAINST[happens]])
    assert (await bench.the_saga(story))["status"] == "compensated"
    await bench.assert_consistent()


@pytest.mark.parametrize("captured", [False, True], ids=["authorised", "captured"])
async def test_money_for_a_cancelled_booking_goes_back(bench: Bench, captured: bool) -> None:
    """W19: called off by an operator, seen cancelled, and paid all the same: the money goes back, the seats stay free."""
    story = await bench.story()
    await bench.convert(story)
    await bench.sql("UPDATE reservations SET cancel_requested_at = clock_timestamp() WHERE id = :id", id=story.hold_id)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.booking(story))["status"] == "cancelled"
    await pays_late(bench, story, **(CAPTURED if captured else {}))
    await assert_returned(bench, story, "refunded_cancelled", status="cancelled")


async def test_money_for_a_booking_that_an_operator_ended_goes_back(bench: Bench) -> None:
    """W19: not the deadline ended it, but a person's word: nothing is booked again against it."""
    story = await ended(bench)
    await bench.sql("UPDATE reservations SET failure_reason = 'operator' WHERE id = :id", id=story.hold_id)
    await pays_late(bench, story)
    await assert_returned(bench, story, "refunded_late")


async def test_a_part_of_the_money_buys_no_seats(bench: Bench) -> None:
    """T03: some of it was refunded by hand already: the rest goes back, no more than that."""
    story = await ended(bench)
    some = {"captured": TOTAL_MINOR, "captures": 1, "refunded": 1000}
    await pays_late(bench, story, status=PaymentStatus.PARTIALLY_REFUNDED, **some)
    assert bench.entry(story).refunded == TOTAL_MINOR
    await assert_returned(bench, story, "refunded_late")


async def test_disputed_money_is_with_the_bank(bench: Bench) -> None:
    """S28: a dispute of late money begins nothing: who refunds it too pays twice."""
    story = await ended(bench)
    before = len(bench.payments.calls)
    await told(bench, bench.payments.change(story.payment_id, **CAPTURED | {"status": PaymentStatus.DISPUTED}))
    assert len(bench.payments.calls) == before
    assert (await bench.booking(story))["payment"]["status"] == "disputed"
    assert (await bench.the_saga(story))["status"] == "compensated"


async def test_a_cancelled_booking_that_was_final_keeps_what_its_policy_kept(bench: Bench) -> None:
    """W19: news of a part refund of a booking that was confirmed once is not late money."""
    story = await bench.story()
    await bench.convert(story)
    await bench.pay(story)
    await bench.sql(
        "WITH slot AS (UPDATE time_slots SET taken = 0 WHERE id = :slot), event AS ("
        " INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)"
        " VALUES (:id, 'confirmed', 'cancelled', 'asked'))"
        " UPDATE reservations SET status = 'cancelled', seats_pinned = false, refund_due_minor = 1000 WHERE id = :id",
        id=story.hold_id,
        slot=story.slot_id,
    )
    before = len(bench.payments.calls)
    part = bench.payments.change(story.payment_id, status=PaymentStatus.PARTIALLY_REFUNDED, refunded=1000)
    assert await told(bench, part)
    assert len(bench.payments.calls) == before
    assert (await bench.the_saga(story))["begun_by"] == "convert"


# an older payment


@pytest.mark.parametrize("captured", [False, True], ids=["authorised", "captured"])
async def test_money_on_an_older_payment_goes_back_beside_the_booking(bench: Bench, captured: bool) -> None:
    """S13, S30: money on the first payment while the second is waited for: it goes back, and the booking never notices."""
    story = await bench.story()
    await bench.convert(story)
    await told(bench, bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED))
    booking = await bench.convert(story)
    assert booking["generation"] == 2
    newer = payment_id(booking)
    before = await bench.journal(story)
    first = await bench.the_saga(story)
    event = bench.payments.change(story.payment_id, **(CAPTURED if captured else {"status": PaymentStatus.AUTHORIZED}))
    assert await told(bench, event)
    assert not await told(bench, event)
    await bench.turn()
    old = next(entry for entry in bench.payments.of(story.hold_id) if entry.id == story.payment_id)
    assert (old.status, old.refunded) == (("refunded", TOTAL_MINOR) if captured else ("canceled", 0))
    late = await bench.the_saga(story)
    assert (late["begun_by"], late["generation"], late["status"]) == ("late_money", 1, "compensated")
    lines = await bench.sql(
        "SELECT step, direction, event FROM saga_log WHERE saga_id = :id ORDER BY id", id=first["id"]
    )
    assert [tuple(line.values()) for line in lines] == before
    booking = await bench.booking(story)
    assert (booking["status"], booking["seats_pinned"], booking["notices"]) == (
        "pending",
        True,
        ["refunded_older_payment"],
    )
    await told(bench, bench.payments.pay(newer))
    assert (await bench.booking(story))["status"] == "confirmed"
    assert [entry.captured - entry.refunded for entry in bench.payments.of(story.hold_id)] == [0, TOTAL_MINOR]
    await bench.assert_consistent()
