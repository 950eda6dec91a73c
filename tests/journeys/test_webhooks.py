"""Stripe's messages come twice, late, or before the answer they belong to: a booking is paid once and confirmed once."""

from typing import Any

import pytest

from tests.answers import answered, eventually
from tests.builders import a_guest, a_hold, a_slot, awaiting_payment
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System


def test_every_webhook_comes_twice(system: System, stripe: Stripe) -> None:
    """W01: each event has one row however often it comes, and a booking that was confirmed stays as it is."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot)
    with stripe.fault("double", event="*"):
        assert stripe.pay(awaiting_payment(guest, hold["id"])).status_code == 200
        guest.wait_for(hold["id"], "confirmed")
    assert stripe.captures_of(hold["id"]) == 1
    events = stripe.event_ids_of(hold["id"])
    assert len(events) >= 2
    rows = eventually(
        lambda: stored(system, events),
        lambda rows: {row["status"] for row in rows} <= {"processed", "ignored"} and len(rows) == len(events),
    )
    assert max(row["deliveries"] for row in rows) >= 2

    before = answered(guest.see(hold["id"]))
    for event_id in events:
        stripe.redeliver(event_id)
    deliveries = sum(row["deliveries"] for row in rows)
    eventually(lambda: deliveries_of(system, events), lambda now: now >= deliveries + len(events))
    assert answered(guest.see(hold["id"])) == before
    assert stripe.captures_of(hold["id"]) == 1
    assert len(stored(system, events)) == len(events)


@pytest.mark.parametrize("operation", ["create", "confirm", "capture"])
def test_a_webhook_overtakes_the_answer(system: System, stripe: Stripe, operation: str) -> None:
    """W05, peers B2.37: the event of a call arrives while its caller still waits for the answer; nothing is lost or doubled."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot)
    with stripe.fault("webhook_first", operation=f"payment_intents.{operation}"):
        assert stripe.pay(awaiting_payment(guest, hold["id"])).status_code == 200
        booking = guest.wait_for(hold["id"], "confirmed", within_s=15)
    assert booking["payment"]["captured"] == booking["price"]["total"]
    assert stripe.captures_of(hold["id"]) == 1
    events = stripe.event_ids_of(hold["id"])
    settled = eventually(
        lambda: {row["status"] for row in stored(system, events)},
        lambda statuses: statuses <= {"processed", "ignored"} and bool(statuses),
    )
    assert "dead" not in settled


def test_webhooks_that_never_come(system: System, stripe: Stripe) -> None:
    """S26: the guest's own convert call asks Stripe, so a payment shows although no message ever arrives."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot)
    secret = awaiting_payment(guest, hold["id"])
    with stripe.webhooks_held_back():
        assert stripe.pay(secret).status_code == 200
        eventually(
            lambda: answered(guest.convert(hold["id"])),
            lambda seen: seen["outcome"] == {"type": "succeeded"},
            within_s=10,
            every_s=0.3,
        )
        assert stripe.captures_of(hold["id"]) == 1


def stored(system: System, events: set[str]) -> list[dict[str, Any]]:
    """Return the rows that payment_service keeps about these events of Stripe's."""
    return [row for row in system.every("payment", "/webhook-events") if row["stripe_event_id"] in events]


def deliveries_of(system: System, events: set[str]) -> int:
    return sum(row["deliveries"] for row in stored(system, events))
