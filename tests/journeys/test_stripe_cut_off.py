"""What guests and operators see while Stripe is cut off, through both services as real processes."""

import time

from tests.answers import answered, eventually
from tests.builders import a_guest, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import System


def turn(system: System, action: str, name: str = "interactive") -> None:
    system.admin("payment", "POST", f"/breaker/{name}", json={"action": action, "reason": "a drill"})


def state(system: System, name: str = "interactive") -> str:
    shown = system.admin("payment", "GET", "/breaker")["data"]
    return next(str(one["state"]) for one in shown if one["name"] == name)


def test_converting_while_stripe_is_cut_off(system: System, stripe: Stripe) -> None:
    """S17: the seats stay, the answer says when to come again and comes at once; the same call goes on when it is over."""
    guest, slot = a_guest(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    turn(system, "open")
    try:
        began = time.perf_counter()
        answer = answered(guest.convert(hold["id"]), 201)
        took_ms = (time.perf_counter() - began) * 1000
        assert answer["status"] == "pending"
        assert answer["outcome"]["type"] == "payment_setup_failed"
        assert answer["outcome"]["retryable"] is True
        assert answer["outcome"]["retry_after_ms"] >= 1000, "what is left of the rest, not a guess"
        assert answer["outcome"]["error"]["retry_after_ms"] == answer["outcome"]["retry_after_ms"]
        assert stripe.intents_of(hold["id"]) == [], "nothing was sent"
        assert free_seats(system, slot) == 0
        tell(f"converting while Stripe is cut off took {took_ms:.0f} ms")
    finally:
        turn(system, "auto")
    assert stripe.pay(awaiting_payment(guest, hold["id"], within_s=15)).status_code == 200
    guest.wait_for(hold["id"], "confirmed")
    assert len(stripe.intents_of(hold["id"])) == 1
    fired("S17", 1)


def test_an_outage_opens_it_and_its_end_closes_it(system: System, stripe: Stripe) -> None:
    """S17, S20: guests who keep asking open it, one of their calls finds Stripe back, and each is booked once."""
    slot = a_slot(system, capacity=4)
    guests = [a_guest(system) for _ in range(4)]
    holds = [a_hold(guest, slot)["id"] for guest in guests]
    with stripe.fault("status", operation="payment_intents.create", status=500):
        for guest, hold_id in zip(guests, holds, strict=True):
            assert guest.convert(hold_id).is_success
        eventually(lambda: state(system), lambda seen: seen != "closed", within_s=10)
        fired("S20", 1)
    for guest, hold_id in zip(guests, holds, strict=True):
        assert stripe.pay(awaiting_payment(guest, hold_id, within_s=20)).status_code == 200
        guest.wait_for(hold_id, "confirmed")
        assert len(stripe.intents_of(hold_id)) == 1
    eventually(lambda: state(system), lambda seen: seen == "closed", within_s=10)
