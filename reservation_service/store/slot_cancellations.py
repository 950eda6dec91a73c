"""What a cancelled slot still owes: holds to be released, pending bookings to be unwound, final ones to be refunded."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import RowMapping, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from reservation_service.states import CancellationStatus
from reservation_service.store.slots import give_back_seats
from reservation_service.store.tables import slot_cancellations, slot_changes
from shared.changes import NOW
from shared.database import Row
from shared.due_rows import claim_due, finish, put_back, still_mine

# Bookings first, then their slot: the order of locks everywhere. A hold that somebody works on is left to the next run.
_RELEASE = text(
    """
WITH held AS (
    SELECT id, seats FROM reservations
    WHERE time_slot_id = :slot_id AND status = 'held' ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
), released AS (
    UPDATE reservations AS r SET status = 'released', released_by = 'operator', seats_pinned = false,
           version = r.version + 1
    FROM held WHERE r.id = held.id
), noted AS (
    INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)
    SELECT id, 'held', 'released', 'departure cancelled' FROM held
)
SELECT count(*) AS holds, coalesce(sum(seats), 0) AS seats FROM held
"""
)

# The saga's row first, as whoever goes on with a saga does; then its booking.
_WAKE = text(
    """
WITH pending AS (
    SELECT s.id FROM sagas AS s JOIN reservations AS r ON r.id = s.reservation_id
    WHERE r.time_slot_id = :slot_id AND r.status = 'pending' AND r.cancel_requested_at IS NULL
      AND s.status IN ('running', 'waiting', 'unwinding')
    ORDER BY s.id LIMIT :batch FOR UPDATE OF s
)
UPDATE sagas SET due_at = clock_timestamp(), attempts = 0
FROM pending WHERE sagas.id = pending.id AND sagas.due_at IS NOT NULL
RETURNING sagas.reservation_id
"""
)
_ASK = text(
    """
UPDATE reservations SET cancel_requested_at = clock_timestamp(), cancellation = CAST(:cancellation AS jsonb),
       version = version + 1
WHERE id = ANY(:ids) AND status = 'pending' AND cancel_requested_at IS NULL
"""
)

# A final booking's saga is over; it is opened again and falls due, and whoever works on it cancels the booking first.
# Everything goes back, whatever the terms. Only the newest saga of its present payment is opened, in the order of ids as everywhere.
_OPEN_AGAIN = text(
    """
WITH final AS (
    SELECT s.id FROM sagas AS s JOIN reservations AS r ON r.id = s.reservation_id
    WHERE r.time_slot_id = :slot_id AND r.status = 'confirmed' AND s.status = 'completed'
      AND s.generation = r.generation
      AND NOT EXISTS (SELECT FROM sagas AS newer
                      WHERE newer.reservation_id = r.id AND newer.generation = r.generation AND newer.id > s.id)
    ORDER BY s.id LIMIT :batch FOR UPDATE OF s
)
UPDATE sagas SET status = 'unwinding', unwinding_because = 'asked', due_at = clock_timestamp(), lease_until = NULL,
       lease_epoch = lease_epoch + 1, attempts = 0
FROM final WHERE sagas.id = final.id AND sagas.status = 'completed'
RETURNING sagas.reservation_id
"""
)
_CALL_OFF = text(
    """
UPDATE reservations SET cancel_requested_at = clock_timestamp(), cancellation = CAST(:cancellation AS jsonb),
       refund_due_minor = total_minor, version = version + 1
WHERE id = ANY(:ids) AND status = 'confirmed'
"""
)

_LEFT = text(
    """
SELECT count(*) FILTER (WHERE r.status = 'held') AS held,
       count(*) FILTER (WHERE r.status = 'pending') AS pending,
       count(*) FILTER (WHERE r.status = 'confirmed') AS confirmed,
       count(*) FILTER (WHERE r.status = 'needs_attention') AS needs_attention,
       count(*) FILTER (WHERE ended AND r.cancel_requested_at >= :since AND r.confirmed_at IS NULL) AS unwound,
       count(*) FILTER (WHERE ended AND r.cancel_requested_at >= :since AND r.confirmed_at IS NOT NULL) AS cancelled,
       count(*) FILTER (WHERE ended AND walking_back) AS refunds_outstanding,
       count(*) FILTER (WHERE ended AND stuck) AS refunds_failed
FROM reservations AS r
CROSS JOIN LATERAL (SELECT r.status IN ('cancelled', 'failed') AS ended) AS e
LEFT JOIN LATERAL (
    SELECT bool_or(s.status = 'unwinding') AS walking_back, bool_or(s.status = 'needs_attention') AS stuck
    FROM sagas AS s WHERE s.reservation_id = r.id
) AS s ON true
WHERE r.time_slot_id = :slot_id
"""
)


async def note_change(
    tx: AsyncConnection, slot_id: UUID, changes: dict[str, Any], *, changed_by: str, reason: str
) -> None:
    """Write down who changed a slot, how, and why."""
    await tx.execute(
        insert(slot_changes).values(time_slot_id=slot_id, changes=changes, changed_by=changed_by, reason=reason)
    )


async def start(tx: AsyncConnection, slot_id: UUID) -> None:
    """Put the cancellation of a slot in line, in the transaction that ends its sales."""
    await tx.execute(
        upsert(slot_cancellations).values(id=slot_id, due_at=func.clock_timestamp()).on_conflict_do_nothing()
    )


async def find(connection: AsyncConnection, slot_id: UUID) -> RowMapping | None:
    found = await connection.execute(select(slot_cancellations).where(slot_cancellations.c.id == slot_id))
    return found.mappings().one_or_none()


async def claim(tx: AsyncConnection, *, limit: int, lease_s: float) -> Sequence[Row]:
    """Lease cancellations that have something to do."""
    return await claim_due(tx, slot_cancellations, limit=limit, lease_s=lease_s)


async def is_mine(tx: AsyncConnection, row: Row, *, lease_s: float) -> bool:
    """Lock the row and lengthen the lease; False when another worker has taken over, and nothing may be written."""
    return await still_mine(tx, slot_cancellations, row["id"], row["lease_epoch"], lease_s=lease_s)


async def release_held(tx: AsyncConnection, slot_id: UUID, *, batch: int) -> int:
    """Release up to `batch` holds of a slot with their seats, and count them; return how many."""
    released = (await tx.execute(_RELEASE, {"slot_id": slot_id, "batch": batch})).mappings().one()
    if released["holds"]:
        await give_back_seats(tx, slot_id, released["seats"])
        await tx.execute(
            update(slot_cancellations)
            .where(slot_cancellations.c.id == slot_id)
            .values(held_released=slot_cancellations.c.held_released + released["holds"])
        )
    return int(released["holds"])


async def ask_to_unwind(tx: AsyncConnection, slot_id: UUID, *, batch: int, cancellation: Mapping[str, Any]) -> int:
    """Ask for the cancellation of up to `batch` pending bookings and wake their sagas; return how many."""
    woken = (await tx.execute(_WAKE, {"slot_id": slot_id, "batch": batch})).scalars().all()
    if woken:
        await tx.execute(_ASK, {"ids": list(woken), "cancellation": orjson.dumps(cancellation).decode()})
    return len(woken)


async def call_off(tx: AsyncConnection, slot_id: UUID, *, batch: int, cancellation: Mapping[str, Any]) -> int:
    """Ask for the cancellation, with everything back, of up to `batch` final bookings; return how many."""
    opened = (await tx.execute(_OPEN_AGAIN, {"slot_id": slot_id, "batch": batch})).scalars().all()
    if opened:
        await tx.execute(_CALL_OFF, {"ids": list(opened), "cancellation": orjson.dumps(cancellation).decode()})
    return len(opened)


async def who_and_why(connection: AsyncConnection, slot_id: UUID) -> RowMapping | None:
    """Return who cancelled a slot and why, as it was written down with its status."""
    found = await connection.execute(
        select(slot_changes.c.changed_by, slot_changes.c.reason)
        .where(slot_changes.c.time_slot_id == slot_id, slot_changes.c.changes["status"].astext == "cancelled")
        .order_by(slot_changes.c.id.desc())
        .limit(1)
    )
    return found.mappings().one_or_none()


async def left(connection: AsyncConnection, slot_id: UUID, *, since: datetime) -> RowMapping:
    """Count a slot's bookings by what is still to be done with them, and those that were unwound since then."""
    return (await connection.execute(_LEFT, {"slot_id": slot_id, "since": since})).mappings().one()


async def rest(tx: AsyncConnection, row: Row, status: CancellationStatus, *, due_in_s: float) -> None:
    """Give the lease up until there may be more to do."""
    await put_back(tx, slot_cancellations, row["id"], row["lease_epoch"], due_in_s=due_in_s, status=status)


async def end(tx: AsyncConnection, row: Row) -> None:
    """Nothing is left to do."""
    await finish(
        tx,
        slot_cancellations,
        row["id"],
        row["lease_epoch"],
        status=CancellationStatus.FINISHED,
        finished_at=NOW,
    )
