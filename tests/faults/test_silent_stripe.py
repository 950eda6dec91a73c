"""Stripe says nothing, or a third less than it should: bookings end right all the same, and what was missed is found."""

import pytest

from tests.answers import eventually
from tests.builders import Guest, a_guest, a_hold, a_slot
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import System

_GUESTS = 10


@pytest.fixture
def paid(system: System, stripe: Stripe) -> list[tuple[Guest, str]]:
    """Guests on one slot, their holds not yet converted."""
    slot = a_slot(system, capacity=_GUESTS)
    guests = [a_guest(system) for _ in range(_GUESTS)]
    return [(guest, a_hold(guest, slot)["id"]) for guest in guests]


@pytest.mark.parametrize(("action", "share"), [("never", 1), ("lose", 1), ("lose", 3)])
def test_bookings_end_right_without_webhooks(
    system: System, stripe: Stripe, paid: list[tuple[Guest, str]], action: str, share: int
) -> None:
    """S26, C12: every event (or each third) is never made, or never delivered; nobody calls again, all are confirmed."""
    lost = paid[::share]
    for guest, hold_id in paid:
        if (guest, hold_id) in lost:
            with stripe.fault(action, event="*"):
                assert stripe.pay_for(guest, hold_id).status_code == 200
        else:
            assert stripe.pay_for(guest, hold_id).status_code == 200
    for guest, hold_id in paid:
        booking = guest.wait_for(hold_id, "confirmed", within_s=20)
        assert stripe.money_of(hold_id) == [booking["price"]["total"]["amount"]]
    fired("S26", len(lost))
    tell(f"webhooks {action}: {len(lost)} of {len(paid)} bookings without events, {len(paid)} confirmed")


def test_events_nobody_delivered_are_stored_all_the_same(system: System, stripe: Stripe) -> None:
    """I14, S26: a lost event is found in Stripe's list, stored without a delivery, and has its effect."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot)
    with stripe.fault("lose", event="*"):
        assert stripe.pay_for(guest, hold["id"]).status_code == 200
        guest.wait_for(hold["id"], "confirmed", within_s=20)
    events = stripe.event_ids_of(hold["id"])
    fired("S26", len(events))
    rows = eventually(
        lambda: [
            row
            for row in system.every("payment", "/webhook-events")
            if row["stripe_event_id"] in events and row["status"] == "processed"
        ],
        lambda rows: len(rows) >= 2,
        within_s=15,
    )
    assert {row["deliveries"] for row in rows} == {0}
