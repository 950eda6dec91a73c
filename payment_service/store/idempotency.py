"""Answers of the internal POSTs, kept under (route, key): a replay, even a stolen one, has no second effect."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Float, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.store.tables import idempotent_answers as answers
from shared.changes import from_now, placed
from shared.database import Connection
from shared.payment_contract import Outcome
from shared.prepared import Prepared


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


def _claim() -> Prepared:
    free = or_(answers.c.lease_until.is_(None), answers.c.lease_until < func.clock_timestamp())
    lease_until = from_now(bindparam("lease_s", type_=Float))
    new = insert(answers).values(
        lease_until=lease_until, **placed(answers, "route", "key", "fingerprint", "payment_id")
    )
    same = answers.c.fingerprint == new.excluded.fingerprint
    return Prepared(
        new.on_conflict_do_update(
            index_elements=["route", "key"],
            set_={"lease_until": lease_until},
            where=and_(answers.c.outcome.is_(None), free, same),
        ).returning(answers.c.key)
    )


_THE_ONE = and_(answers.c.route == bindparam("of_route"), answers.c.key == bindparam("of_key"))
_UNFINISHED = and_(_THE_ONE, answers.c.outcome.is_(None))
_CLAIM = _claim()
_KEPT = Prepared(select(answers).where(_THE_ONE))
_KEEP = Prepared(update(answers).where(_UNFINISHED).values(lease_until=None, **placed(answers, "outcome", "error")))
_LET_GO = Prepared(update(answers).where(_UNFINISHED).values(lease_until=None))
_TAKE_BACK = Prepared(delete(answers).where(_UNFINISHED))


async def claim(tx: Connection, request: Keyed, *, lease_s: float) -> bool:
    """Mark a request as running; False when its key is kept, running elsewhere, or another request's."""
    return await _CLAIM.row(tx, **vars(request), lease_s=lease_s) is not None


async def kept(connection: Connection, request: Keyed) -> Stored | None:
    """Return what is kept under a key that could not be claimed; None when it was taken back meanwhile."""
    row = await _KEPT.row(connection, **_of(request))
    if row is None:
        return None
    outcome = Outcome(row["outcome"]) if row["outcome"] else None
    return Stored(row["fingerprint"] == request.fingerprint, outcome, row["error"])


async def keep(tx: Connection, request: Keyed, outcome: Outcome, error: dict[str, Any] | None) -> None:
    """Make an outcome final; the first one wins."""
    await _KEEP.count(tx, **_of(request), outcome=outcome, error=error)


async def let_go(tx: Connection, request: Keyed) -> None:
    """Free the key at once: nothing final came of it, the same call may come again. What it meant stays."""
    await _LET_GO.count(tx, **_of(request))


async def take_back(tx: Connection, request: Keyed) -> None:
    """Forget a key under which nothing was begun: the next order that it carries may be another one."""
    await _TAKE_BACK.count(tx, **_of(request))


def _of(request: Keyed) -> dict[str, str]:
    return {"of_route": request.route, "of_key": request.key}


async def forget(tx: Connection, *, older_than_days: int, limit: int) -> int:
    """Delete old answers; returns how many."""
    # asked for once, in a subquery: PostgreSQL looks nothing up in an index by a volatile function
    oldest = select(func.clock_timestamp() - func.make_interval(0, 0, 0, older_than_days)).scalar_subquery()
    by_age = select(answers.c.route, answers.c.key).where(answers.c.created_at < oldest).order_by(answers.c.created_at)
    old = by_age.limit(limit).subquery()
    gone = await tx.execute(delete(answers).where(answers.c.route == old.c.route, answers.c.key == old.c.key))
    return gone.rowcount
