"""PostgreSQL goes away and comes back: while it is gone everybody is told to come again, and nothing is half done."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.embedded.postgres import Postgres
from tests.answers import answered, eventually, refused
from tests.builders import a_customer, a_hold, a_key, a_slot, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.scenarios import fired
from tests.system import SERVICES, System


@contextmanager
def killed(postgres: Postgres) -> Iterator[None]:
    """Kill the database server as a crash would, and start it again after the block."""
    postgres.kill()
    fired("P01", 1)
    try:
        yield
    finally:
        postgres.start()


def readiness(system: System) -> list[int]:
    return [system.call(service, "GET", "/readyz").status_code for service in SERVICES]


def test_the_database_is_killed_and_comes_back(system: System, stripe: Stripe, postgres: Postgres) -> None:
    """P01, W12: 503 with Retry-After while it is down, alive but not ready; then the same calls end in a paid booking."""
    guest, slot, key = a_customer(system), a_slot(system, capacity=2), a_key()
    hold = a_hold(guest, slot)
    first = answered(guest.convert(hold["id"]), 201)
    with killed(postgres):
        refused(guest.hold(slot, key=key), 503, "SLOT_BUSY", "SERVICE_UNAVAILABLE")
        refused(guest.convert(hold["id"]), 503, "SERVICE_UNAVAILABLE")
        refused(guest.see(hold["id"]), 503, "SERVICE_UNAVAILABLE")
        assert stripe.pay(first["outcome"]["client_secret"]).status_code == 200
        assert [system.call(service, "GET", "/livez").status_code for service in SERVICES] == [200, 200]
        assert readiness(system) == [503, 503]

    eventually(lambda: readiness(system), lambda statuses: statuses == [200, 200])
    guest.wait_for(hold["id"], "confirmed", within_s=15)
    answered(guest.hold(slot, key=key), 201)
    assert free_seats(system, slot) == 0
    assert stripe.captures_of(hold["id"]) == 1
