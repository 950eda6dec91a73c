"""News of payments on their way to reservation_service: written with the change, kept until delivered, never dropped."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from payment_service.store.tables import outbox
from shared import due_rows
from shared.changes import NOW, placed
from shared.database import Connection, Row
from shared.identifiers import new_id
from shared.prepared import Prepared

_APPEND = Prepared(
    insert(outbox).values(
        due_at=func.clock_timestamp(), **placed(outbox, "id", "payment_id", "version", "status", "event")
    )
)
_told = select(outbox.c.payment_id, outbox.c.version).subquery("told")
_NEWEST = (
    select(func.max(_told.c.version))
    .where(_told.c.payment_id == outbox.c.payment_id)
    .correlate(outbox)
    .scalar_subquery()
).label("newest")


async def append(tx: Connection, payment_id: UUID, version: int, status: str, event: dict[str, Any]) -> None:
    """Write the news in the transaction that makes it true; due at once."""
    await _APPEND.count(tx, id=new_id(), payment_id=payment_id, version=version, status=status, event=event)


async def claim(tx: Connection, *, limit: int, lease_s: float) -> Sequence[Row]:
    """Lease news that is due; `newest` says whether there is newer news of the same payment, which supersedes it."""
    return await due_rows.claim_due(tx, outbox, limit=limit, lease_s=lease_s, also=(_NEWEST,))


async def delivered(tx: Connection, row: Row, receipt: str) -> bool:
    """Finish a row with what the receiver said."""
    return await due_rows.finish(
        tx, outbox, row["id"], row["lease_epoch"], delivered_at=NOW, receipt=receipt, last_error=None
    )


async def failed(tx: Connection, row: Row, error: str, *, due_in_s: float) -> bool:
    """Put a row back; it never dies."""
    return await due_rows.put_back(tx, outbox, row["id"], row["lease_epoch"], due_in_s=due_in_s, last_error=error)


async def history(connection: Connection, payment_id: UUID) -> Sequence[Row]:
    """Return every told change of a payment, in order."""
    found = await connection.execute(
        select(outbox.c.version, outbox.c.status, outbox.c.created_at, outbox.c.delivered_at, outbox.c.receipt)
        .where(outbox.c.payment_id == payment_id)
        .order_by(outbox.c.version)
    )
    rows: Sequence[Row] = found.mappings().all()
    return rows


async def backlog(connection: Connection) -> int:
    """Count undelivered news."""
    waiting: int = (
        await connection.execute(select(func.count()).select_from(outbox).where(outbox.c.due_at.is_not(None)))
    ).scalar_one()
    return waiting
