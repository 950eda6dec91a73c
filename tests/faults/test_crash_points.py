"""Each service dies once at a durable boundary of the booking path; the same calls again end in one paid booking."""

import httpx
import pytest

from tests.answers import answered
from tests.builders import DECLINED_CARD, a_customer, a_key, a_slot, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.faults.planted_crash import PlantedCrash
from tests.scenarios import fired
from tests.system import RECOVERY_S, Service, System

# Where the service dies, and which scenario that is.
BOOKING_PATH: list[tuple[Service, str, str]] = [
    ("reservation", "lock_slots.after", "C03"),
    ("reservation", "flush_holds.before", "C01"),
    ("reservation", "flush_holds.after", "C02"),
    ("reservation", "start_saga.after_commit", "C04"),
    ("reservation", "create_payment_intent.after", "C05"),
    ("reservation", "payment_signal.after_commit", "C19"),
    ("reservation", "capture_payment.after", "C08"),
    ("payment", "admit_payment.after_commit", "C06"),
    ("payment", "create_payment_intent.after", "C07"),
    ("payment", "store_event.before_commit", "C13"),
    ("payment", "store_event.after_commit", "C12"),
    ("payment", "apply_event.before_commit", "C14"),
    ("payment", "post_payment_event.after", "C19"),
]

# What happens only to events that Stripe is asked about: a decline is one, an authorisation is settled at the door.
ASKED_ABOUT = ("apply_event.before_commit",)


def was_created(answer: httpx.Response) -> bool:
    return answer.status_code == 201


def awaits_payment(answer: httpx.Response) -> bool:
    return answer.status_code in {200, 201} and answer.json()["outcome"]["type"] == "action_required"


def is_confirmed(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["status"] == "confirmed"


@pytest.mark.parametrize(("service", "point", "scenario"), BOOKING_PATH, ids=str)
def test_a_booking_survives_a_crash(
    system: System, stripe: Stripe, service: Service, point: str, scenario: str
) -> None:
    """C01..C08, C12..C14, C19, peers B2.21, B2.22: the service dies there once; the same calls again end in one paid booking."""
    guest, slot, key = a_customer(system), a_slot(system, capacity=2), a_key()
    crash = PlantedCrash(system, service, point)

    hold = crash.through(lambda: guest.hold(slot, 2, key=key), was_created, within_s=RECOVERY_S).json()
    pending = crash.through(lambda: guest.convert(hold["id"]), awaits_payment, within_s=RECOVERY_S).json()
    secret = pending["outcome"]["client_secret"]
    if point in ASKED_ABOUT:
        assert stripe.pay(secret, card=DECLINED_CARD).status_code == 402
        crash.assert_fired()
    assert stripe.pay(secret).status_code == 200
    crash.through(lambda: guest.see(hold["id"]), is_confirmed, within_s=RECOVERY_S)
    crash.assert_fired()

    booking = guest.wait_for(hold["id"], "confirmed")
    assert booking["payment"]["status"] == "captured"
    assert stripe.money_of(hold["id"]) == [booking["price"]["total"]["amount"]]
    assert stripe.captures_of(hold["id"]) == 1
    assert free_seats(system, slot) == 0
    assert answered(guest.convert(hold["id"]))["outcome"] == {"type": "succeeded"}
    fired(scenario, 1)
