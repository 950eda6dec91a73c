"""How the system under test differs from production: the scale of time, room for crowds, and nothing from the shell."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.postgres import Postgres
from deploy.embedded.stack import Stack
from tests.system import LEASE_S

# Many tests send a crowd from one address; what the limits do has tests of its own.
ROOM_FOR_CROWDS = {
    f"RATE_LIMIT_{limit}": "1000000"
    for limit in (
        "HOLDS_PER_MINUTE",
        "GUEST_HOLDS_PER_MINUTE",
        "GUEST_SESSIONS_PER_MINUTE",
        "LOOKUPS_PER_HOUR",
        "LOOKUPS_PER_REFERENCE",
        "CALLER_PER_SECOND",
        "CALLER_BURST",
        "CALLER_PER_DAY",
    )
}
# Everything is as in production but the scale of time: budgets, leases longer than them, and intervals are short.
STACK_ENV = {
    "all": {"SHUTDOWN_GRACE_S": "10"},
    "reservation": {
        "INTERNAL_CALL_TIMEOUT_S": "2.8",
        "SAGA_LEASE_SECONDS": str(LEASE_S),
        "SAGA_POLL_SECONDS": "0.2",
        "SAGA_BACKOFF_MAX_S": "1",
        "PAYMENT_ASK_FIRST_S": "4",
        "SWEEP_INTERVAL_SECONDS": "0.5",
        "SLOT_CANCELLATION_POLL_SECONDS": "0.2",
        "ADMISSION_PRICE_S": "20",  # a busy machine may take its time
        **ROOM_FOR_CROWDS,
    },
    "payment": {
        "STRIPE_TIMEOUT_S": "2",
        "GATEWAY_BUDGET_S": "2.5",
        "BACKGROUND_BUDGET_S": "2.5",
        "RESERVATION_TIMEOUT_S": "2",
        "RETRY_FIRST_WAIT_S": "0.1",
        "RETRY_MAX_WAIT_S": "0.5",
        "BREAKER_REST_S": "1",
        "BREAKER_WINDOW_S": "3",
        "BREAKER_PROBE_LEASE_S": str(LEASE_S),
        "BREAKER_RAMP_S": "0.2",
        "IDEMPOTENCY_LEASE_S": str(LEASE_S),
        "WEBHOOK_LEASE_SECONDS": str(LEASE_S),
        "WEBHOOK_LOOKS_PER_S": "200",
        "WEBHOOK_POLL_SECONDS": "0.2",
        "WEBHOOK_BACKOFF_FIRST_S": "0.2",
        "WEBHOOK_BACKOFF_MAX_S": "1",
        "OUTBOX_LEASE_SECONDS": str(LEASE_S),
        "OUTBOX_POLL_SECONDS": "0.2",
        "OUTBOX_BACKOFF_FIRST_S": "0.2",
        "OUTBOX_BACKOFF_MAX_S": "1",
        "RECONCILE_INTERVAL_SECONDS": "1",
        "RECONCILE_SETTLE_SECONDS": "2",
        "RECONCILE_OVERLAP_SECONDS": "15",  # every second all that is younger is read once more
    },
}
# What a developer's shell may hold and a test must not inherit.
_OURS = (
    "HOLDFAST_",
    "FLAG_",
    "STRIPE_",
    "SANDBOX_",
    "RESERVATION_",
    "PAYMENT_",
    "REDIS_URL",
    "AUTH_",
    "GUEST_",
    "INTERNAL_",
    "RATE_LIMIT_",
    "BREAKER_",
    "RECONCILE_",
    "ORPHAN_",
)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what a developer's shell may hold and a test must not inherit."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def template_of(service: str) -> str:
    """Return the name of the migrated database that a service's databases are copies of."""
    return f"template_{service}"


@contextmanager
def open_stack(
    folder: Path,
    postgres: Postgres,
    redis_url: str,
    *,
    name: str,
    extra_env: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Stack]:
    """Start the whole system as real processes, on two new databases of a server that has the templates."""
    urls = {}
    for service in ("reservation", "payment"):
        database = f"{name}_{service}"
        postgres.create_database(database, template=template_of(service))
        urls[f"{service.upper()}_DATABASE_URL"] = postgres.url(database)
    environ = clean_environment() | urls | {"REDIS_URL": redis_url}
    more = extra_env or {}
    settings = {part: STACK_ENV.get(part, {}) | more.get(part, {}) for part in {*STACK_ENV, *more}}
    with Stack(folder, environ=environ, durable=False, extra_env=settings) as stack:
        yield stack
