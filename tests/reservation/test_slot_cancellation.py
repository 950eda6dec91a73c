"""A departure is cancelled: sales stop at once, what is held or pending comes to its end, and a crash forgets nothing."""

import asyncio
import random
from collections.abc import Awaitable
from typing import Any, TypeVar
from uuid import UUID

import pytest

from reservation_service.booking.slot_cancellation import SlotCancellations
from shared.crashpoints import arm
from shared.payment_contract import PaymentStatus
from tests.answers import answered, refused
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Offer
from tests.scenarios import fired

BY_WEATHER = {"status": "cancelled", "reason": "storm"}
ROUNDS = 12
T = TypeVar("T")


async def change(office: BoxOffice, offer: Offer, **body: Any) -> Any:
    return await office.operator().ask(
        "PATCH", f"/admin/v1/time-slots/{offer.slot_id}", json={"reason": "storm", **body}
    )


async def cancel(office: BoxOffice, offer: Offer) -> Any:
    return answered(await change(office, offer, **BY_WEATHER))


async def progress(office: BoxOffice, offer: Offer) -> Any:
    viewer = office.customer(roles=["viewer"])
    return answered(await viewer.ask("GET", f"/admin/v1/time-slots/{offer.slot_id}/cancellation"))


async def go_on(office: BoxOffice, *, batch: int = 100) -> None:
    """Do what the job and the sagas' ticker do, once."""
    await office.sql(
        "UPDATE slot_cancellations SET due_at = clock_timestamp(), lease_until = NULL WHERE due_at IS NOT NULL"
    )
    settings = office.parts.settings.model_copy(update={"slot_cancellation_batch_size": batch})
    await SlotCancellations(office.parts.database, settings, office.parts.metrics).run_due()
    await office.parts.engine.run_due()
    await office.parts.engine.drain(5)


async def held(office: BoxOffice, offer: Offer, seats: int = 1) -> tuple[Any, str]:
    guest = office.customer()
    return guest, answered(await guest.hold(offer, seats), 201)["id"]


async def test_everything_of_a_cancelled_slot_comes_to_its_end(office: BoxOffice) -> None:
    """I5: holds are released by the operator, pending bookings cancelled at Stripe first, paid ones refunded in full."""
    offer = await office.offer(capacity=20, cancellation_policy={"type": "none"})
    holders = [await held(office, offer, 2) for _ in range(5)]
    waiting, pending = await held(office, offer)
    answered(await waiting.convert(pending), 201)
    paid, confirmed = await held(office, offer)
    answered(await paid.convert(confirmed), 201)
    await office.pay(confirmed)
    office.payments.refunds_take_time = True
    seen = await cancel(office, offer)
    assert seen["status"] == "cancelled"
    assert (await progress(office, offer))["status"] == "running"
    await go_on(office, batch=2)
    await go_on(office)
    told = await progress(office, offer)
    assert told["status"] == "awaiting_refund"
    assert told["finished_at"] is None
    assert [told[name] for name in ("held_released", "pending_unwound", "confirmed_remaining")] == [5, 1, 0]
    assert [told[name] for name in ("confirmed_cancelled", "refunds_outstanding", "refunds_failed")] == [1, 1, 0]
    for guest, hold in holders:
        shown = answered(await guest.see_hold(hold))
        assert shown["status"] == "released"
        row = answered(await office.operator().ask("GET", f"/admin/v1/holds/{hold}"))
        assert row["released_by"] == "operator"
    assert answered(await waiting.see(pending))["status"] == "cancelled"
    [entry] = office.payments.of(UUID(pending))
    assert entry.status == "canceled"
    shown = answered(await paid.see(confirmed))
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "refund_pending")
    assert (shown["cancellation"]["by"], shown["cancellation"]["refund"]["amount"]) == ("operator", 4500)
    [slot] = await office.sql("SELECT taken FROM time_slots WHERE id = :id", id=UUID(offer.slot_id))
    assert slot["taken"] == 0

    [entry] = office.payments.of(UUID(confirmed))
    await office.tell(office.payments.settle_refund(entry.id))
    await office.parts.engine.drain(5)
    await go_on(office)
    told = await progress(office, offer)
    assert [told[name] for name in ("status", "confirmed_cancelled", "refunds_outstanding")] == ["finished", 1, 0]


async def test_nothing_is_sold_on_a_cancelled_slot(office: BoxOffice) -> None:
    """K06, K07, T08: no hold, no renewal, no convert, no second life; capacity stays, and nobody deletes a slot."""
    offer = await office.offer(capacity=5)
    guest, hold = await held(office, offer)
    key = "a-hold-that-is-taken-back"
    again = answered(await guest.hold(offer, key=key), 201)["id"]
    await cancel(office, offer)
    refused(await guest.convert(hold), 409, "SLOT_CLOSED")
    refused(await guest.hold(offer), 409, "SLOT_CLOSED")
    await go_on(office)
    assert await office.status(again) == "released"
    refused(await guest.hold(offer, key=key), 409, "SLOT_CLOSED")
    for body in ({"status": "open"}, {"status": "closed"}, {"capacity": 50}):
        refused(await change(office, offer, **body), 409, "SLOT_CLOSED")
    assert (await cancel(office, offer))["status"] == "cancelled"  # the same call again is no refusal
    told = await progress(office, offer)
    assert (told["status"], told["held_released"]) == ("finished", 2)
    assert told["finished_at"] >= told["started_at"]
    for path in (f"/admin/v1/time-slots/{offer.slot_id}", f"/v1/time-slots/{offer.slot_id}"):
        answer = await office.operator().ask("DELETE", path)
        refused(answer, 405, "METHOD_NOT_ALLOWED")
    fired("K07", 2)


async def test_capacity_is_never_less_than_what_is_taken(office: BoxOffice) -> None:
    """K06: lowering below held and booked seats is refused with the number; seats of lapsed holds do not count."""
    offer = await office.offer(capacity=10)
    _, lapsing = await held(office, offer, 4)
    await held(office, offer, 3)
    assert refused(await change(office, offer, capacity=6), 409, "CAPACITY_BELOW_TAKEN")["taken"] == 7
    await office.let_expire(lapsing)
    assert answered(await change(office, offer, capacity=3))["available"] == 0
    refused(await change(office, offer, capacity=2), 409, "CAPACITY_BELOW_TAKEN")
    [kept] = await office.sql(
        "SELECT changed_by, reason, changes FROM slot_changes WHERE time_slot_id = :id", id=UUID(offer.slot_id)
    )
    assert (kept["changed_by"], kept["reason"], kept["changes"]) == ("olga", "storm", {"capacity": 3})
    fired("K06", 2)


async def test_a_slot_that_closed_or_started_meanwhile_is_not_converted(office: BoxOffice) -> None:
    """T08: closed by its operator or past the end of sales, a hold can no longer become a booking; open again, it can."""
    offer = await office.offer()
    guest, hold = await held(office, offer)
    answered(await change(office, offer, status="closed"))
    refused(await guest.convert(hold), 409, "SLOT_CLOSED")
    answered(await change(office, offer, status="open"))
    over = "UPDATE time_slots SET sells_until = clock_timestamp() - interval '1 s' WHERE id = :id"
    await office.sql(over, id=UUID(offer.slot_id))
    refused(await guest.convert(hold), 409, "SLOT_CLOSED")
    await office.sql("UPDATE time_slots SET sells_until = starts_at WHERE id = :id", id=UUID(offer.slot_id))
    answered(await guest.convert(hold), 201)
    refused(await change(office, offer, status="closed", reason=""), 422, "VALIDATION_FAILED")
    fired("T08", 2)


async def test_a_payment_that_was_faster_goes_back(office: BoxOffice) -> None:
    """The cancel at Stripe comes too late: the money goes back in full, the booking ends cancelled, nothing is stuck."""
    offer = await office.offer(capture_method="automatic")
    guest, hold = await held(office, offer)
    answered(await guest.convert(hold), 201)
    await cancel(office, offer)
    [entry] = office.payments.of(UUID(hold))
    taken = {"status": PaymentStatus.CAPTURED, "captured": entry.amount, "captures": 1}
    office.payments.change(entry.id, **taken)  # and nobody tells us
    await go_on(office)
    await go_on(office)
    assert await office.status(hold) == "cancelled"
    [entry] = office.payments.of(UUID(hold))
    assert (entry.captured, entry.refunded) == (entry.amount, entry.amount)
    assert (await progress(office, offer))["confirmed_remaining"] == 0


async def test_converts_race_the_cancellation(office: BoxOffice) -> None:
    """Whoever converts while the slot is cancelled is either refused, or pending and then unwound; no seat is left."""
    refusals = converted = 0
    for _ in range(ROUNDS):
        offer = await office.offer(capacity=4)
        guest, hold = await held(office, offer)

        answer, _ = await asyncio.gather(guest.convert(hold), soon(cancel(office, offer)))
        assert answer.status_code == 201 or answer.json()["code"] == "SLOT_CLOSED", answer.text
        converted += answer.status_code == 201
        refusals += answer.status_code == 409
        await go_on(office)
        await go_on(office)
        assert await office.status(hold) == ("cancelled" if answer.status_code == 201 else "released")
        assert (await progress(office, offer))["status"] == "finished"
    fired("K07", ROUNDS)
    tell(f"cancelled slots: {ROUNDS} races with convert, {converted} unwound, {refusals} refused")


async def soon(call: Awaitable[T]) -> T:
    await asyncio.sleep(random.random() * 0.015)
    return await call


class _Died(BaseException):
    pass


def _die() -> None:
    raise _Died


@pytest.mark.parametrize(
    "point",
    [
        "claim_slot_cancellations.after_commit",
        "release_cancelled_holds.before_commit",
        "release_cancelled_holds.after_commit#2",
        "ask_to_unwind.before_commit",
        "ask_to_unwind.after_commit",
        "settle_slot_cancellation.before_commit",
    ],
)
async def test_another_worker_goes_on_after_a_crash(office: BoxOffice, point: str) -> None:
    """Dead at any line, the work is leased again and ends with the same counts: each hold is released once."""
    offer = await office.offer(capacity=20)
    for _ in range(5):
        await held(office, offer)
    guest, pending = await held(office, offer)
    answered(await guest.convert(pending), 201)
    await cancel(office, offer)
    arm(point, _die)
    try:
        with pytest.raises(_Died):
            await go_on(office, batch=2)
    finally:
        arm(None)
    await go_on(office, batch=2)
    await go_on(office)
    told = await progress(office, offer)
    assert [told[name] for name in ("status", "held_released", "pending_unwound")] == ["finished", 5, 1]
    assert await office.free(offer) == 20


async def test_a_slot_that_was_not_cancelled_has_no_cancellation(office: BoxOffice) -> None:
    """404 for a slot that sells, for none, and for no id."""
    offer = await office.offer()
    for slot in (offer.slot_id, offer.experience_id, "x"):
        answer = await office.operator().ask("GET", f"/admin/v1/time-slots/{slot}/cancellation")
        refused(answer, 404, "CANCELLATION_NOT_FOUND")
