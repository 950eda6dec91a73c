"""The payment side is away, slow or restarted: seats stay the guest's, and the same call again is all a frontend needs."""

import signal
import threading

import httpx
import pytest

from tests.answers import answered, eventually, refused
from tests.builders import a_guest, a_hold, a_key, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.system import RECOVERY_S, SERVICES, Service, System


def test_converting_while_payment_service_is_down(system: System, stripe: Stripe) -> None:
    """S21, peers B4.52: convert answers 2xx with the seats kept; when payment_service is back, the same call goes on to the end."""
    guest, slot = a_guest(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    system.stack.stop("payment")

    answer = answered(guest.convert(hold["id"]), 201)
    assert answer["status"] == "pending"
    outcome = answer["outcome"]
    assert outcome["type"] in {"payment_setup_failed", "processing"}
    if outcome["type"] == "payment_setup_failed":
        assert outcome["retryable"] is True
        assert outcome["retry_after_ms"] > 0
        assert outcome["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert answered(guest.convert(hold["id"]))["outcome"]["type"] in {"payment_setup_failed", "processing"}
    assert free_seats(system, slot) == 0
    assert answered(guest.see(hold["id"]))["status"] == "pending"

    system.heal("payment")
    secret = awaiting_payment(guest, hold["id"])
    assert stripe.pay(secret).status_code == 200
    guest.wait_for(hold["id"], "confirmed")
    assert len(stripe.intents_of(hold["id"])) == 1
    assert stripe.captures_of(hold["id"]) == 1


def test_converting_while_stripe_is_down(system: System, stripe: Stripe) -> None:
    """S07, S17: Stripe answers 500 for a while; the guest keeps the seats, and one PaymentIntent comes of it."""
    guest, slot = a_guest(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    with stripe.fault("status", operation="payment_intents.create", status=500):
        answer = answered(guest.convert(hold["id"]), 201)
        assert answer["status"] == "pending"
        assert answer["outcome"]["type"] in {"payment_setup_failed", "processing"}
        assert free_seats(system, slot) == 0
    assert stripe.pay(awaiting_payment(guest, hold["id"], within_s=20)).status_code == 200
    guest.wait_for(hold["id"], "confirmed")
    assert stripe.captures_of(hold["id"]) == 1


def test_a_restart_of_both_services_keeps_everything(system: System, stripe: Stripe) -> None:
    """X11: holds, keys, pending and confirmed bookings are the same, byte for byte, after both services came back."""
    guest, slot, key = a_guest(system), a_slot(system, capacity=9), a_key()
    held = guest.hold(slot, 1, key=key)
    pending, confirmed = a_hold(guest, slot, 2), a_hold(guest, slot, 3)
    secret = awaiting_payment(guest, pending["id"])
    assert stripe.pay(awaiting_payment(guest, confirmed["id"])).status_code == 200
    guest.wait_for(confirmed["id"], "confirmed")
    before = [guest.see(booking["id"]).json() for booking in (pending, confirmed)]

    system.stack.stop("reservation")
    system.stack.stop("payment")
    system.heal("payment", "reservation")

    assert [guest.see(booking["id"]).json() for booking in (pending, confirmed)] == before
    assert guest.hold(slot, 1, key=key).content == held.content
    assert free_seats(system, slot) == 3
    assert stripe.pay(secret).status_code == 200
    guest.wait_for(pending["id"], "confirmed", within_s=RECOVERY_S)
    refused(a_guest(system).see(confirmed["id"]), 404, "RESERVATION_NOT_FOUND")


@pytest.mark.parametrize("service", SERVICES)
def test_stopping_with_a_request_in_flight_loses_nothing(system: System, stripe: Stripe, service: Service) -> None:
    """X11, L14: SIGTERM lets the conversion that is under way finish and answer, and refuses nobody half-way."""
    guest, slot = a_guest(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    answers: list[httpx.Response] = []
    with stripe.fault("delay_after", operation="payment_intents.create", delay_ms=1500):
        caller = threading.Thread(target=lambda: answers.append(guest.convert(hold["id"])))
        caller.start()
        eventually(lambda: stripe.intents_of(hold["id"]), bool)
        assert not answers, "the call was meant to be in flight"
        system.stack.stop(service)
        caller.join(timeout=15)
    assert system.exit_code(service) in {0, -signal.SIGTERM}
    assert len(answers) == 1, "the caller got no answer"
    assert answered(answers[0], 201)["outcome"]["type"] == "action_required"

    system.heal(service)
    assert stripe.pay(awaiting_payment(guest, hold["id"])).status_code == 200
    guest.wait_for(hold["id"], "confirmed")
    assert len(stripe.intents_of(hold["id"])) == 1
