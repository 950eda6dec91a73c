"""A service is killed between the guest's authorisation and our capture: the booking is confirmed soon after the restart."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.answers import answered
from tests.builders import Guest, a_customer, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import RECOVERY_S, Service, System


def assert_booked_once(system: System, stripe: Stripe, guest: Guest, hold: Any) -> None:
    """Wait as long as a recovery may take; then one booking, one PaymentIntent, one capture of the whole amount."""
    began = time.monotonic()
    booking = guest.wait_for(hold["id"], "confirmed", within_s=RECOVERY_S)
    tell(f"confirmed {time.monotonic() - began:.1f} s after the restart (allowed: {RECOVERY_S} s)")
    assert booking["payment"]["status"] == "captured"
    assert booking["payment"]["captured"] == hold["price"]["total"]
    assert stripe.captures_of(hold["id"]) == 1
    assert stripe.money_of(hold["id"]) == [hold["price"]["total"]["amount"]]
    assert answered(guest.convert(hold["id"]))["outcome"] == {"type": "succeeded"}


@pytest.mark.parametrize("victims", [("reservation",), ("payment",), ("payment", "reservation")], ids="+".join)
def test_killed_before_the_card_is_confirmed(system: System, stripe: Stripe, victims: Sequence[Service]) -> None:
    """C08, C17: the guest's card is authorised while a service is dead; whoever comes back finishes the booking."""
    guest, slot = a_customer(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    secret = awaiting_payment(guest, hold["id"])
    for victim in victims:
        system.stack.kill(victim)
        system.assert_crashed(victim)
    assert stripe.pay(secret).status_code == 200
    assert stripe.statuses_of(hold["id"]) == ["requires_capture"]
    system.heal(*victims)
    assert_booked_once(system, stripe, guest, hold)
    assert free_seats(system, slot) == 0
    fired("C08", len(victims))
    fired("C17", len(victims))


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("reservation", "capture_payment.before"),
        ("payment", "capture_payment_intent.before"),
        ("payment", "capture_payment_intent.after"),
    ],
)
def test_killed_between_authorisation_and_capture(system: System, stripe: Stripe, victim: Service, point: str) -> None:
    """C08, peers B3.42: dead exactly there, nobody asks again, and the booking is confirmed within the lease and 15 s of the restart."""
    guest, slot = a_customer(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    secret = awaiting_payment(guest, hold["id"])
    system.crash_at(victim, point)
    assert stripe.pay(secret).status_code == 200
    system.assert_crashed(victim)
    assert stripe.statuses_of(hold["id"]) == ["succeeded" if point.endswith(".after") else "requires_capture"]
    system.heal(victim)
    assert_booked_once(system, stripe, guest, hold)
    fired("C08", 1)
