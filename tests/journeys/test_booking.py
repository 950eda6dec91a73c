"""The plain way through: a guest sees what is for sale, holds seats, pays, and has a booking."""

from tests.answers import answered, eventually, refused
from tests.builders import DECLINED_CARD, a_customer, a_guest, a_hold, a_reseller, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System


def test_a_guest_books_and_pays(system: System, stripe: Stripe) -> None:
    """Peers B2.36: hold, convert, pay, confirmed: seats are gone from sale, and the card was charged once, for the right amount."""
    guest, slot = a_guest(system), a_slot(system, capacity=4, price_minor=4500)

    hold = a_hold(guest, slot, seats=2)
    assert hold["status"] == "active"
    assert hold["price"]["total"] == {"amount": 9000, "currency": "EUR"}
    assert free_seats(system, slot) == 2

    refused(guest.see(hold["id"]), 404, "RESERVATION_NOT_FOUND")
    first = guest.convert(hold["id"])
    pending = answered(first, 201)
    assert pending["id"] == hold["id"]
    assert pending["status"] == "pending"
    assert pending["outcome"]["type"] == "action_required"
    assert pending["outcome"]["action"] == "confirm_payment"
    assert pending["outcome"]["publishable_key"].startswith("pk_test_")
    assert int(first.headers["expires-in-ms"]) > 0

    assert stripe.pay(pending["outcome"]["client_secret"]).status_code == 200
    booking = guest.wait_for(hold["id"], "confirmed")

    assert len(booking["reference"]) == 6
    assert booking["seats"] == 2
    assert booking["payment"]["status"] == "captured"
    assert booking["payment"]["captured"] == {"amount": 9000, "currency": "EUR"}
    assert free_seats(system, slot) == 2
    assert stripe.money_of(hold["id"]) == [9000]
    assert answered(guest.see_hold(hold["id"]))["status"] == "converted"

    again = answered(guest.convert(hold["id"]), 200)
    assert again["outcome"] == {"type": "succeeded"}


def test_a_declined_card_is_retried_with_the_same_convert_call(system: System, stripe: Stripe) -> None:
    """S11: a decline keeps the seats; the same call answers `payment_declined` with the same secret; a good card wins."""
    guest, slot = a_guest(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    secret = awaiting_payment(guest, hold["id"])

    assert stripe.pay(secret, card=DECLINED_CARD).status_code == 402
    declined = eventually(
        lambda: answered(guest.convert(hold["id"])), lambda seen: seen["outcome"]["type"] == "payment_declined"
    )
    assert declined["outcome"]["client_secret"] == secret
    assert declined["outcome"]["decline_class"]
    assert declined["status"] == "pending"
    assert free_seats(system, slot) == 0

    assert stripe.pay(secret).status_code == 200
    assert guest.wait_for(hold["id"], "confirmed")["payment"]["status"] == "captured"
    assert len(stripe.intents_of(hold["id"])) == 1


def test_a_booking_paid_elsewhere_needs_the_scope(system: System, stripe: Stripe) -> None:
    """V02: a guest cannot book for free by asking for `external`; a reseller with the scope books without a payment."""
    guest, slot = a_guest(system), a_slot(system, capacity=2)
    hold = a_hold(guest, slot)
    document = refused(guest.convert(hold["id"], mode="external"), 403, "FORBIDDEN")
    assert not document["retryable"]
    assert answered(guest.see_hold(hold["id"]))["status"] == "active"

    customer = a_customer(system, scope="bookings:elsewhere")
    other = a_hold(customer, slot)
    refused(customer.convert(other["id"], mode="external"), 403, "FORBIDDEN")
    answered(customer.release(other["id"]))

    reseller = a_reseller(system)
    sold = a_hold(reseller, slot)
    booking = answered(reseller.convert(sold["id"], mode="external"), 201)
    assert booking["outcome"] == {"type": "succeeded"}
    assert booking["status"] == "confirmed"
    assert booking["payment"]["status"] == "external"
    assert stripe.intents_of(sold["id"]) == []
