"""The key between the services is changed while guests book: added everywhere, put first, then the old one taken away."""

import pytest

from tests.answers import refused_as
from tests.builders import a_key, a_slot
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.journeys.steady_guests import SteadyGuests
from tests.system import SERVICES, System

_NAME = "INTERNAL_SIGNING_KEYS"
# What either service logs when the other one does not believe it.
_REFUSED = ("payment_service_refuses_us", "INTERNAL_SIGNATURE_INVALID", "HTTP_401")


def _start_anew(system: System, keys: str) -> None:
    for service in SERVICES:
        system.stack.launch(service, env={_NAME: keys})
    for service in SERVICES:
        system.stack.wait_ready(service)


@pytest.mark.timeout(300)
def test_the_internal_key_is_rotated_under_load(system: System, stripe: Stripe) -> None:
    """X04: three steps, both services started anew at each; every booking is confirmed, no call and no signature refused."""
    old = system.setting_of("payment", _NAME)
    new = "rotated:a-key-that-nobody-has-seen-before"
    guests = SteadyGuests(system, stripe, a_slot(system, capacity=10_000))
    try:
        with guests.coming():
            for keys in (f"{old},{new}", f"{new},{old}", new):
                _start_anew(system, keys)
                guests.wait_for(1)
        assert not guests.errors, guests.errors[:3]
        assert len(guests.confirmed) >= 3
        log = "".join(system.stack.log_tail(service, lines=1_000_000) for service in SERVICES)
        assert not [word for word in _REFUSED if word in log]
        forged = {"payment_id": a_key(), "reservation_id": a_key(), "generation": 1, "amount": 1, "currency": "EUR"}
        answer = system.call("payment", "POST", "/internal/v1/payments", key=a_key(), json=forged)
        refused_as(answer, (401, "INTERNAL_SIGNATURE_INVALID"))
    finally:
        _start_anew(system, old)
    again = sum(guests.counts.values())
    tell(f"key rotation confirmed={len(guests.confirmed)} asked again={again} refused signatures=0 sent away=0")
