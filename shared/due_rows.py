"""A table as a queue: rows fall due, are claimed under a lease, finished, put back, or buried.

The row is the queue, so nothing can be stored and then forgotten. `lease_epoch` grows with each claim and fences a
worker that was frozen: it writes only `WHERE lease_epoch = mine`. Judged by the database's clock throughout.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    DateTime,
    Float,
    Integer,
    Table,
    Update,
    and_,
    bindparam,
    func,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import ReturningUpdate

from shared.changes import Shape, assignments, from_now, shape_of, written
from shared.prepared import Prepared

DueRow = Mapping[str, Any]
Only = ColumnElement[bool] | None


def due_columns() -> tuple[Column[Any], ...]:
    """Return the columns that make a table claimable; index `due_at` where it is not null."""
    return (
        Column("due_at", DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        Column("lease_until", DateTime(timezone=True), nullable=True),
        Column("lease_epoch", Integer, nullable=False, server_default="0"),
        Column("attempts", Integer, nullable=False, server_default="0"),
    )


def _free(table: Table) -> ColumnElement[bool]:
    return or_(table.c.lease_until.is_(None), table.c.lease_until < func.clock_timestamp())


async def claim_due(
    connection: AsyncConnection,
    table: Table,
    *,
    limit: int,
    lease_s: float,
    also: tuple[ColumnElement[Any], ...] = (),
    only: Only = None,
    **bound: Any,
) -> Sequence[DueRow]:
    """Lease up to `limit` due rows, oldest first; rows that another worker is looking at are passed over.

    `also` is told of each of them beside its columns; `only` says which rows are anything to us, with what is bound in it.
    """
    return await _claim_due(table, also, only).rows(connection, at_most=limit, lease_s=lease_s, **bound)


async def claim_one(
    connection: AsyncConnection, table: Table, row_id: UUID, *, lease_s: float, only: Only = None, **bound: Any
) -> DueRow | None:
    """Lease one row now, whether or not it is due yet; None when it is finished, somebody holds it, or it is not ours."""
    return await _claim_one(table, only).row(connection, row_id=row_id, lease_s=lease_s, **bound)


async def claim_alike(
    connection: AsyncConnection,
    table: Table,
    column: Column[Any],
    values: Collection[Any],
    *,
    limit: int,
    lease_s: float,
) -> Sequence[DueRow]:
    """Lease unfinished rows that share one of these values, due or not: work that is done together anyway."""
    alike = (
        select(table.c.id)
        .where(and_(column.in_(values), table.c.due_at.is_not(None), _free(table)))
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("alike")
    )
    leased = await connection.execute(_lease(table, table.c.id.in_(select(alike.c.id))), {"lease_s": lease_s})
    rows: Sequence[DueRow] = leased.mappings().all()
    return rows


# In a subquery it is asked once, so the index by due time ends there; else every row that is due later is looked at too.
_NOW = select(func.clock_timestamp()).scalar_subquery()


@cache
def _claim_due(table: Table, also: tuple[ColumnElement[Any], ...], only: Only) -> Prepared:
    due = (
        select(table.c.id)
        .where(and_(table.c.due_at <= _NOW, _free(table), *_also_if(only)))
        .order_by(table.c.due_at)
        .limit(bindparam("at_most", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("due")  # a common table expression with a row lock is run once, so the limit is the limit
    )
    return Prepared(_lease(table, table.c.id.in_(select(due.c.id)), *also))


@cache
def _claim_one(table: Table, only: Only) -> Prepared:
    unfinished = and_(table.c.id == bindparam("row_id"), table.c.due_at.is_not(None))
    return Prepared(_lease(table, and_(unfinished, _free(table), *_also_if(only))))


def _also_if(only: Only) -> tuple[ColumnElement[bool], ...]:
    return () if only is None else (only,)


def renewal(table: Table) -> Update:
    """Return what lengthens the lease of one row, and locks it, for a worker that still holds it."""
    return update(table).where(_mine(table)).values(lease_until=from_now(bindparam("lease_s", type_=Float)))


@cache
def _renew(table: Table) -> Prepared:
    return Prepared(renewal(table))


def _mine(table: Table) -> ColumnElement[bool]:
    return and_(table.c.id == bindparam("row_id"), table.c.lease_epoch == bindparam("epoch"))


def _lease(table: Table, which: ColumnElement[bool], *also: ColumnElement[Any]) -> ReturningUpdate[Any]:
    return (
        update(table)
        .where(which)
        .values(
            lease_until=from_now(bindparam("lease_s", type_=Float)),
            lease_epoch=table.c.lease_epoch + 1,
            attempts=table.c.attempts + 1,
        )
        .returning(table, *also)
    )


async def still_mine(connection: AsyncConnection, table: Table, row_id: UUID, epoch: int, *, lease_s: float) -> bool:
    """Lock the row and lengthen the lease; False when another worker has taken over, and nothing may be written."""
    return await _renew(table).count(connection, row_id=row_id, epoch=epoch, lease_s=lease_s) == 1


async def still_mine_of(
    connection: AsyncConnection, table: Table, held: Sequence[tuple[UUID, int]], *, lease_s: float
) -> set[UUID]:
    """Do the same for many rows, given with their epochs; returns the ids of those that may be written."""
    renewed = await connection.execute(
        update(table).where(_held(table, held)).values(lease_until=from_now(lease_s)).returning(table.c.id)
    )
    return set(renewed.scalars())


def _held(table: Table, held: Sequence[tuple[UUID, int]]) -> ColumnElement[bool]:
    return tuple_(table.c.id, table.c.lease_epoch).in_(held)


async def put_back(
    connection: AsyncConnection, table: Table, row_id: UUID, epoch: int, *, due_in_s: float, **values: Any
) -> bool:
    """Give the lease up and fall due again after `due_in_s`; what is finished stays finished.

    The worker may have finished it itself, in a transaction whose commit it never heard of.
    """
    settled = await _put_back(table, shape_of(values)).count(
        connection, row_id=row_id, epoch=epoch, due_in_s=due_in_s, **written(values)
    )
    return settled == 1


async def finish(connection: AsyncConnection, table: Table, row_id: UUID, epoch: int, **values: Any) -> bool:
    """Give the lease up for good: the row never falls due again by itself."""
    settled = await _finish(table, shape_of(values)).count(connection, row_id=row_id, epoch=epoch, **written(values))
    return settled == 1


@cache
def _put_back(table: Table, shape: Shape) -> Prepared:
    due_at = from_now(bindparam("due_in_s", type_=Float))
    unfinished = and_(_mine(table), table.c.due_at.is_not(None))
    return Prepared(_given_up(table, shape).where(unfinished).values(due_at=due_at))


@cache
def _finish(table: Table, shape: Shape) -> Prepared:
    return Prepared(_given_up(table, shape).where(_mine(table)).values(due_at=null()))


def _given_up(table: Table, shape: Shape) -> Update:
    return update(table).values(lease_until=null(), **assignments(table, shape))


async def finish_all(
    connection: AsyncConnection, table: Table, held: Sequence[tuple[UUID, int]], **values: Any
) -> None:
    """Finish many rows with the same words; those that somebody else has taken over stay as they are."""
    await connection.execute(update(table).where(_held(table, held)).values(due_at=None, lease_until=None, **values))


async def make_due(connection: AsyncConnection, table: Table, row_id: UUID) -> None:
    """Let an unfinished row fall due now; attempts start anew, because something has changed."""
    await _make_due(table).count(connection, row_id=row_id)


@cache
def _make_due(table: Table) -> Prepared:
    unfinished = and_(table.c.id == bindparam("row_id"), table.c.due_at.is_not(None))
    return Prepared(update(table).where(unfinished).values(due_at=func.clock_timestamp(), attempts=0))


def backoff_s(
    attempt: int,
    *,
    first_s: float = 1.0,
    cap_s: float = 60.0,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return how long to wait after the `attempt`-th try (1, 2, ...): between half and all of `first_s * 2^(n-1)`."""
    ceiling = min(cap_s, first_s * 2.0 ** min(attempt - 1, 30))
    return uniform(ceiling / 2, ceiling)
