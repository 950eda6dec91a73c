"""Faults that alerts are there for: how each is made, which alerts must come, and how it is mended."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.answers import answered, eventually
from tests.builders import DECLINED_CARD, Guest, a_customer, a_guest, a_hold, a_slot, awaiting_payment
from tests.doubles.stripe_sandbox import Stripe
from tests.system import Service, System

_GUESTS = 24
_MANY_HOLDS = 60


@dataclass(frozen=True)
class Scene:
    """Where a drill takes place. `patiently` waits until alerts are on."""

    system: System
    stripe: Stripe
    patiently: Callable[[], None]

    def fault(self, **members: Any) -> None:
        self.system.call("sandbox", "POST", "/_sandbox/faults", json=members).raise_for_status()

    def forgive(self) -> None:
        self.system.call("sandbox", "DELETE", "/_sandbox/faults").raise_for_status()

    def sql(self, service: Service, statement: str) -> Any:
        """Run one statement at a service's database."""
        return asyncio.run(self._run(service, statement))

    def dsn(self, service: Service) -> str:
        return self.system.setting_of(service, f"{service.upper()}_DATABASE_URL").replace("+asyncpg", "")

    async def _run(self, service: Service, statement: str) -> Any:
        connection = await asyncpg.connect(self.dsn(service), timeout=20)
        try:
            return await connection.execute(statement, timeout=20)
        finally:
            await connection.close()

    def crowd(self, visit: Callable[[Guest], object], guests: int = _GUESTS) -> None:
        """Let so many customers do the same, ten at a time."""
        with ThreadPoolExecutor(10) as doing:
            list(doing.map(visit, [a_customer(self.system) for _ in range(guests)]))


Fault = Callable[[Scene], Iterator[None]]


def an_ordinary_day(scene: Scene) -> None:
    """A bit of everything that guests do when all is well."""
    system, slot = scene.system, a_slot(scene.system, capacity=30)
    for number in range(4):
        guest = a_customer(system)
        hold = a_hold(guest, slot, key=f"day-{number}-{slot.id}")
        a_hold(guest, slot, key=f"day-{number}-{slot.id}")
        secret = awaiting_payment(guest, hold["id"])
        if number == 0:
            assert scene.stripe.pay(secret, card=DECLINED_CARD).status_code == 402
        assert scene.stripe.pay(secret).status_code == 200
        guest.wait_for(hold["id"], "confirmed")
        scene.stripe.redeliver(next(iter(scene.stripe.event_ids_of(hold["id"]))))
    guest.cancel(hold["id"])
    guest.wait_for(hold["id"], "cancelled")
    visitor = a_guest(system)
    visitor.release(a_hold(visitor, slot)["id"])
    lapsed = a_hold(visitor, slot)["id"]
    scene.sql("reservation", f"UPDATE reservations SET expires_at = clock_timestamp() WHERE id = '{lapsed}'")  # noqa: S608
    eventually(lambda: visitor.see_hold(lapsed), lambda seen: seen.json()["status"] == "expired")
    seen = system.call("reservation", "GET", f"/v1/time-slots/{slot.id}")
    again = {"If-None-Match": seen.headers["etag"]}
    assert system.call("reservation", "GET", f"/v1/time-slots/{slot.id}", headers=again).status_code == 304
    stream = f"{system.url('reservation')}/v1/availability/stream?experience_id={slot.experience_id}"
    with system.http.stream("GET", stream):
        pass


def payment_service_is_killed(scene: Scene) -> Iterator[None]:
    scene.system.stack.kill("payment")
    yield
    scene.system.heal("payment")


def stripe_answers_nothing_useful(scene: Scene) -> Iterator[None]:
    slot = a_slot(scene.system, capacity=_GUESTS)
    scene.fault(operation="*", action="status", status=503)
    scene.crowd(lambda guest: guest.convert(a_hold(guest, slot)["id"]))
    yield
    scene.forgive()


def redis_is_killed(scene: Scene) -> Iterator[None]:
    slot = a_slot(scene.system, capacity=_GUESTS)
    scene.system.stack.kill("valkey")
    scene.crowd(lambda guest: guest.hold(slot))
    yield
    scene.system.stack.launch("valkey")
    scene.system.stack.wait_ready("valkey")


def a_table_is_locked(scene: Scene) -> Iterator[None]:
    """Somebody changes a table by hand and goes for coffee, the transaction open."""
    slot = a_slot(scene.system, capacity=_GUESTS)
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(scene.dsn("reservation"), timeout=20))
        runner.run(connection.execute("BEGIN; LOCK TABLE time_slots"))
        scene.crowd(lambda guest: guest.hold(slot))
        scene.patiently()  # a count that begins with its first event shows nothing until the second time
        scene.crowd(lambda guest: guest.hold(slot))
        yield
        runner.run(connection.close())


def inserts_become_slow(scene: Scene) -> Iterator[None]:
    """Somebody has added a trigger that takes its time."""
    slot = a_slot(scene.system, capacity=3 * _GUESTS)
    scene.crowd(lambda guest: a_hold(guest, slot))
    scene.sql(
        "reservation",
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.15); RETURN NEW; END';"
        "CREATE TRIGGER dawdle BEFORE INSERT ON reservations FOR EACH STATEMENT EXECUTE FUNCTION dawdle()",
    )
    scene.crowd(lambda guest: a_hold(guest, slot), 2 * _GUESTS)
    yield
    scene.sql("reservation", "DROP TRIGGER dawdle ON reservations; DROP FUNCTION dawdle()")


def a_payment_is_changed_by_hand(scene: Scene) -> Iterator[None]:
    """So Stripe's object is not what our row says; put right, the saga goes on when an operator says so."""
    guest, slot = a_customer(scene.system), a_slot(scene.system)
    hold = a_hold(guest, slot)["id"]
    secret = awaiting_payment(guest, hold)
    change = "UPDATE payments SET amount = amount {} 1 WHERE reservation_id = '{}'"
    scene.sql("payment", change.format("+", hold))
    assert scene.stripe.pay(secret).status_code == 200
    yield
    scene.sql("payment", change.format("-", hold))
    _replay_the_dead(scene)
    for saga in scene.system.admin("reservation", "GET", "/sagas?status=needs_attention&limit=100")["data"]:
        reason = {"reason": "the row is right again"}
        scene.system.admin("reservation", "POST", f"/sagas/{saga['id']}/retry", json=reason)


def a_seat_goes_missing(scene: Scene) -> Iterator[None]:
    slot = a_slot(scene.system, capacity=5)
    scene.sql("reservation", f"UPDATE time_slots SET taken = taken + 1 WHERE id = '{slot.id}'")  # noqa: S608
    yield
    scene.sql("reservation", f"UPDATE time_slots SET taken = taken - 1 WHERE id = '{slot.id}'")  # noqa: S608


def stripe_knows_nothing_of_a_payment(scene: Scene) -> Iterator[None]:
    """Its events are dead; when it knows again, an operator has them replayed."""
    guest, slot = a_customer(scene.system), a_slot(scene.system)
    secret = awaiting_payment(guest, a_hold(guest, slot)["id"])
    scene.fault(operation="payment_intents.retrieve", action="status", status=404)
    scene.stripe.pay(secret, card=DECLINED_CARD)
    yield
    scene.forgive()
    _replay_the_dead(scene)


def _replay_the_dead(scene: Scene) -> None:
    for event in scene.system.admin("payment", "GET", "/webhook-events?status=dead&limit=100")["data"]:
        scene.system.admin("payment", "POST", f"/webhook-events/{event['id']}/replay")


def an_event_type_is_taken_out(scene: Scene) -> Iterator[None]:
    (endpoint,) = answered(_at_stripe(scene, "GET", ""), 200)["data"]
    _at_stripe(scene, "POST", f"/{endpoint['id']}", data={"enabled_events[0]": "payment_intent.succeeded"})
    yield
    data = {f"enabled_events[{number}]": kind for number, kind in enumerate(endpoint["enabled_events"])}
    _at_stripe(scene, "POST", f"/{endpoint['id']}", data=data)


def _at_stripe(scene: Scene, method: str, path: str, **options: Any) -> Any:
    key = scene.system.stack.credentials.stripe_secret_key
    return scene.system.call("sandbox", method, f"/v1/webhook_endpoints{path}", token=key, **options)


def captures_are_declined(scene: Scene) -> Iterator[None]:
    """Five and more in each of two periods, which is what the brief's own alarm is about."""
    slot = a_slot(scene.system, capacity=3 * _GUESTS)
    scene.fault(operation="payment_intents.capture", action="status", status=402)

    def pay(guest: Guest) -> None:
        scene.stripe.pay(awaiting_payment(guest, a_hold(guest, slot)["id"]))

    scene.crowd(pay)
    scene.patiently()
    scene.crowd(pay)
    yield
    scene.forgive()


def a_guest_asks_far_too_often(scene: Scene) -> Iterator[None]:
    guest, slot = a_customer(scene.system), a_slot(scene.system)
    for _ in range(_MANY_HOLDS):
        guest.hold(slot)
    yield


DRILLS: Mapping[Fault, tuple[str, ...]] = {
    payment_service_is_killed: ("ServiceDoesNotAnswer", "ServiceIsMissing"),
    stripe_answers_nothing_useful: ("StripeIsCutOff", "PaymentsFailTechnically", "EveryPaymentFails"),
    redis_is_killed: ("RedisDoesNotAnswer",),
    a_table_is_locked: ("GuestsMeetErrors",),
    inserts_become_slow: ("HoldsAreSlow",),
    a_payment_is_changed_by_hand: ("BookingsNeedAttention", "StripeContradictsUs"),
    a_seat_goes_missing: ("InvariantViolated",),
    stripe_knows_nothing_of_a_payment: ("WebhooksDead",),
    an_event_type_is_taken_out: ("WebhookEventTypesMissing",),
    captures_are_declined: ("HighPaymentFailureRate",),
    a_guest_asks_far_too_often: ("ManyAreTurnedAway",),
}


@contextmanager
def in_force(fault: Fault, scene: Scene) -> Iterator[None]:
    """Make a fault, and mend it whatever happens meanwhile."""
    making = fault(scene)
    next(making)
    try:
        yield
    finally:
        next(making, None)
