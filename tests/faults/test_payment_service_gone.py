"""payment_service is gone for longer than any guest has to pay, and every booking ends right all the same.

An hour outlasts the payment window and the grace after it, and so does this outage: here they are a few seconds.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from reservation_service.settings import ReservationSettings
from tests.answers import answered, eventually
from tests.builders import Guest, Slot, a_guest, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import RECOVERY_S, System

WINDOW_S, GRACE_S = 4, 1
_PERIODS = ("payment_window_seconds", "unknown_grace_seconds")


@pytest.fixture
def short_window(system: System) -> Iterator[None]:
    """Let guests pay within four seconds instead of a quarter of an hour; afterwards as before."""
    before = {name.upper(): str(ReservationSettings.model_fields[name].default) for name in _PERIODS}
    short = zip(before, (str(WINDOW_S), str(GRACE_S)), strict=True)
    system.stack.restart("reservation", env=dict(short))
    yield
    system.stack.restart("reservation", env=before)


def reserved_but_not_captured(system: System, stripe: Stripe, guest: Guest, hold: Any) -> None:
    """Let the guest's bank reserve the money, and payment_service go away while it tries to capture it."""
    with stripe.fault("status", operation="payment_intents.capture", status=500):
        assert stripe.pay(awaiting_payment(guest, hold["id"])).status_code == 200
        eventually(stripe.faults_met, bool)
        system.stack.stop("payment")
    assert stripe.statuses_of(hold["id"]) == ["requires_capture"]


def assert_ended_right(stripe: Stripe, guest: Guest, hold: Any, slot: Slot) -> str:
    """The guest has paid and has the seat, or has neither; return the status."""
    booking = eventually(
        lambda: answered(guest.see(hold["id"])),
        lambda seen: seen["status"] == "confirmed" or stripe.statuses_of(hold["id"]) in ([], ["canceled"]),
        within_s=RECOVERY_S,
    )
    confirmed = booking["status"] == "confirmed"
    assert booking["status"] in {"confirmed", "failed"}
    assert sum(stripe.money_of(hold["id"])) == (hold["price"]["total"]["amount"] if confirmed else 0)
    assert free_seats(guest.system, slot) == (0 if confirmed else 1)
    return str(booking["status"])


@pytest.mark.usefixtures("short_window")
def test_an_hour_without_payment_service(system: System, stripe: Stripe) -> None:
    """S21, S12, I6, I11: paid before, paid meanwhile, not paid at all: each booking is confirmed, or free of charge."""
    slots = [a_slot(system, capacity=1) for _ in range(3)]
    guests = [a_guest(system) for _ in slots]
    holds = [a_hold(guest, slot) for guest, slot in zip(guests, slots, strict=True)]
    secret = awaiting_payment(guests[1], holds[1]["id"])
    reserved_but_not_captured(system, stripe, guests[0], holds[0])
    gone = answered(guests[2].convert(holds[2]["id"]), 201)
    assert gone["outcome"]["type"] in {"payment_setup_failed", "processing"}
    assert stripe.pay(secret).status_code == 200

    for guest, hold in list(zip(guests, holds, strict=True))[1:]:
        guest.wait_for(hold["id"], "failed", within_s=WINDOW_S + GRACE_S + RECOVERY_S)
    assert [free_seats(system, slot) for slot in slots] == [0, 1, 1], (
        "who has paid keeps the seat, the others can be had"
    )
    assert system.exit_code("payment") is not None
    fired("S21", len(holds))

    system.heal("payment")
    ends = [assert_ended_right(stripe, *one) for one in zip(guests, holds, slots, strict=True)]
    assert ends[0] == "confirmed"
    assert stripe.captures_of(holds[0]["id"]) == 1
    assert ends[2] == "failed"
    outlasted = f"payment window of {WINDOW_S} s and its grace of {GRACE_S} s"
    tell(f"payment_service gone for longer than the {outlasted}: {len(ends)} bookings ended right: {', '.join(ends)}")
