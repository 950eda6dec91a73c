"""Each wire of the system is bad for a moment: slow, silent, torn, or losing answers. The same calls end in one booking."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from tests.answers import eventually
from tests.builders import a_customer, a_hold, a_slot
from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, RESET, Fault, FaultProxy, cut_after, latency
from tests.doubles.stripe_sandbox import Stripe
from tests.scenarios import fired
from tests.system import RECOVERY_S, Service, System

_BAD_FOR_S = 1.0


@dataclass(frozen=True)
class Wire:
    """From one process to what it depends on; `setting` is where the process learns the address."""

    service: Service
    setting: str

    @property
    def name(self) -> str:
        return f"{self.service}.{self.setting}"


WIRES = (
    Wire("reservation", "PAYMENT_SERVICE_URL"),
    Wire("reservation", "RESERVATION_DATABASE_URL"),
    Wire("payment", "STRIPE_API_BASE"),
    Wire("payment", "PAYMENT_DATABASE_URL"),
    Wire("payment", "RESERVATION_SERVICE_URL"),
)
FAULTS = {
    "slow": latency(0.15),
    "silent": BLACK_HOLE,
    "torn": RESET,
    "answers lost": LOSE_RESPONSE,
    "answers cut": cut_after(40),
}


_SCENARIOS = {
    ("PAYMENT_SERVICE_URL", BLACK_HOLE): ("S21",),
    ("PAYMENT_SERVICE_URL", LOSE_RESPONSE): ("S22",),
    ("STRIPE_API_BASE", LOSE_RESPONSE): ("S01", "S02"),
    ("RESERVATION_DATABASE_URL", BLACK_HOLE): ("P08",),
    ("RESERVATION_DATABASE_URL", LOSE_RESPONSE): ("P02",),
    ("PAYMENT_DATABASE_URL", BLACK_HOLE): ("P08",),
    ("PAYMENT_DATABASE_URL", LOSE_RESPONSE): ("P02",),
}


def awaits_payment(answer: httpx.Response) -> bool:
    return answer.is_success and answer.json()["outcome"]["type"] == "action_required"


def is_confirmed(answer: httpx.Response) -> bool:
    return answer.is_success and answer.json()["status"] == "confirmed"


@pytest.fixture(scope="module", params=WIRES, ids=lambda wire: wire.name)
def proxy(request: pytest.FixtureRequest, stack_system: System) -> Iterator[FaultProxy]:
    """One wire goes through a proxy for a while; afterwards it is as it was."""
    wire: Wire = request.param
    straight = stack_system.setting_of(wire.service, wire.setting)
    address = urlsplit(straight)
    assert address.port is not None
    with FaultProxy(address.port) as between:
        netloc = address.netloc.replace(f":{address.port}", f":{between.port}")
        stack_system.stack.restart(wire.service, env={wire.setting: urlunsplit(address._replace(netloc=netloc))})
        yield between
        stack_system.stack.restart(wire.service, env={wire.setting: straight})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_booking_survives_a_bad_wire(
    system: System, stripe: Stripe, proxy: FaultProxy, fault: Fault, request: pytest.FixtureRequest
) -> None:
    """P02, P08, S01, S02, S21, S22: one paid booking, one capture, whichever wire was bad while it was made."""
    guest, slot = a_customer(system), a_slot(system, capacity=1)
    hold = a_hold(guest, slot)
    before = proxy.fired

    proxy.inject(fault)
    impatient = guest.convert_within(hold["id"], _BAD_FOR_S)  # whatever comes of it, the guest will ask again
    proxy.heal()
    asked = eventually(lambda: guest.convert(hold["id"]), awaits_payment, within_s=RECOVERY_S)
    secret = asked.json()["outcome"]["client_secret"]

    proxy.inject(fault)
    assert stripe.pay(secret).status_code == 200
    eventually(lambda: proxy.fired, lambda fired: fired > before, within_s=5)
    proxy.heal()
    booking = eventually(lambda: guest.see(hold["id"]), is_confirmed, within_s=RECOVERY_S).json()

    assert booking["payment"]["captured"] == hold["price"]["total"], impatient
    assert stripe.captures_of(hold["id"]) == 1
    assert stripe.money_of(hold["id"]) == [hold["price"]["total"]["amount"]]
    wire: Wire = request.node.callspec.params["proxy"]
    for scenario in _SCENARIOS.get((wire.setting, fault), ()):
        fired(scenario, proxy.fired - before)
