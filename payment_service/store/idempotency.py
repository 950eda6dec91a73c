"""Answers of the internal POSTs, kept under (route, key): a replay, even a stolen one, has no second effect."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from payment_service.store.tables import idempotent_answers as answers
from shared.database import Connection
from shared.payment_contract import Outcome


@dataclass(frozen=True)
class Keyed:
    """What makes a request this request."""

    route: str
    key: str
    fingerprint: bytes
    payment_id: UUID


@dataclass(frozen=True)
class Stored:
    """What is kept under a key: nothing final yet, or an outcome."""

    same_request: bool
    outcome: Outcome | None
    error: dict[str, Any] | None


def _in(delay_s: float | ColumnElement[Any]) -> ColumnElement[Any]:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, delay_s)


def _claim() -> ReturningInsert[Any]:
    free = or_(answers.c.lease_until.is_(None), answers.c.lease_until < func.clock_timestamp())
    lease_until = _in(bindparam("lease_s", type_=Float))
    new = insert(answers).values(
        route=bindparam("of_route"),
        key=bindparam("of_key"),
        fingerprint=bindparam("of_fingerprint"),
        payment_id=bindparam("of_payment"),
        lease_until=lease_until,
    )
    same = answers.c.fingerprint == new.excluded.fingerprint
    return new.on_conflict_do_update(
        index_elements=["route", "key"],
        set_={"lease_until": lease_until},
        where=and_(answers.c.outcome.is_(None), free, same),
    ).returning(answers.c.key)


_CLAIM = _claim()  # made once: it would cost more than to run it


def _of(request: Keyed) -> ColumnElement[bool]:
    return and_(answers.c.route == request.route, answers.c.key == request.key)


async def claim(tx: Connection, request: Keyed, *, lease_s: float) -> Stored | None:
    """Mark a request as running; None means: it is yours. Else what is kept, final or not."""
    claimed = await tx.execute(
        _CLAIM,
        {
            "of_route": request.route,
            "of_key": request.key,
            "of_fingerprint": request.fingerprint,
            "of_payment": request.payment_id,
            "lease_s": lease_s,
        },
    )
    if claimed.first():
        return None
    kept = (await tx.execute(select(answers).where(_of(request)))).mappings().one()
    outcome = Outcome(kept["outcome"]) if kept["outcome"] else None
    return Stored(kept["fingerprint"] == request.fingerprint, outcome, kept["error"])


async def keep(tx: Connection, request: Keyed, outcome: Outcome, error: dict[str, Any] | None) -> None:
    """Make an outcome final; the first one wins."""
    await tx.execute(
        update(answers)
        .where(_of(request), answers.c.outcome.is_(None))
        .values(outcome=outcome, error=error, lease_until=None)
    )


async def let_go(tx: Connection, request: Keyed) -> None:
    """Free the key at once: nothing final came of it, the same call may come again. What it meant stays."""
    await tx.execute(update(answers).where(_of(request), answers.c.outcome.is_(None)).values(lease_until=None))


async def take_back(tx: Connection, request: Keyed) -> None:
    """Forget a key under which nothing was begun: the next order that it carries may be another one."""
    await tx.execute(delete(answers).where(_of(request), answers.c.outcome.is_(None)))


async def forget(tx: Connection, *, older_than_days: int, limit: int) -> int:
    """Delete old answers; returns how many."""
    oldest = func.clock_timestamp() - func.make_interval(0, 0, 0, older_than_days)
    old = select(answers.c.route, answers.c.key).where(answers.c.created_at < oldest).limit(limit).subquery()
    gone = await tx.execute(delete(answers).where(answers.c.route == old.c.route, answers.c.key == old.c.key))
    return gone.rowcount
