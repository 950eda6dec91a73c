"""Guests pay when their time is over: through both services as real processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from reservation_service.settings import ReservationSettings
from tests.answers import answered, eventually
from tests.builders import Guest, Slot, a_guest, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

_WINDOW_S = 4
_QUICK = {
    "PAYMENT_WINDOW_SECONDS": str(_WINDOW_S),
    "UNKNOWN_GRACE_SECONDS": "0",
    "ASYNC_PAYMENT_MAX_SECONDS": "120",  # for money that is on its way, and for no other
}


@dataclass(frozen=True)
class Late:
    """A guest whose booking failed, and who paid after that."""

    guest: Guest
    hold: Any
    slot: Slot


@pytest.fixture(scope="module")
def hurried(stack_system: System) -> Iterator[None]:
    """Payment windows of a few seconds, and no patience with payments that cannot be cancelled."""
    usual = {name: str(ReservationSettings.model_fields[name.lower()].default) for name in _QUICK}
    stack_system.stack.restart("reservation", env=_QUICK)
    yield
    stack_system.stack.restart("reservation", env=usual)


@pytest.fixture
def late(hurried: None, system: System, stripe: Stripe) -> Iterator[dict[str, Late]]:
    """Stripe cancels nothing for a while: two bookings fail with their payments alive, and then both guests pay."""
    slots = {"free": a_slot(system, capacity=1), "resold": a_slot(system, capacity=1, capture_method="automatic")}
    guests = {name: a_guest(system) for name in slots}
    holds = {name: a_hold(guests[name], slot) for name, slot in slots.items()}
    with stripe.fault("status", operation="payment_intents.cancel", status=400):
        secrets = {name: awaiting_payment(guests[name], hold["id"]) for name, hold in holds.items()}
        for name, hold in holds.items():
            guests[name].wait_for(hold["id"], "failed", within_s=15)
            assert free_seats(system, slots[name]) == 1
        a_hold(a_guest(system), slots["resold"])
        for secret in secrets.values():
            assert stripe.pay(secret).status_code == 200
        yield {name: Late(guests[name], holds[name], slots[name]) for name in slots}


def test_paying_late(system: System, stripe: Stripe, late: dict[str, Late]) -> None:
    """T03, T04, W19: seats still free: booked after all; seats resold: refunded in full, once. Both guests are told.

    Peers B3, B4 (61..63). The seats that were resold stay with who has them.
    """
    free, resold = late["free"], late["resold"]
    booking = free.guest.wait_for(free.hold["id"], "confirmed", within_s=20)
    assert booking["notices"] == ["rebooked"]
    assert stripe.captures_of(free.hold["id"]) == 1
    assert stripe.money_of(free.hold["id"]) == [booking["price"]["total"]["amount"]]
    assert free_seats(system, free.slot) == 0
    booking = eventually(
        lambda: answered(resold.guest.see(resold.hold["id"])),
        lambda seen: seen["payment"]["status"] == "refunded",
        within_s=20,
    )
    assert (booking["status"], booking["notices"]) == ("failed", ["refunded_resold"])
    assert booking["payment"]["refunded"] == booking["payment"]["captured"] == resold.hold["price"]["total"]
    assert stripe.money_of(resold.hold["id"]) == [0]
    assert free_seats(system, resold.slot) == 0
    story = answered(free.guest.ask("GET", f"/v1/reservations/{free.hold['id']}/timeline"))
    assert story["partial"] is False
    told = [(line["service"], line["what"]) for line in story["data"]]
    for wanted in (("reservation", "failed"), ("reservation", "confirmed"), ("payment", "captured")):
        assert wanted in told, told


def test_a_debit_takes_longer_than_the_window(system: System, stripe: Stripe, hurried: None) -> None:
    """S14: money that is on its way keeps its seats past window and grace; it arrives: confirmed; it comes back: free."""
    slots = [a_slot(system, capacity=1, capture_method="automatic") for _ in range(2)]
    guests = [a_guest(system) for _ in slots]
    bookings = [a_hold(guest, slot)["id"] for guest, slot in zip(guests, slots, strict=True)]
    debits = [
        stripe.pay_by_debit(awaiting_payment(guest, booking)) for guest, booking in zip(guests, bookings, strict=True)
    ]
    deadline = monotonic() + _WINDOW_S
    for guest, booking in zip(guests, bookings, strict=True):
        eventually(lambda: answered(guest.see(booking)), _is_processing, within_s=10)  # noqa: B023  asked at once
    eventually(monotonic, lambda now: now > deadline + 2, within_s=_WINDOW_S + 5)
    for guest, booking, slot in zip(guests, bookings, slots, strict=True):
        shown = answered(guest.see(booking))
        assert (shown["status"], _is_processing(shown), free_seats(system, slot)) == ("pending", True, 0)
        assert a_guest(system).hold(slot).status_code == 409
    for debit, arrives in zip(debits, (True, False), strict=True):
        stripe.settle(debit, succeeded=arrives)
    price = guests[0].wait_for(bookings[0], "confirmed", within_s=20)["price"]["total"]["amount"]
    guests[1].wait_for(bookings[1], "failed", within_s=20)
    assert [stripe.money_of(booking) for booking in bookings] == [[price], [0]]
    assert [free_seats(system, slot) for slot in slots] == [0, 1]
    assert stripe.statuses_of(bookings[1]) == ["canceled"]


def _is_processing(shown: Any) -> bool:
    return bool(shown["payment"]["status"] == "processing")
