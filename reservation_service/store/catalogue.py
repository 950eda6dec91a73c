"""Rows of what is sold: experiences, their ticket types, and the time slots with their seats."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, and_, bindparam, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement, Select

from reservation_service.store.tables import experiences, reservations, ticket_types, time_slots
from shared.prepared import Prepared

_TICKETS = text(
    """
SELECT coalesce(json_agg(json_build_object('id', id, 'code', code, 'title', title, 'price_minor', price_minor,
                                           'seats', seats, 'active', active) ORDER BY position), '[]') AS tickets
FROM ticket_types WHERE experience_id = :experience_id
"""
)

# Everything a hold needs to know about its slot, in one round trip.
_OFFER = text(
    """
SELECT slot.id AS time_slot_id, slot.status, slot.capacity, e.id AS experience_id, e.currency, e.max_party,
       e.hold_ttl_seconds, e.capture_method,
       (SELECT coalesce(json_agg(json_build_object('id', t.id, 'code', t.code, 'title', t.title,
                                                   'price_minor', t.price_minor, 'seats', t.seats)
                                 ORDER BY t.position), '[]')
        FROM ticket_types AS t WHERE t.experience_id = e.id AND t.active) AS tickets
FROM time_slots AS slot JOIN experiences AS e ON e.id = slot.experience_id
WHERE slot.id = :time_slot_id
"""
)

# Locked in the order of their ids, as everywhere.
_MOVE_END_OF_SALES = text(
    """
WITH coming AS (
    SELECT id FROM time_slots WHERE experience_id = :experience_id AND starts_at > clock_timestamp()
    ORDER BY id FOR UPDATE
)
UPDATE time_slots AS slot
SET sells_until = slot.starts_at - make_interval(mins => :cutoff_minutes), version = slot.version + 1
FROM coming WHERE slot.id = coming.id
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
    return {**row, "tickets": await tickets_of(connection, experience_id)}


async def tickets_of(connection: AsyncConnection, experience_id: UUID) -> Sequence[Mapping[str, Any]]:
    """Return an experience's ticket types in their order, also those that are no longer sold."""
    tickets: Sequence[Mapping[str, Any]] = (
        await connection.execute(_TICKETS, {"experience_id": experience_id})
    ).scalar_one()
    return tickets


async def lock_experience(tx: AsyncConnection, experience_id: UUID) -> RowMapping | None:
    """Lock an experience for an operator's change, or None."""
    found = await tx.execute(select(experiences).where(experiences.c.id == experience_id).with_for_update())
    return found.mappings().one_or_none()


async def share_experience(tx: AsyncConnection, experience_id: UUID) -> RowMapping | None:
    """Read an experience so that its terms stay as they are until this transaction ends."""
    found = await tx.execute(select(experiences).where(experiences.c.id == experience_id).with_for_update(read=True))
    return found.mappings().one_or_none()


async def change_experience(tx: AsyncConnection, experience_id: UUID, values: Mapping[str, Any]) -> None:
    await tx.execute(update(experiences).where(experiences.c.id == experience_id).values(**values))


async def has_slots(connection: AsyncConnection, experience_id: UUID) -> bool:
    query = select(time_slots.c.id).where(time_slots.c.experience_id == experience_id).limit(1)
    return (await connection.execute(query)).first() is not None


async def move_end_of_sales(tx: AsyncConnection, experience_id: UUID, cutoff_minutes: int) -> None:
    """Let all slots that have not started sell until so many minutes before their start."""
    await tx.execute(_MOVE_END_OF_SALES, {"experience_id": experience_id, "cutoff_minutes": cutoff_minutes})


async def add_ticket_type(tx: AsyncConnection, ticket: Mapping[str, Any]) -> None:
    await tx.execute(insert(ticket_types).values(**ticket))


async def change_ticket_type(
    tx: AsyncConnection, experience_id: UUID, ticket_type_id: UUID, values: Mapping[str, Any]
) -> RowMapping | None:
    """Change a ticket type of this experience and return it, or None."""
    its = (ticket_types.c.id == ticket_type_id) & (ticket_types.c.experience_id == experience_id)
    if values:
        await tx.execute(update(ticket_types).where(its).values(**values))
    return (await tx.execute(select(ticket_types).where(its))).mappings().one_or_none()


async def has_experience(connection: AsyncConnection, experience_id: UUID) -> bool:
    found = await connection.execute(select(experiences.c.id).where(experiences.c.id == experience_id))
    return found.first() is not None


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


_SHARE_SLOT = Prepared(
    select(
        time_slots.c.status,
        (time_slots.c.sells_until <= func.clock_timestamp()).label("over"),
        experiences.c.cancellation_policy,
    )
    .join(experiences, experiences.c.id == time_slots.c.experience_id)
    .where(time_slots.c.id == bindparam("time_slot_id"))
    .with_for_update(read=True, of=time_slots)
)


async def share_slot(tx: AsyncConnection, time_slot_id: UUID) -> Mapping[str, Any]:
    """Read a slot, and the terms of its experience, so that nobody can close it before this transaction ends."""
    return await _SHARE_SLOT.one(tx, time_slot_id=time_slot_id)


async def lock_for_late_money(tx: AsyncConnection, time_slot_id: UUID) -> RowMapping:
    """Lock a slot, so that nobody else takes its seats or closes it; with what its experience does with late money."""
    found = await tx.execute(
        select(
            time_slots.c.status,
            (time_slots.c.sells_until <= func.clock_timestamp()).label("over"),
            experiences.c.late_payment_policy.label("policy"),
        )
        .join(experiences, experiences.c.id == time_slots.c.experience_id)
        .where(time_slots.c.id == time_slot_id)
        .with_for_update(of=time_slots)
    )
    return found.mappings().one()
