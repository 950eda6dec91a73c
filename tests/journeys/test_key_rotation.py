"""The key between the services is changed while guests book: added everywhere, put first, then the old one taken away."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.answers import refused_as
from tests.builders import Slot, a_customer, a_hold, a_key, a_slot, awaiting_payment
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.system import SERVICES, System

_NAME = "INTERNAL_SIGNING_KEYS"
# What either service logs when the other one does not believe it.
_REFUSED = ("payment_service_refuses_us", "INTERNAL_SIGNATURE_INVALID", "HTTP_401")


class Guests:
    """Three guests who hold, pay and hold again, for as long as the door is open."""

    def __init__(self, system: System, stripe: Stripe, slot: Slot) -> None:
        self._system = system
        self._stripe = stripe
        self._slot = slot
        self._closed = threading.Event()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    @contextmanager
    def coming(self) -> Iterator["Guests"]:
        threads = [threading.Thread(target=self._come) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            for thread in threads:
                thread.join()

    def _come(self) -> None:
        while not self._closed.is_set():
            try:
                self._book()
            except httpx.TransportError:
                self.counts["came while a service was starting"] += 1
                self._closed.wait(0.1)
            except (AssertionError, pytest.fail.Exception) as error:
                self.errors.append(str(error)[:500])

    def _book(self) -> None:
        guest = a_customer(self._system)
        hold_id = a_hold(guest, self._slot)["id"]
        secret = self._patiently(lambda: awaiting_payment(guest, hold_id, within_s=20))
        assert self._stripe.pay(secret).status_code == 200
        self._patiently(lambda: guest.wait_for(hold_id, "confirmed", within_s=20))
        self.counts["confirmed"] += 1

    def _patiently(self, ask):  # noqa: ANN001, ANN202  whatever it is that is asked
        """Ask again when nobody picks up: the same call is the only retry that a guest needs."""
        for _ in range(300):
            try:
                return ask()
            except httpx.TransportError:
                time.sleep(0.2)
        return pytest.fail("nobody came back")


def _start_anew(system: System, keys: str) -> None:
    for service in SERVICES:
        system.stack.launch(service, env={_NAME: keys})
    for service in SERVICES:
        system.stack.wait_ready(service)


@pytest.mark.timeout(300)
def test_the_internal_key_is_rotated_under_load(system: System, stripe: Stripe) -> None:
    """X04: three steps, both services started anew at each; every booking is confirmed and no signature is refused."""
    old = system.setting_of("payment", _NAME)
    new = "rotated:a-key-that-nobody-has-seen-before"
    guests = Guests(system, stripe, a_slot(system, capacity=10_000))
    try:
        with guests.coming():
            for keys in (f"{old},{new}", f"{new},{old}", new):
                _start_anew(system, keys)
        assert not guests.errors, guests.errors[:3]
        assert guests.counts["confirmed"] > 0
        log = "".join(system.stack.log_tail(service, lines=1_000_000) for service in SERVICES)
        assert not [word for word in _REFUSED if word in log]
        forged = {"payment_id": a_key(), "reservation_id": a_key(), "generation": 1, "amount": 1, "currency": "EUR"}
        answer = system.call("payment", "POST", "/internal/v1/payments", key=a_key(), json=forged)
        refused_as(answer, (401, "INTERNAL_SIGNATURE_INVALID"))
    finally:
        _start_anew(system, old)
    tell(f"key rotation confirmed={guests.counts['confirmed']} refused signatures=0 errors={len(guests.errors)}")
