"""A guest, or the operator, takes a booking back: seats at once, money at Stripe, and the same call again."""

import pytest

from tests.answers import answered, eventually, refused
from tests.builders import Guest, Slot, a_guest, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System


def a_booking(guest: Guest, slot: Slot, stripe: Stripe, seats: int = 2) -> str:
    """Book and pay; return the id of the confirmed booking."""
    hold_id: str = a_hold(guest, slot, seats)["id"]
    assert stripe.pay_for(guest, hold_id).status_code == 200
    guest.wait_for(hold_id, "confirmed")
    return hold_id


def test_a_guest_cancels_and_is_refunded(system: System, stripe: Stripe) -> None:
    """B3, B4, I5: quote, cancel, seats free at once, the whole amount back at Stripe, and nothing new when repeated."""
    guest, slot = a_guest(system), a_slot(system, capacity=2)
    booking = a_booking(guest, slot, stripe)
    quote = guest.quote(booking)
    told = answered(quote)
    assert (told["kind"], told["refund"]) == ("full", {"amount": 9000, "currency": "EUR"})

    refused(guest.cancel(booking, if_match='"1"'), 412, "VERSION_CONFLICT")
    answered(guest.cancel(booking, if_match=quote.headers["etag"]), 200, 202)
    assert free_seats(system, slot) == 2
    shown = eventually(lambda: guest.cancel(booking), lambda answer: answer.status_code == 200, within_s=15).json()
    assert (shown["status"], shown["payment"]["refunded"]["amount"]) == ("cancelled", 9000)
    assert stripe.money_of(booking) == [0]
    assert answered(guest.cancel(booking, key="again")) == shown
    assert answered(guest.see(booking)) == shown
    refused(a_guest(system).cancel(booking), 404, "RESERVATION_NOT_FOUND")
    a_hold(a_guest(system), slot, 2)


@pytest.mark.parametrize(("currency", "price", "back"), [("EUR", 4501, 2971), ("JPY", 333, 220), ("KWD", 1230, 820)])
def test_part_of_the_money_comes_back(system: System, stripe: Stripe, currency: str, price: int, back: int) -> None:
    """V04, I7, S29: a third of the total, rounded to what the currency is charged in, and Stripe agrees to the unit."""
    tiers = [
        {"until_minutes_before": 60, "refund_percent": 33},
        {"until_minutes_before": 100_000, "refund_percent": 100},
    ]
    policy = {"type": "tiers", "tiers": tiers}
    guest = a_guest(system)
    slot = a_slot(system, price_minor=price, currency=currency, cancellation_policy=policy)
    booking = a_booking(guest, slot, stripe)
    assert answered(guest.quote(booking))["refund"]["amount"] == back
    shown = eventually(lambda: guest.cancel(booking), lambda answer: answer.status_code == 200, within_s=15).json()
    assert shown["payment"]["refunded"]["amount"] == back
    assert stripe.money_of(booking) == [2 * price - back]
    assert shown["payment"]["status"] == "partially_refunded"


def test_what_cannot_be_cancelled_by_its_guest(system: System, stripe: Stripe) -> None:
    """A policy of none refuses the guest, changes nothing, and is waived by an operator, who signs for it."""
    guest, slot = a_guest(system), a_slot(system, cancellation_policy={"type": "none"})
    booking = a_booking(guest, slot, stripe)
    assert answered(guest.quote(booking))["kind"] == "not_cancellable"
    refused(guest.cancel(booking), 409, "OUTSIDE_CANCELLATION_WINDOW")
    body = {"reason": "a broken leg", "waive_policy": True}
    operator = system.stack.operator_token()
    path = f"/admin/v1/reservations/{booking}/cancel"
    answered(system.call("reservation", "POST", path, token=operator, json=body), 200, 202)
    eventually(lambda: stripe.money_of(booking), lambda money: money == [0], within_s=15)


def test_a_guest_who_has_not_paid_calls_it_off(system: System, stripe: Stripe) -> None:
    """I11: the PaymentIntent is cancelled, nobody can pay it any more, and nothing was charged."""
    guest, slot = a_guest(system), a_slot(system)
    hold_id = a_hold(guest, slot)["id"]
    secret = awaiting_payment(guest, hold_id)
    answered(guest.cancel(hold_id), 200, 202)
    guest.wait_for(hold_id, "cancelled")
    assert stripe.statuses_of(hold_id) == ["canceled"]
    assert stripe.pay(secret).status_code == 400
    assert free_seats(system, slot) == slot.capacity


def test_a_cancelled_departure_refunds_everybody(system: System, stripe: Stripe) -> None:
    """B6: whatever their terms, all guests of a departure that is cancelled get everything back, and the operator sees it."""
    slot = a_slot(system, capacity=6, cancellation_policy={"type": "none"})
    guests = [a_guest(system) for _ in range(3)]
    bookings = [a_booking(guest, slot, stripe, 1) for guest in guests]
    change = {"status": "cancelled", "reason": "storm"}
    system.admin("reservation", "PATCH", f"/time-slots/{slot.id}", json=change)
    told = eventually(
        lambda: system.admin("reservation", "GET", f"/time-slots/{slot.id}/cancellation"),
        lambda seen: seen["status"] == "finished",
        within_s=20,
    )
    assert (told["confirmed_cancelled"], told["refunds_outstanding"], told["refunds_failed"]) == (3, 0, 0)
    for guest, booking in zip(guests, bookings, strict=True):
        shown = answered(guest.see(booking))
        assert (shown["status"], shown["cancellation"]["by"]) == ("cancelled", "operator")
        assert stripe.money_of(booking) == [0]
