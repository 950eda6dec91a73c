"""The closed list of what convert can answer once the seats are pinned: always 2xx, and always what to do next."""

import asyncio
from typing import Any, get_args
from uuid import UUID

import pytest

from reservation_service.api.schemas import Outcome
from shared.payment_contract import PaymentStatus
from tests.answers import answered, refused
from tests.doubles import scripted_payments as acts
from tests.doubles.scripted_payments import Act
from tests.reservation.box_office import BoxOffice, Customer
from tests.scenarios import fired

SET_UP, DOUBT, CLOSED = "payment_setup_failed", "processing", "closed"
PAY = "action_required"
# What the create meets; what the first convert then says, and what the same call says once the trouble is over.
SETTING_UP: list[tuple[Act | None, str, str]] = [
    (None, PAY, PAY),
    (acts.NOT_SENT, SET_UP, PAY),
    (acts.NO_CONNECTION, SET_UP, PAY),
    (acts.SHUT_OUT, SET_UP, PAY),
    (acts.UNKNOWN, DOUBT, PAY),
    (acts.UNKNOWN_APPLIED, PAY, PAY),
    (acts.TIMEOUT, DOUBT, PAY),
    (acts.ANSWER_LOST, DOUBT, PAY),
    (acts.RESET, DOUBT, PAY),
    (acts.GARBAGE, DOUBT, PAY),
    (acts.BROKEN, DOUBT, PAY),
    (acts.BUSY, DOUBT, PAY),
    (acts.IN_PROGRESS, DOUBT, PAY),
    (acts.DECLINED, CLOSED, CLOSED),
    (acts.REFUSED, CLOSED, CLOSED),
    (acts.TOO_LATE, CLOSED, CLOSED),
    (acts.WRONG_AMOUNT, CLOSED, CLOSED),
    (acts.WRONG_CURRENCY, CLOSED, CLOSED),
    (acts.WRONG_BOOKING, CLOSED, CLOSED),
    (acts.CONTRADICTION, CLOSED, CLOSED),
]
# How the payment stands when the same call comes again; what that call says.
LATER: dict[PaymentStatus, str] = {
    PaymentStatus.REQUIRES_PAYMENT: PAY,
    PaymentStatus.REQUIRES_ACTION: PAY,
    PaymentStatus.PROCESSING: DOUBT,
    PaymentStatus.AUTHORIZED: "succeeded",
    PaymentStatus.CANCELED: PAY,  # another payment, under the same booking
}


def name_of(value: object) -> str:
    return value.name if isinstance(value, Act) else str(value)


async def a_hold(office: BoxOffice) -> tuple[Customer, str]:
    guest, offer = office.customer(), await office.offer()
    return guest, str(answered(await guest.hold(offer, 2), 201)["id"])


def test_the_list_is_complete() -> None:
    """Each outcome of the contract is in one of the tables (a decline has a test of its own), and no other is."""
    union = get_args(get_args(Outcome)[0])
    promised = {member.model_fields["type"].default for member in union}
    listed = {word for _, first, then in SETTING_UP for word in (first, then)} | set(LATER.values())
    assert listed | {"payment_declined"} == promised
    troubles = {act.name for act in vars(acts).values() if isinstance(act, Act)}
    others = {"dies_before", "dies_after", "captured_less", "not_found", "disputed", "stale"}
    assert {act.name for act, _, _ in SETTING_UP if act} == troubles - others


@pytest.mark.parametrize(("act", "first", "then"), SETTING_UP, ids=name_of)
async def test_setting_up(office: BoxOffice, act: Act | None, first: str, then: str) -> None:
    """S01, S16, S17, S22, V08, peers B3.49: 201 and the outcome of the list; the same call again is 200 and the only retry."""
    guest, hold_id = await a_hold(office)
    if act is not None:
        office.payments.script("create", act)
    said = answered(await guest.convert(hold_id), 201)["outcome"]
    assert said["type"] == first
    again = answered(await guest.convert(hold_id), 200)["outcome"]
    assert again["type"] == then
    assert len(office.payments.of(UUID(hold_id))) <= 1


@pytest.mark.parametrize("status", LATER, ids=str)
async def test_coming_back(office: BoxOffice, status: PaymentStatus) -> None:
    """S12, S14, S30: however the payment stands when the guest comes back, the same call says what to do next."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    (entry,) = office.payments.of(UUID(hold_id))
    office.payments.change(entry.id, status=status)
    assert answered(await guest.convert(hold_id), 200)["outcome"]["type"] == LATER[status]


async def test_seeing_a_payment_that_was_called_off(office: BoxOffice) -> None:
    """S30: GET says that the same convert sets another payment up; it does, with another secret."""
    guest, hold_id = await a_hold(office)
    secret = answered(await guest.convert(hold_id), 201)["outcome"]["client_secret"]
    (entry,) = office.payments.of(UUID(hold_id))
    await office.tell(office.payments.change(entry.id, status=PaymentStatus.CANCELED))
    await office.parts.engine.drain(5)
    shown = answered(await guest.see(hold_id))
    assert (shown["status"], shown["outcome"]["type"], shown["outcome"]["retryable"]) == ("pending", SET_UP, True)
    assert answered(await guest.convert(hold_id))["outcome"]["client_secret"] != secret


async def test_a_hold_that_lapses_meanwhile_is_not_swept(office: BoxOffice) -> None:
    """T01, I23: its time ends while the payment is being set up; the sweeper leaves it alone, and it can be paid."""
    guest, hold_id = await a_hold(office)
    swept = list[int]()

    async def time_ends(_operation: str) -> None:
        office.payments.before = None
        await office.let_expire(hold_id)
        swept.append(await office.sweep())

    office.payments.before = time_ends
    assert answered(await guest.convert(hold_id), 201)["outcome"]["type"] == PAY
    await office.pay(hold_id)
    assert (swept, await office.status(hold_id)) == ([0], "confirmed")
    await office.sql(
        "UPDATE reservations SET expires_at = clock_timestamp() + interval '1 day' WHERE id = :id", id=UUID(hold_id)
    )
    fired("T01", len(swept))


async def test_a_slot_that_starts_meanwhile(office: BoxOffice) -> None:
    """T08: convert is refused once the slot has started; a booking whose guest was paying by then is confirmed."""
    offer, early, late = await office.offer(), office.customer(), office.customer()
    paying, waiting = [answered(await guest.hold(offer), 201)["id"] for guest in (early, late)]
    await early.convert(paying)
    await office.sql(
        "UPDATE time_slots SET starts_at = now() - interval '1 minute', sells_until = now() - interval '2 minutes'"
        " WHERE id = :id",
        id=UUID(offer.slot_id),
    )
    refused(await late.convert(waiting), 409, "SLOT_CLOSED")
    await office.pay(paying)
    assert await office.status(paying) == "confirmed"
    fired("T08", 1)


async def test_a_crash_of_the_turn_is_no_error(office: BoxOffice) -> None:
    """C04, C05: what convert set going breaks down; the guest hears `processing`, and the same call goes on."""
    for act in (acts.DIES_BEFORE, acts.DIES_AFTER):
        guest, hold_id = await a_hold(office)
        office.payments.script("create", act)
        said: Any = answered(await guest.convert(hold_id), 201)
        assert said["outcome"]["type"] == DOUBT
        await office.sql("UPDATE sagas SET lease_until = NULL WHERE reservation_id = :id", id=UUID(hold_id))
        assert answered(await guest.convert(hold_id))["outcome"]["type"] == PAY
    fired("C05", 2)


async def test_twenty_guests_are_one(office: BoxOffice) -> None:
    """K03: twenty converts of one hold under twenty keys after a payment was called off: one next payment."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    (entry,) = office.payments.of(UUID(hold_id))
    office.payments.change(entry.id, status=PaymentStatus.CANCELED)
    answers = await asyncio.gather(*(guest.convert(hold_id, key=f"k-{n}-{hold_id}") for n in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    await office.parts.engine.drain(10)  # an answer does not wait longer than its budget
    assert [entry.generation for entry in office.payments.of(UUID(hold_id))] == [1, 2]
