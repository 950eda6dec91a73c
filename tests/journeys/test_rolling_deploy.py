"""A release is rolled out while guests book: new processes come up beside the old ones, then the old ones leave.

The new ones are really newer (`tests/release/next_*.py`), and what leads guests, services and webhooks to them asks
`/readyz` as any balancer does. The order of things is the one of `docs/how-to/release.md`.
"""

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from deploy.embedded.postgres import Postgres
from deploy.embedded.stack import Stack
from tests.answers import answered, eventually
from tests.builders import Guest, Slot, a_customer, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.balancer import Balancer
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.journeys.crowd_in_flight import CrowdInFlight
from tests.journeys.steady_guests import SteadyGuests
from tests.release.next_reservation import FLAG, STEP
from tests.scenarios import fired
from tests.surroundings import open_stack
from tests.system import SERVICES, System

_NAME = "rolling"
_CAPACITY = 10_000
_PRICE_MINOR = 4500
_IN_FLIGHT = 50
# Stripe stands still for as long as it takes so many guests to come: nobody's patience may end before that, and on a
# busy machine it takes its time. The guests' own ends after 20 s.
_PATIENCE = {
    "reservation": {"INTERNAL_CALL_TIMEOUT_S": "18.5", "SAGA_LEASE_SECONDS": "24"},
    "payment": {
        "STRIPE_TIMEOUT_S": "17",
        "STRIPE_CONNECT_TIMEOUT_S": "17",
        "GATEWAY_BUDGET_S": "17.5",
        "IDEMPOTENCY_LEASE_S": "24",
        "BREAKER_PROBE_LEASE_S": "18",
    },
}
_LEFT = frozenset({0, -signal.SIGTERM})
_EXPAND = {
    "reservation": "ALTER TABLE reservations ADD COLUMN greeted_at timestamptz; CREATE TABLE greetings (id uuid)",
    "payment": "ALTER TABLE payments ADD COLUMN risk text NOT NULL DEFAULT 'low'",
}
_ON = {"enabled": True, "percentage": 100, "reason": "the next release greets"}
Fronts = Mapping[str, Balancer]


class Fronted(System):
    """A system whose clients are led to whoever is ready."""

    def __init__(self, stack: Stack, http: httpx.Client, fronts: Fronts) -> None:
        super().__init__(stack, http)
        self.fronts = fronts

    def url(self, service: str) -> str:
        return self.fronts[service].url if service in self.fronts else super().url(service)

    def lead_to(self, *processes: str) -> None:
        """Let clients be led to these processes, each of the service that its name begins with."""
        for service, front in self.fronts.items():
            front.serve(*(self._port(process) for process in processes if process.startswith(service)))

    def led(self) -> dict[str, list[int]]:
        """Return how many connections each process of a service was led to, the oldest first."""
        return {service: [count for _, count in front.led.items()] for service, front in self.fronts.items()}

    def _port(self, process: str) -> int:
        return int(self.stack.url(process).rpartition(":")[2])


@pytest.fixture
def fronts() -> Iterator[Fronts]:
    with Balancer() as reservation, Balancer() as payment:
        yield {"reservation": reservation, "payment": payment}


@pytest.fixture
def rolling(
    tmp_path: Path,
    postgres: Postgres,
    redis_url: str,
    reservation_template: str,
    payment_template: str,
    fronts: Fronts,
    http: httpx.Client,
) -> Iterator[Fronted]:
    """The old release, its own peers and Stripe's webhooks led through the balancers too."""
    peers = {f"{service.upper()}_SERVICE_URL": fronts[service].url for service in SERVICES}
    hooks = {"SANDBOX_WEBHOOK_URL": f"{fronts['payment'].url}/webhooks/stripe"}
    extra_env = {"all": peers | {"SHUTDOWN_NOTICE_S": "1.5"}, "sandbox": hooks, **_PATIENCE}
    with open_stack(tmp_path, postgres, redis_url, name=_NAME, extra_env=extra_env) as stack:
        system = Fronted(stack, http, fronts)
        system.lead_to(*SERVICES)
        yield system


@pytest.mark.timeout(240)
def test_a_release_is_rolled_out_while_guests_book(rolling: Fronted, postgres: Postgres) -> None:
    """X11, X12: two releases side by side, then the new one alone: every booking ends right, and nobody is sent away.

    Fifty sagas are in flight at SIGTERM, each with a call that Stripe has not answered.
    """
    stack, stripe = rolling.stack, Stripe(rolling)
    slot = a_slot(rolling, capacity=_CAPACITY, price_minor=_PRICE_MINOR)
    guests, early = SteadyGuests(rolling, stripe, slot, count=4), _Waiting(a_customer(rolling), slot)
    with guests.coming():
        guests.wait_for(3)
        for service in SERVICES:
            asyncio.run(_expand(postgres.dsn(f"{_NAME}_{service}"), _EXPAND[service]))
        guests.wait_for(3)
        new = {service: stack.add_replica(service, module=f"tests.release.next_{service}") for service in SERVICES}
        rolling.lead_to(*SERVICES, *new.values())
        rolling.call(new["reservation"], "PUT", f"/admin/v1/flags/{FLAG}", token=stack.operator_token(), json=_ON)
        late = _Waiting(replace(a_customer(rolling), door=new["reservation"]), slot)
        _meets_the_old_release(rolling, late)
        guests.wait_for(8)
        crowd = CrowdInFlight(rolling, slot, count=_IN_FLIGHT, process="reservation")
        with ThreadPoolExecutor(len(SERVICES)) as hands, crowd.converting():
            under_way = crowd.in_hand()
            for service in SERVICES:
                hands.submit(stack.stop, service)
            eventually(crowd.is_shut_out, bool)
        crowd.all_pay(stripe)
        guests.wait_for(3)
    assert not guests.errors, guests.errors[:3]
    assert {stack.exit_code(service) for service in SERVICES} <= _LEFT
    for waiting in (early, late):
        assert stripe.pay(waiting.secret).status_code == 200
        waiting.guest.wait_for(waiting.hold_id, "confirmed", within_s=30)
    assert under_way >= _IN_FLIGHT
    _nothing_is_lost(rolling, stripe, slot, [*guests.confirmed, *crowd.hold_ids, early.hold_id, late.hold_id])
    greeted = [saga for saga in rolling.every("reservation", "/sagas") if _knows_the_new_step(saga)]
    assert {early.hold_id, late.hold_id} <= {saga["reservation_id"] for saga in greeted}
    fired("X11", under_way)
    tell(
        f"rolling deploy: confirmed={len(guests.confirmed) + _IN_FLIGHT + 2} of the new release={len(greeted)} sent away=0"
        f" asked again={dict(guests.counts)} under way at SIGTERM={under_way} connections={rolling.led()}"
    )


class _Waiting:
    """A booking that waits for its guest to pay while releases change."""

    def __init__(self, guest: Guest, slot: Slot) -> None:
        self.guest = guest
        self.hold_id: str = a_hold(guest, slot)["id"]
        self.secret = awaiting_payment(guest, self.hold_id)


def _meets_the_old_release(system: Fronted, late: _Waiting) -> None:
    """The old release cannot know how such a booking goes on; it shows it, and leaves it as it is."""
    by_the_old_one = replace(late.guest, system=System(system.stack, system.http), door="reservation")
    assert awaiting_payment(by_the_old_one, late.hold_id) == late.secret
    assert answered(by_the_old_one.see(late.hold_id))["status"] == "pending"


def _nothing_is_lost(system: Fronted, stripe: Stripe, slot: Slot, bookings: Sequence[str]) -> None:
    """One payment in full of each booking, its seat and no other, and three books that tell one story."""
    assert free_seats(system, slot) == slot.capacity - len(bookings)
    assert [stripe.money_of(booking_id) for booking_id in bookings] == [[_PRICE_MINOR]] * len(bookings)
    assert len(system.every("reservation", "/sagas")) == len(bookings)
    system.assert_consistent()
    system.assert_books_agree()


def _knows_the_new_step(saga: Mapping[str, Any]) -> bool:
    return any(line["step"] == STEP for line in saga["steps"])


async def _expand(dsn: str, migration: str) -> None:
    """Do what the newer release's migrations do, while the older one is at work."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '5s'; {migration}")
            await connection.execute("UPDATE alembic_version SET version_num = 'of_the_next_release'")
    finally:
        await connection.close()
