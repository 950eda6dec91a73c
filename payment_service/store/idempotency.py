"""Answers of the internal POSTs, kept under (route, key): a replay, even a stolen one, has no second effect."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

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


def _in(delay_s: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, delay_s)


def _of(request: Keyed) -> ColumnElement[bool]:
    return and_(answers.c.route == request.route, answers.c.key == request.key)


async def claim(tx: Connection, request: Keyed, *, lease_s: float) -> Stored | None:
    """Mark a request as running; None means: it is yours. Else what is kept, final or not."""
    free = or_(answers.c.lease_until.is_(None), answers.c.lease_until < func.clock_timestamp())
    claimed = await tx.execute(
        insert(answers)
        .values(
            route=request.route,
            key=request.key,
            fingerprint=request.fingerprint,
            payment_id=request.payment_id,
            lease_until=_in(lease_s),
        )
        .on_conflict_do_update(
            index_elements=["route", "key"],
            set_={"lease_until": _in(lease_s)},
            where=and_(answers.c.outcome.is_(None), free, answers.c.fingerprint == request.fingerprint),
        )
        .returning(answers.c.key)
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


async def forget(tx: Connection, *, older_than_days: int, limit: int) -> int:
    """Delete old answers; returns how many."""
    oldest = func.clock_timestamp() - func.make_interval(0, 0, 0, older_than_days)
    old = select(answers.c.route, answers.c.key).where(answers.c.created_at < oldest).limit(limit).subquery()
    gone = await tx.execute(delete(answers).where(answers.c.route == old.c.route, answers.c.key == old.c.key))
    return gone.rowcount
