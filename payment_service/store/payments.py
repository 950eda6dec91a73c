"""Rows of payments and their refunds: read, locked, changed; each told change takes the next version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Float, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.errors import PaymentNotFound
from payment_service.states import UNSETTLED, RefundStatus
from payment_service.store.tables import payments, question_numbers, refunds
from shared.changes import NOW, Shape, assignments, from_now, placed, shape_of, written
from shared.columns import is_one_of
from shared.database import Connection, Row
from shared.payment_contract import CancelPayment, CreatePayment, PaymentStatus, RefundPayment
from shared.prepared import Prepared

NO_CURRENCY = "XXX"
"""ISO 4217's own word for it: the currency of a payment that was cancelled before it was ever created."""


@dataclass(frozen=True)
class Payment:
    """One row of `payments`; amounts in minor units."""

    id: UUID
    reservation_id: UUID
    generation: int
    status: PaymentStatus
    version: int
    amount: int
    currency: str
    capture_method: str
    captured: int
    refunded: int
    intent_id: str | None
    client_secret: str | None
    decline_class: str | None
    refusal_code: str | None
    trouble: str | None
    capture_before: datetime | None
    cancel_requested_at: datetime | None
    question: int
    created_at: datetime
    updated_at: datetime

    def is_the_one_of(self, order: CreatePayment) -> bool:
        """Tell whether this row is what a create asks for; everything but the id could differ by mistake."""
        mine = (self.reservation_id, self.generation, self.amount, self.currency, self.capture_method)
        return mine == (order.reservation_id, order.generation, order.amount, order.currency, order.capture_method)


@dataclass(frozen=True)
class Refund:
    """One row of `refunds`."""

    id: UUID
    payment_id: UUID
    amount: int
    reason: str
    status: RefundStatus
    stripe_refund_id: str | None
    failure: str | None
    question: int
    created_at: datetime


PAYMENT_COLUMNS = tuple(payments.c[field.name] for field in fields(Payment))
_REFUND_COLUMNS = tuple(refunds.c[field.name] for field in fields(Refund))

_ONE = select(*PAYMENT_COLUMNS).where(payments.c.id == bindparam("payment_id"))
_OF_INTENT = select(*PAYMENT_COLUMNS).where(payments.c.intent_id == bindparam("intent_id"))
_BY_ID = Prepared(_ONE)
_BY_ID_LOCKED = Prepared(_ONE.with_for_update())
_BY_INTENT = Prepared(_OF_INTENT)
_BY_INTENT_UNLESS_LOCKED = Prepared(_OF_INTENT.with_for_update(skip_locked=True))
_ORDERED = ("id", "reservation_id", "generation", "status", "amount", "currency", "capture_method")
_INSERT = Prepared(
    insert(payments).values(placed(payments, *_ORDERED)).on_conflict_do_nothing().returning(*PAYMENT_COLUMNS)
)
_REFUNDS_OF = Prepared(
    select(*_REFUND_COLUMNS)
    .where(refunds.c.payment_id == bindparam("payment_id"))
    .order_by(refunds.c.created_at, refunds.c.id)
)
_OLD = or_(payments.c.refreshed_at.is_(None), payments.c.refreshed_at < from_now(bindparam("since_s", type_=Float)))
_CLAIM_REFRESH = Prepared(
    update(payments)
    .where(payments.c.id == bindparam("payment_id"), _OLD)
    .values(refreshed_at=func.clock_timestamp())
    .returning(question_numbers.next_value())
)
_NEXT_QUESTION = Prepared(select(question_numbers.next_value()))


def payment_of(row: Row) -> Payment:
    values = {column.name: row[column.name] for column in PAYMENT_COLUMNS}
    return Payment(**{**values, "status": PaymentStatus(row["status"])})


def _refund(row: Mapping[str, Any]) -> Refund:
    return Refund(**{**row, "status": RefundStatus(row["status"])})


async def insert_new(tx: Connection, order: CreatePayment) -> Payment | None:
    """Write the intent down and return it; None when its id, or its reservation and generation, is there already."""
    values = order.model_dump(include={"reservation_id", "generation", "amount", "currency", "capture_method"})
    row = await _INSERT.row(tx, id=order.payment_id, status=PaymentStatus.NONE, **values)
    return payment_of(row) if row else None


async def insert_cancelled_first(tx: Connection, payment_id: UUID, order: CancelPayment) -> None:
    """Leave a tombstone (version 0) for a create that the cancel has overtaken; a known payment stays as it is."""
    await _INSERT.row(
        tx,
        id=payment_id,
        reservation_id=order.reservation_id,
        generation=order.generation,
        status=PaymentStatus.CANCELED,
        amount=0,
        currency=NO_CURRENCY,
        capture_method="manual",
    )


async def learn_order(tx: Connection, order: CreatePayment) -> Payment:
    """Complete a tombstone by what the late create says; nobody has to be told."""
    return await note(
        tx, order.payment_id, amount=order.amount, currency=order.currency, capture_method=order.capture_method
    )


async def lock(tx: Connection, payment_id: UUID) -> Payment | None:
    """Read a payment and keep everybody else from changing it until the transaction ends."""
    row = await _BY_ID_LOCKED.row(tx, payment_id=payment_id)
    return payment_of(row) if row else None


async def lock_existing(tx: Connection, payment_id: UUID) -> Payment:
    """Lock a payment that must be there. Raises PaymentNotFound (404)."""
    payment = await lock(tx, payment_id)
    if payment is None:
        raise PaymentNotFound
    return payment


async def lock_by_intent(tx: Connection, intent_id: str, payment_id: UUID | None) -> Payment | None:
    """Find the payment of an intent by Stripe's id, or by the id of ours that the intent carries."""
    known = payments.c.intent_id == intent_id
    named = payments.c.id == payment_id
    found = await tx.execute(
        select(*PAYMENT_COLUMNS).where(or_(known, named) if payment_id else known).with_for_update()
    )
    rows = found.mappings().all()
    return payment_of(rows[0]) if len(rows) == 1 else None


async def lock_known(tx: Connection, intent_id: str) -> Payment | None:
    """Lock the payment of an intent; None when no row knows it yet, or when somebody else has it in hand."""
    row = await _BY_INTENT_UNLESS_LOCKED.row(tx, intent_id=intent_id)
    return payment_of(row) if row else None


async def read(connection: Connection, payment_id: UUID) -> Payment | None:
    row = await _BY_ID.row(connection, payment_id=payment_id)
    return payment_of(row) if row else None


async def read_known(connection: Connection, intent_id: str) -> Payment | None:
    """Return the payment of an intent as it stands; None when no row knows it yet."""
    row = await _BY_INTENT.row(connection, intent_id=intent_id)
    return payment_of(row) if row else None


async def by_stripe_or_our_id(
    connection: Connection, intent_ids: Sequence[str], payment_ids: Sequence[UUID]
) -> list[Payment]:
    """Return the payments that these intents belong to, by either name."""
    found = await connection.execute(
        select(*PAYMENT_COLUMNS).where(or_(payments.c.intent_id.in_(intent_ids), payments.c.id.in_(payment_ids)))
    )
    return [payment_of(row) for row in found.mappings()]


async def page(
    connection: Connection, *, limit: int, after: UUID | None, status: PaymentStatus | None = None
) -> list[Payment]:
    """Return payments in order of id; ask for one more than wanted to learn whether there are more."""
    query = select(*PAYMENT_COLUMNS).order_by(payments.c.id).limit(limit)
    if after:
        query = query.where(payments.c.id > after)
    if status:
        query = query.where(payments.c.status == status)
    return [payment_of(row) for row in (await connection.execute(query)).mappings()]


async def next_question(connection: Connection) -> int:
    """Number a question to Stripe; take it before asking."""
    number: int = await _NEXT_QUESTION.value(connection)
    return number


async def claim_refresh(connection: Connection, payment_id: UUID, *, interval_s: float) -> int | None:
    """Return a question number if nobody has asked about this payment lately, in any process."""
    number: int | None = await _CLAIM_REFRESH.value(connection, payment_id=payment_id, since_s=-interval_s)
    return number


async def claim_unsettled(tx: Connection, *, limit: int, interval_s: float) -> list[tuple[Payment, int]]:
    """Return payments that Stripe may have moved and nobody has asked about lately, each with a question number."""
    now = func.clock_timestamp()
    asked_at = func.coalesce(payments.c.refreshed_at, payments.c.created_at)
    due = (
        select(payments.c.id)
        .where(
            text(is_one_of("status", sorted(UNSETTLED))),  # spelt as in the index, so that it is used
            payments.c.intent_id.is_not(None),
            asked_at < from_now(-interval_s),
        )
        .order_by(asked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    claimed = await tx.execute(
        update(payments)
        .where(payments.c.id.in_(select(due.c.id)))
        .values(refreshed_at=now)
        .returning(*PAYMENT_COLUMNS, question_numbers.next_value().label("asked"))
    )
    return [(payment_of(row), row["asked"]) for row in claimed.mappings()]


async def change(tx: Connection, payment_id: UUID, **values: Any) -> Payment:
    """Change a locked payment; the next version, because somebody will be told. The caller has the ledger follow."""
    return payment_of(await _told(shape_of(values)).one(tx, payment_id=payment_id, **written(values)))


async def note(tx: Connection, payment_id: UUID, **values: Any) -> Payment:
    """Write down what nobody outside has to know."""
    return payment_of(await _noted(shape_of(values)).one(tx, payment_id=payment_id, **written(values)))


async def wish_cancelled(tx: Connection, payment_id: UUID) -> Payment:
    """Remember that this payment shall end, so that nothing starts it any more."""
    return await note(tx, payment_id, cancel_requested_at=NOW)


@cache
def _told(shape: Shape) -> Prepared:
    following = payments.c.version + 1
    told = {"version": following, "posted_version": following, "updated_at": func.clock_timestamp()}
    return _change(told | assignments(payments, shape))


@cache
def _noted(shape: Shape) -> Prepared:
    return _change(assignments(payments, shape))


def _change(values: Mapping[str, Any]) -> Prepared:
    one = update(payments).where(payments.c.id == bindparam("payment_id"))
    return Prepared(one.values(**values).returning(*PAYMENT_COLUMNS))


async def refunds_of(connection: Connection, payment_id: UUID) -> list[Refund]:
    """Return the refunds of a payment, oldest first."""
    return [_refund(row) for row in await _REFUNDS_OF.rows(connection, payment_id=payment_id)]


async def find_refund(connection: Connection, refund_id: UUID) -> Refund | None:
    found = await connection.execute(select(*_REFUND_COLUMNS).where(refunds.c.id == refund_id))
    row = found.mappings().one_or_none()
    return _refund(dict(row)) if row else None


async def insert_refund(tx: Connection, payment_id: UUID, order: RefundPayment) -> Refund:
    """Write the intent down; the caller holds the payment and has done the sum."""
    inserted = await tx.execute(
        insert(refunds)
        .values(
            id=order.refund_id,
            payment_id=payment_id,
            amount=order.amount,
            reason=order.reason,
            status=RefundStatus.REQUESTED,
        )
        .returning(*_REFUND_COLUMNS)
    )
    return _refund(dict(inserted.mappings().one()))


async def change_refund(tx: Connection, refund_id: UUID, **values: Any) -> None:
    await tx.execute(
        update(refunds).where(refunds.c.id == refund_id).values(updated_at=func.clock_timestamp(), **values)
    )
