"""What a guest can and cannot change by converting again, and how a booking ends that nobody pays, or nobody has to."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.embedded.stack import Stack
from tests.answers import answered, eventually, refused
from tests.builders import a_guest, a_hold, a_key, a_reseller, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

PAYMENT_WINDOW_S = 2


@pytest.fixture(scope="module")
def hasty_door(stack: Stack) -> Iterator[str]:
    """A second process of reservation_service that gives guests two seconds to pay."""
    name = stack.add_replica("reservation", env={"PAYMENT_WINDOW_SECONDS": str(PAYMENT_WINDOW_S)})
    yield name
    stack.stop(name)


def test_a_booking_that_nobody_pays_fails_and_can_be_begun_again(
    system: System, stripe: Stripe, hasty_door: str
) -> None:
    """S12, I11, peers B4.58, B5.71: at the deadline the PaymentIntent is cancelled, then the seats go back; the first call renews the hold."""
    guest, slot, key = replace(a_guest(system), door=hasty_door), a_slot(system, capacity=1), a_key()
    old = a_hold(guest, slot, key=key)
    awaiting_payment(guest, old["id"])
    assert free_seats(system, slot) == 0

    failed = guest.wait_for(old["id"], "failed", within_s=PAYMENT_WINDOW_S + 8)
    assert failed["payment"]["status"] == "canceled"
    assert stripe.statuses_of(old["id"]) == ["canceled"]
    assert free_seats(system, slot) == 1
    assert answered(guest.convert(old["id"]))["outcome"] == {"type": "closed", "status": "failed"}

    renewed = guest.hold(slot, key=key)
    new = answered(renewed, 201)
    assert renewed.headers["idempotency-renewed"] == "true"
    assert new["supersedes"] == old["id"]
    assert stripe.pay_for(replace(guest, door="reservation"), new["id"]).status_code == 200
    guest.wait_for(new["id"], "confirmed")


def test_a_free_booking_skips_payment(system: System, stripe: Stripe) -> None:
    """A total of zero is confirmed by the convert call itself, and Stripe never hears of it."""
    guest, slot = a_guest(system), a_slot(system, price_minor=0)
    hold = a_hold(guest, slot, seats=3)
    booking = answered(guest.convert(hold["id"]), 201)
    assert booking["status"] == "confirmed"
    assert booking["outcome"] == {"type": "succeeded"}
    assert booking["payment"]["status"] == "none"
    assert stripe.intents_of(hold["id"]) == []


@pytest.mark.parametrize(("currency", "price_minor"), [("JPY", 500), ("KWD", 1230)])
def test_minor_units_are_the_currencys_own(system: System, stripe: Stripe, currency: str, price_minor: int) -> None:
    """V04: yen have no decimals and dinars three; what the guest was shown is what Stripe is asked for."""
    guest, slot = a_guest(system), a_slot(system, price_minor=price_minor, currency=currency)
    hold = a_hold(guest, slot, seats=2)
    assert hold["price"]["total"] == {"amount": 2 * price_minor, "currency": currency}
    assert stripe.pay_for(guest, hold["id"]).status_code == 200
    guest.wait_for(hold["id"], "confirmed")
    (intent,) = stripe.intents_of(hold["id"])
    assert (intent["currency"], intent["captured"]) == (currency.lower(), 2 * price_minor)


def test_an_amount_that_no_card_can_pay_is_refused_at_the_hold(system: System) -> None:
    """V04: Stripe's minimum is checked before anybody waits for a seat, and nothing is taken."""
    guest, slot = a_guest(system), a_slot(system, price_minor=10)
    refused(guest.hold(slot), 422, "AMOUNT_TOO_SMALL")
    assert free_seats(system, slot) == slot.capacity


def test_a_party_beyond_the_experience_is_refused(system: System) -> None:
    """An experience says how many may come together."""
    guest, slot = a_guest(system), a_slot(system, max_party=4)
    refused(guest.hold(slot, 5), 422, "PARTY_SIZE_INVALID")
    a_hold(guest, slot, 4)


def test_a_new_key_corrects_the_name_and_nothing_else(system: System, stripe: Stripe) -> None:
    """V07: the same key with another body is refused; a new key may correct the customer while pending, not the mode."""
    reseller, slot = a_reseller(system), a_slot(system)
    hold = a_hold(reseller, slot)
    secret = awaiting_payment(reseller, hold["id"])
    refused(reseller.convert(hold["id"], name="Ada Other"), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(reseller.convert(hold["id"], key="other-mode", mode="external"), 409, "PAYMENT_MODE_FIXED")

    corrected = answered(reseller.convert(hold["id"], key="corrected", name="Ada Corrected"))
    assert corrected["customer"]["name"] == "Ada Corrected"
    assert corrected["outcome"]["client_secret"] == secret
    assert stripe.pay(secret).status_code == 200
    assert reseller.wait_for(hold["id"], "confirmed")["customer"]["name"] == "Ada Corrected"


def test_what_has_not_changed_is_not_sent_again(system: System) -> None:
    """ETag and If-None-Match spare a poll its body on slots, holds and reservations, until something changes."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot)
    answered(guest.convert(hold["id"]), 201)
    paths = [f"/v1/time-slots/{slot.id}", f"/v1/holds/{hold['id']}", f"/v1/reservations/{hold['id']}"]
    tags = {path: guest.ask("GET", path).headers["etag"] for path in paths}
    for path, tag in tags.items():
        again = guest.ask("GET", path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
    a_hold(guest, slot)
    changed = eventually(
        lambda: guest.ask("GET", paths[0], headers={"If-None-Match": tags[paths[0]]}),
        lambda answer: answer.status_code == 200,
    )
    assert answered(changed)["available"] == slot.capacity - 2


def test_a_guest_lists_only_their_own_bookings(system: System) -> None:
    """X01: the list shows what this caller converted, newest first and in pages, and nobody else's."""
    guest, slot = a_guest(system), a_slot(system)
    mine = [a_hold(guest, slot)["id"] for _ in range(3)]
    other = a_guest(system)
    for booking_id in mine:
        answered(guest.convert(booking_id), 201)
    answered(other.convert(a_hold(other, slot)["id"]), 201)
    a_hold(guest, slot)

    first = answered(guest.ask("GET", "/v1/reservations?limit=2"))
    rest = answered(guest.ask("GET", f"/v1/reservations?limit=2&starting_after={first['next_cursor']}"))
    assert first["has_more"] is True
    assert rest["has_more"] is False
    assert rest["next_cursor"] is None
    assert [booking["id"] for booking in first["data"] + rest["data"]] == mine[::-1]
