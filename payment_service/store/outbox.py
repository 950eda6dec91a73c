"""News of payments on their way to reservation_service: written with the change, kept until delivered, never dropped."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Float, and_, bindparam, case, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.store.tables import outbox
from shared import due_rows
from shared.changes import from_now, placed
from shared.database import Connection, Row
from shared.identifiers import new_id
from shared.payment_contract import KnownVersion
from shared.prepared import Prepared

SUPERSEDED = "superseded"
"""The receipt of news that newer news of the same payment has made superfluous."""
KNOWN = "known"
"""The receipt of news that the receiver had stored before, from the answer to a call of its own."""

_APPEND = Prepared(
    insert(outbox).values(
        due_at=from_now(bindparam("due_in_s", type_=Float)),
        **placed(outbox, "id", "payment_id", "version", "status", "event"),
    )
)
_told = select(outbox.c.payment_id, outbox.c.version).subquery("told")
_NEWEST = (
    select(func.max(_told.c.version))
    .where(_told.c.payment_id == outbox.c.payment_id)
    .correlate(outbox)
    .scalar_subquery()
).label("newest")


async def append(
    tx: Connection, payment_id: UUID, version: int, status: str, event: dict[str, Any], *, due_in_s: float
) -> None:
    """Write the news in the transaction that makes it true."""
    news = {"payment_id": payment_id, "version": version, "status": status, "event": event}
    await _APPEND.count(tx, id=new_id(), **news, due_in_s=due_in_s)


async def claim(tx: Connection, *, limit: int, lease_s: float) -> Sequence[Row]:
    """Lease news that is due; `newest` says whether there is newer news of the same payment, which supersedes it."""
    return await due_rows.claim_due(tx, outbox, limit=limit, lease_s=lease_s, also=(_NEWEST,))


async def delivered(tx: Connection, row: Row, receipt: str, known: Sequence[KnownVersion] = ()) -> int:
    """Finish a row with what the receiver said, older news of its payment, and what the receiver knows besides.

    Whoever has the lease of one of them: what has arrived need not be told again. Returns how many rows that were.
    """
    told = {"payment_id0": row["payment_id"], "version0": row["version"], "receipt": receipt}
    for number, one in enumerate(known, start=1):
        told |= {f"payment_id{number}": one.payment_id, f"version{number}": one.version}
    return await _delivered(1 + len(known)).count(tx, **told)


@cache
def _delivered(payments: int) -> Prepared:
    """Return what finishes the news of so many payments: the one that was told, and the few that a receipt names."""
    places = [placed(outbox, "payment_id", "version", number=number) for number in range(payments)]
    each = [and_(outbox.c.payment_id == at["payment_id"], outbox.c.version <= at["version"]) for at in places]
    newest, its_payment = outbox.c.version == places[0]["version"], outbox.c.payment_id == places[0]["payment_id"]
    said = bindparam("receipt", type_=outbox.c.receipt.type)
    finished = update(outbox).where(outbox.c.due_at.is_not(None), or_(*each))
    return Prepared(
        finished.values(
            due_at=null(),
            lease_until=null(),
            delivered_at=func.clock_timestamp(),
            receipt=case((and_(its_payment, newest), said), (its_payment, SUPERSEDED), else_=KNOWN),
            last_error=null(),
        )
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
