"""Bookings as the three-way audit reads them: status, price, and what payment_service last told."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from reservation_service.states import CONVERTED, LIVE_SAGA
from shared.columns import is_one_of
from shared.database import Connection

_EXPORT = f"""
SELECT r.id, r.status, r.seats, r.seats_pinned, r.time_slot_id, r.total_minor AS total, r.currency, r.payment_mode,
       r.generation, r.payment_version, r.payment ->> 'status' AS payment_status,
       r.refund_due_minor AS refund_due,
       EXISTS (SELECT FROM sagas AS s WHERE s.reservation_id = r.id AND s.status = 'needs_attention') AS open_case,
       EXISTS (SELECT FROM sagas AS s WHERE s.reservation_id = r.id AND {is_one_of("s.status", sorted(LIVE_SAGA))}) AS in_hand,
       extract(epoch FROM clock_timestamp() - greatest(r.created_at, (
           SELECT max(e.created_at) FROM reservation_events AS e WHERE e.reservation_id = r.id)))::float AS unchanged_s
FROM reservations AS r
WHERE {is_one_of("r.status", sorted(CONVERTED))} AND r.id > :after
ORDER BY r.id LIMIT :limit
"""  # noqa: S608  built from our own enumerations
_FIRST = UUID(int=0)


async def export(connection: Connection, *, limit: int, after: UUID | None) -> Sequence[dict[str, Any]]:
    """Return converted bookings in order of id."""
    found = await connection.execute(text(_EXPORT), {"after": after or _FIRST, "limit": limit})
    return [dict(row) for row in found.mappings()]
