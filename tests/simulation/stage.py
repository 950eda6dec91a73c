"""What is on sale before a world begins: one experience, one kind of ticket, one departure in three days."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from reservation_service.store import tables
from tests.simulation import chance
from tests.simulation.memory_sql.database import Store
from tests.simulation.plan import Plan


def set_up(store: Store, plan: Plan, now: datetime) -> tuple[UUID, UUID]:
    """Put it there; returns the departure and the ticket."""
    experience_id, ticket_id, slot_id = (chance._uuid7() for _ in range(3))
    _add(
        store, tables.experiences, id=experience_id, title="The lamp at dusk", time_zone="UTC", currency="EUR",
        max_party=9, cancellation_policy=plan.cancellation_policy, capture_method=plan.capture_method,
        late_payment_policy=plan.late_payment_policy,
    )  # fmt: skip
    _add(
        store, tables.ticket_types, id=ticket_id, experience_id=experience_id, code="adult", title="Adult",
        price_minor=plan.price_minor, seats=1, position=0,
    )  # fmt: skip
    starts = now + timedelta(days=3)
    _add(
        store, tables.time_slots, id=slot_id, experience_id=experience_id, starts_at=starts, sells_until=starts,
        ends_at=starts + timedelta(hours=1), capacity=plan.capacity,
    )  # fmt: skip
    return slot_id, ticket_id


def _add(store: Store, table: Any, **values: Any) -> None:
    store.add(table, store.new_row(table, values))
