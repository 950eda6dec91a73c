"""The wires behind the services: Redis is cut off, calls between them are heard and repeated, a provider's keys are read."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.embedded.stack import Stack
from tests.answers import answered, eventually, refused
from tests.builders import Guest, a_guest, a_hold, a_slot
from tests.doubles.eavesdropper import Eavesdropper, Heard
from tests.doubles.fault_proxy import BLACK_HOLE, RESET, Fault, FaultProxy
from tests.doubles.identity_provider import IdentityProvider
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import SERVICES, Service, System

_EVENTS = "/internal/v1/payment-events"
_PROBES = {"/livez": "alive", "/startupz": "started", "/readyz": "ready"}


@dataclass(frozen=True)
class Wires:
    """What both services use while a test of this page runs."""

    redis: FaultProxy
    to: dict[Service, Eavesdropper]  # each is on the wire of the other service's calls
    provider: IdentityProvider


@pytest.fixture(scope="module")
def wires(stack: Stack, redis_url: str) -> Iterator[Wires]:
    """Both services started anew behind these wires, and afterwards as they were."""
    names = {"PAYMENT_SERVICE_URL", "RESERVATION_SERVICE_URL", "REDIS_URL", "AUTH_JWKS_URL"}
    before = {name: {each: stack._parts[name].env.get(each, "") for each in names} for name in SERVICES}  # type: ignore[attr-defined]
    with ExitStack() as open_wires:
        to = {name: open_wires.enter_context(Eavesdropper(_port(stack.url(name)))) for name in SERVICES}
        redis = open_wires.enter_context(FaultProxy(_port(redis_url)))
        provider = open_wires.enter_context(IdentityProvider())
        peers = {f"{name.upper()}_SERVICE_URL": f"http://127.0.0.1:{ear.port}" for name, ear in to.items()}
        others = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "AUTH_JWKS_URL": provider.url}
        _start_anew(stack, dict.fromkeys(SERVICES, peers | others))
        yield Wires(redis, to, provider)
        _start_anew(stack, before)


def _port(url: str) -> int:
    return urlsplit(url).port or 1  # where the machine has no Redis, it is away from the start


def _start_anew(stack: Stack, env: dict[Service, dict[str, str]]) -> None:
    for service in SERVICES:
        stack.launch(service, env=env[service])
    for service in SERVICES:
        stack.wait_ready(service)


def _a_booking(system: System, stripe: Stripe) -> tuple[Guest, str]:
    guest = a_guest(system)
    hold_id: str = a_hold(guest, a_slot(system, capacity=1))["id"]
    assert stripe.pay_for(guest, hold_id).status_code == 200
    guest.wait_for(hold_id, "confirmed")
    return guest, hold_id


@pytest.mark.parametrize("fault", [RESET, BLACK_HOLE], ids=["refuses", "is silent"])
def test_without_redis_both_services_are_ready_and_speak(
    system: System, stripe: Stripe, wires: Wires, fault: Fault
) -> None:
    """R01, R02: all three probes are 200, Redis is called degraded, and a booking goes through signed calls both ways."""
    calls, before = {name: len(ear.heard()) for name, ear in wires.to.items()}, wires.redis.fired
    wires.redis.inject(fault)
    try:
        for service in SERVICES:
            for path, status in _PROBES.items():
                probed = system.call(service, "GET", path)
                assert (probed.status_code, probed.json()["status"]) == (200, status)
            assert probed.json()["checks"]["redis"] == "degraded"
        _, hold_id = _a_booking(system, stripe)
        assert stripe.captures_of(hold_id) == 1
    finally:
        wires.redis.heal()
    for name, ear in wires.to.items():
        assert len(ear.heard()) > calls[name], f"{name} was never called by the other service"
    fired("R01" if fault is RESET else "R02", wires.redis.fired - before)


def test_a_call_that_is_repeated_has_no_second_effect(system: System, stripe: Stripe, wires: Wires) -> None:
    """X03, I4, I15: every signed call of a booking is sent again as it was heard, both ways; changed, none is believed."""
    known = {name: ear.heard() for name, ear in wires.to.items()}
    guest, hold_id = _a_booking(system, stripe)
    eventually(lambda: _told(wires, hold_id), lambda told: "captured" in told)
    before = _state(system, stripe, guest, hold_id)
    # Not those at the end: what is heard is in the order of connections, and any of them may have been used again.
    heard = {name: [call for call in ear.heard() if call not in known[name]] for name, ear in wires.to.items()}
    for service, calls in heard.items():
        for call in calls:
            answer = answered(_again(system, service, call))
            assert call.path != _EVENTS or answer["result"] == "ignored"
            for forged in _changed(call):
                refused(_again(system, service, forged), 401, "INTERNAL_SIGNATURE_INVALID")
    assert _state(system, stripe, guest, hold_id) == before
    posts = {name: sum(call.method == "POST" for call in calls) for name, calls in heard.items()}
    assert posts["payment"] >= 2, "a payment was set up, and captured"
    assert posts["reservation"] >= 1
    tell(f"internal calls repeated byte for byte: to payment {posts['payment']}, to reservation {posts['reservation']}")


def test_tokens_of_an_identity_provider_open_both_services(system: System, wires: Wires) -> None:
    """X01, X02: its pairs count beside the secret, are asked for once and kept while it is away; a pair unheard of does not."""
    provider = wires.provider
    guest, stranger = (Guest(system, provider.token(f"provider-{who}")) for who in ("ada", "bob"))
    hold_id = a_hold(guest, a_slot(system))["id"]
    olga = provider.token("provider-olga", roles=["operator"])
    for service in SERVICES:
        answered(system.call(service, "GET", "/admin/v1/invariants", token=olga))
        refused(system.call(service, "GET", "/admin/v1/invariants", token=guest.token), 403, "FORBIDDEN")
    assert provider.asked == len(SERVICES), "once by each service"
    provider.go_away()
    assert answered(guest.see_hold(hold_id))["id"] == hold_id
    refused(stranger.see_hold(hold_id), 404, "HOLD_NOT_FOUND")
    made_up = provider.token("provider-ada", roles=["operator"], key="withheld")
    for service in SERVICES:
        answered(system.call(service, "GET", "/admin/v1/invariants", token=olga))
        refused(system.call(service, "GET", "/admin/v1/invariants", token=made_up), 401, "UNAUTHENTICATED")


def _told(wires: Wires, hold_id: str) -> str:
    """Return all that reservation_service was told of this booking's payment."""
    bodies = (call.body.decode() for call in wires.to["reservation"].heard() if call.path == _EVENTS)
    return "\n".join(body for body in bodies if hold_id in body)


def _again(system: System, service: Service, call: Heard) -> httpx.Response:
    return system.call(service, call.method, call.path, headers=call.headers, content=call.body)


def _changed(call: Heard) -> Iterator[Heard]:
    """Yield the call with another question, and another body or key where it has one, under the old signature."""
    yield replace(call, path=f"{call.path}?again=1")
    if call.method == "POST":
        yield replace(call, body=call.body + b" ")
        yield replace(call, headers=call.headers | {"idempotency-key": "another"})


def _state(system: System, stripe: Stripe, guest: Guest, hold_id: str) -> Any:
    """Return everything that a second effect would change."""
    newest = system.admin("reservation", "GET", "/sagas?limit=100")["data"]
    steps = [saga["steps"] for saga in newest if saga["reservation_id"] == hold_id]
    return answered(guest.see(hold_id)), steps, stripe.intents_of(hold_id), stripe.captures_of(hold_id)
