"""Rows of what is sold: experiences, their ticket types, and the time slots with their seats."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, and_, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement, Select

from reservation_service.store.tables import experiences, reservations, ticket_types, time_slots

_TICKETS = text(
    """
SELECT coalesce(json_agg(json_build_object('id', id, 'code', code, 'title', title, 'price_minor', price_minor,
                                           'seats', seats) ORDER BY position), '[]') AS tickets
FROM ticket_types WHERE experience_id = :experience_id
"""
)

# Everything a hold needs to know about its slot, in one round trip.
_OFFER = text(
    """
SELECT slot.id AS time_slot_id, slot.status, slot.capacity, e.id AS experience_id, e.currency, e.max_party,
       e.hold_ttl_seconds, e.capture_method,
       (SELECT json_agg(json_build_object('id', t.id, 'code', t.code, 'title', t.title, 'price_minor', t.price_minor,
                                          'seats', t.seats) ORDER BY t.position)
        FROM ticket_types AS t WHERE t.experience_id = e.id) AS tickets
FROM time_slots AS slot JOIN experiences AS e ON e.id = slot.experience_id
WHERE slot.id = :time_slot_id
"""
)


async def add_experience(
    tx: AsyncConnection, experience: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]]
) -> None:
    await tx.execute(insert(experiences).values(**experience))
    await tx.execute(insert(ticket_types), [dict(ticket) for ticket in tickets])


async def experience(connection: AsyncConnection, experience_id: UUID) -> dict[str, Any] | None:
    """Return an experience with its ticket types, or None."""
    found = await connection.execute(select(experiences).where(experiences.c.id == experience_id))
    row = found.mappings().one_or_none()
    if row is None:
        return None
    tickets = (await connection.execute(_TICKETS, {"experience_id": experience_id})).scalar_one()
    return {**row, "tickets": tickets}


async def experience_page(connection: AsyncConnection, *, limit: int, after: UUID | None) -> Sequence[dict[str, Any]]:
    """Return up to `limit` experiences after a cursor, oldest first."""
    query = select(experiences.c.id).order_by(experiences.c.id).limit(limit)
    if after is not None:
        query = query.where(experiences.c.id > after)
    ids = (await connection.execute(query)).scalars().all()
    found = [await experience(connection, experience_id) for experience_id in ids]
    return [row for row in found if row is not None]


async def offer(connection: AsyncConnection, time_slot_id: UUID) -> RowMapping | None:
    """Return what may be bought on this slot and on which terms, or None."""
    return (await connection.execute(_OFFER, {"time_slot_id": time_slot_id})).mappings().one_or_none()


async def add_time_slot(tx: AsyncConnection, slot: Mapping[str, Any]) -> None:
    await tx.execute(insert(time_slots).values(**slot))


def _slots() -> Select[Any]:
    overdue = (
        select(func.coalesce(func.sum(reservations.c.seats), 0))
        .where(
            and_(
                reservations.c.time_slot_id == time_slots.c.id,
                reservations.c.status == text("'held'"),  # a literal, so that the partial index serves it
                reservations.c.expires_at <= func.clock_timestamp(),
            )
        )
        .correlate(time_slots)
        .scalar_subquery()
    )
    return select(
        time_slots,
        experiences.c.time_zone,
        experiences.c.currency,
        (time_slots.c.capacity - time_slots.c.taken + overdue).label("available"),
        (time_slots.c.sells_until <= func.clock_timestamp()).label("over"),
    ).join(experiences, experiences.c.id == time_slots.c.experience_id)


async def time_slot(connection: AsyncConnection, time_slot_id: UUID) -> RowMapping | None:
    """Return a slot as guests see it: seats of holds whose time is over count as free."""
    found = await connection.execute(_slots().where(time_slots.c.id == time_slot_id))
    row: RowMapping | None = found.mappings().one_or_none()
    return row


async def slot_page(
    connection: AsyncConnection,
    *,
    experience_id: UUID | None,
    between: tuple[datetime, datetime] | None,
    limit: int,
    after: UUID | None,
) -> Sequence[RowMapping]:
    """Return slots by start; `after` is the id of the last one of the page before."""
    query = _slots().order_by(time_slots.c.starts_at, time_slots.c.id).limit(limit)
    for condition in _slot_conditions(experience_id, between):
        query = query.where(condition)
    if after is not None:
        last = select(time_slots.c.starts_at, time_slots.c.id).where(time_slots.c.id == after).subquery()
        query = query.where(
            (time_slots.c.starts_at > select(last.c.starts_at).scalar_subquery())
            | ((time_slots.c.starts_at == select(last.c.starts_at).scalar_subquery()) & (time_slots.c.id > after))
        )
    rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    return rows


def _slot_conditions(
    experience_id: UUID | None, between: tuple[datetime, datetime] | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if experience_id is not None:
        conditions.append(time_slots.c.experience_id == experience_id)
    if between is not None:
        conditions.append(time_slots.c.starts_at >= between[0])
        conditions.append(time_slots.c.starts_at < between[1])
    return conditions


async def lock_time_slot(tx: AsyncConnection, time_slot_id: UUID) -> RowMapping | None:
    """Lock a slot for an operator's change, or None."""
    found = await tx.execute(select(time_slots).where(time_slots.c.id == time_slot_id).with_for_update())
    return found.mappings().one_or_none()


async def change_time_slot(tx: AsyncConnection, time_slot_id: UUID, values: Mapping[str, Any]) -> None:
    await tx.execute(
        update(time_slots).where(time_slots.c.id == time_slot_id).values(**values, version=time_slots.c.version + 1)
    )


async def share_slot(tx: AsyncConnection, time_slot_id: UUID) -> RowMapping:
    """Read a slot so that nobody can close it before this transaction ends."""
    found = await tx.execute(
        select(time_slots.c.status, (time_slots.c.sells_until <= func.clock_timestamp()).label("over"))
        .where(time_slots.c.id == time_slot_id)
        .with_for_update(read=True)
    )
    return found.mappings().one()
