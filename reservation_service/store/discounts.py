"""Rows of discounts, and how many pinned bookings use one: counted whenever it matters, so that it cannot drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, and_, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Select

from reservation_service.states import BookingStatus
from reservation_service.store.tables import discounts, reservations

Discount = RowMapping


@dataclass(frozen=True)
class Uses:
    """How many bookings that pin seats have a discount now, and how many of them are this customer's."""

    total: int
    mine: int


def _discounts() -> Select[Any]:
    """Select rows with what only the database's clock may judge."""
    now = func.clock_timestamp()
    return select(
        discounts,
        func.coalesce(discounts.c.valid_from > now, text("false")).label("early"),
        func.coalesce(discounts.c.valid_until <= now, text("false")).label("over"),
    )


def _with_used() -> Select[Any]:
    """Add how many uses are taken, as guests would find it: a hold whose time is over has given its use back."""
    lapsed = and_(reservations.c.status == BookingStatus.HELD, reservations.c.expires_at <= func.clock_timestamp())
    used = (
        select(func.count())
        .where(reservations.c.discount_id == discounts.c.id, reservations.c.seats_pinned, ~lapsed)
        .correlate(discounts)
        .scalar_subquery()
    )
    return _discounts().add_columns(used.label("used"))


async def active_with_code(connection: AsyncConnection, code: str) -> Sequence[Discount]:
    """Return the active discounts of this code: at most one per experience, and one for all of them."""
    query = _discounts().where(discounts.c.code == code, discounts.c.active)
    rows: Sequence[Discount] = (await connection.execute(query)).mappings().all()
    return rows


async def lock(tx: AsyncConnection, discount_id: UUID) -> Discount:
    """Lock a discount so that its uses can be counted; the first lock of whoever takes it."""
    # NO KEY: bookings that merely refer to it, and need no count, are not in the way.
    query = _discounts().where(discounts.c.id == discount_id).with_for_update(key_share=True)
    row: Discount = (await tx.execute(query)).mappings().one()
    return row


async def uses(tx: AsyncConnection, discount_id: UUID, caller: str) -> Uses:
    """Count the uses of a locked discount."""
    mine = func.count().filter(reservations.c.caller == caller)
    counted = await tx.execute(
        select(func.count(), mine).where(reservations.c.discount_id == discount_id, reservations.c.seats_pinned)
    )
    return Uses(*counted.one())


async def add(tx: AsyncConnection, discount: Mapping[str, Any]) -> None:
    await tx.execute(insert(discounts).values(**discount))


async def change(tx: AsyncConnection, discount_id: UUID, values: Mapping[str, Any]) -> None:
    """Change a locked discount, and note when its limits became others."""
    limits = {"max_uses", "max_uses_per_customer"} & values.keys()
    noted = {"limits_changed_at": func.clock_timestamp()} if limits else {}
    await tx.execute(update(discounts).where(discounts.c.id == discount_id).values(**values, **noted))


async def discount(connection: AsyncConnection, discount_id: UUID) -> Discount | None:
    """Return a discount with how often it is used."""
    found = await connection.execute(_with_used().where(discounts.c.id == discount_id))
    row: Discount | None = found.mappings().one_or_none()
    return row


async def page(connection: AsyncConnection, *, limit: int, after: UUID | None) -> Sequence[Discount]:
    """Return discounts with how often they are used, newest first."""
    query = _with_used().order_by(discounts.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(discounts.c.id < after)
    rows: Sequence[Discount] = (await connection.execute(query)).mappings().all()
    return rows
