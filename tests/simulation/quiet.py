"""When a world has come to rest, and what its sagas have done."""

from __future__ import annotations

from typing import Any

from payment_service.store import tables as payment_tables
from reservation_service.store import tables as reservation_tables
from tests.simulation.memory_sql.database import Store

STRIPES_NEWS = "Stripe's news"


def busy(world: Any) -> str:
    """Return what is still going on."""
    if world._banks.pending:
        return "banks"
    bookings, payments = world._stores["reservation"], world._stores["payment"]
    if any(row["status"] in world._watch.unfinished for row in bookings.all(reservation_tables.reservations)):
        return "bookings"
    if any(row["due_at"] is not None for row in bookings.all(reservation_tables.sagas)):
        return "sagas"
    if any(row["due_at"] is not None for row in bookings.all(reservation_tables.slot_cancellations)):
        cancellations = bookings.all(reservation_tables.slot_cancellations)
        if any(row["status"] == "running" for row in cancellations):
            return "cancelled departures"
    if any(row["due_at"] is not None for row in payments.all(payment_tables.webhook_events)):
        return "events"
    if any(row["due_at"] is not None for row in payments.all(payment_tables.outbox)):
        return "news"
    in_flight = {link: wire.in_flight for link, wire in world._wires.items() if wire.in_flight}
    if world._undelivered or world._restarting or in_flight:
        return f"undelivered={world._undelivered} restarting={world._restarting} in flight={in_flight}"
    differs = any(True for check in (world._watch._stripe_and_payments, world._watch._ledger) for _ in check())
    return STRIPES_NEWS if differs else ""


def journals(store: Store) -> list[str]:
    """Tell what each saga has done, and how its booking stands."""
    lines = []
    for saga in store.all(reservation_tables.sagas):
        booking = store.rows(reservation_tables.reservations)[saga["reservation_id"]]
        status = (booking["payment"] or {}).get("status")
        lines.append(f"saga {saga['status']} because={saga['unwinding_because']} {booking['status']} payment={status}")
        lines += [
            f"    {line['direction']:4} {line['step']} {line['event']} {line['detail'] or ''}"
            for line in store.all(reservation_tables.saga_log)
            if line["saga_id"] == saga["id"]
        ]
    return lines
