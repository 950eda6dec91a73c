"""Rows of disputes, as Stripe showed them last."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from payment_service.states import DISPUTE_HOLDS_MONEY, DisputeStatus
from payment_service.store.tables import disputes
from shared.database import Connection
from shared.prepared import Prepared


@dataclass(frozen=True)
class Dispute:
    """One row of `disputes`; the amount in minor units of the payment's currency."""

    id: UUID
    payment_id: UUID
    stripe_dispute_id: str
    amount: int
    status: DisputeStatus
    reason: str
    question: int
    created_at: datetime


_COLUMNS = tuple(disputes.c[field.name] for field in fields(Dispute))


_OF_PAYMENT = Prepared(
    select(*_COLUMNS)
    .where(disputes.c.payment_id == bindparam("payment_id"))
    .order_by(disputes.c.created_at, disputes.c.id)
)


async def of_payment(connection: Connection, payment_id: UUID) -> list[Dispute]:
    """Return the disputes of a payment, oldest first."""
    rows = await _OF_PAYMENT.rows(connection, payment_id=payment_id)
    return [Dispute(**{**row, "status": DisputeStatus(row["status"])}) for row in rows]


async def held_of(connection: Connection, payment_id: UUID) -> int:
    """Return how much of a payment its disputes hold, for now or for good, in minor units."""
    return sum(row.amount for row in await of_payment(connection, payment_id) if row.status in DISPUTE_HOLDS_MONEY)


async def write(tx: Connection, dispute_id: UUID, **values: Any) -> None:
    """Write a dispute down as it is now, new or known."""
    changed = {"status": values["status"], "question": values["question"], "updated_at": func.clock_timestamp()}
    await tx.execute(
        insert(disputes).values(id=dispute_id, **values).on_conflict_do_update(index_elements=["id"], set_=changed)
    )
