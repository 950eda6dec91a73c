"""Rows of Stripe's events: stored once, claimed under a lease, finished, put back, or buried with a reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, case, false, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement

from payment_service.states import EventStatus
from payment_service.store.tables import webhook_events as events
from shared import due_rows
from shared.database import Connection, Row
from shared.identifiers import new_id


@dataclass(frozen=True)
class Hint:
    """What an event tells: which object to look at. Its picture of the object is not believed, so it is not here."""

    stripe_event_id: str
    type: str
    object_id: str
    intent_id: str
    livemode: bool


@dataclass(frozen=True)
class Claimed:
    """An event that this process may work on until its lease ends."""

    id: UUID
    epoch: int
    attempts: int
    age_s: float
    hint: Hint


@dataclass(frozen=True)
class Accepted:
    """What storing an event found."""

    id: UUID
    duplicate: bool
    finished: bool


async def store(tx: Connection, hint: Hint) -> Accepted:
    """Insert an event, or count one more delivery of a known one."""
    stored = await tx.execute(
        insert(events)
        .values(
            id=new_id(),
            stripe_event_id=hint.stripe_event_id,
            type=hint.type,
            object_id=hint.object_id,
            intent_id=hint.intent_id,
            livemode=hint.livemode,
            due_at=func.clock_timestamp(),
        )
        .on_conflict_do_update(index_elements=["stripe_event_id"], set_={"deliveries": events.c.deliveries + 1})
        .returning(events.c.id, events.c.deliveries, events.c.due_at)
    )
    row = stored.one()
    return Accepted(row.id, duplicate=row.deliveries > 1, finished=row.due_at is None)


async def claim(tx: Connection, *, limit: int, lease_s: float) -> list[Claimed]:
    """Lease due events, oldest first."""
    return [_claimed(row) for row in await due_rows.claim_due(tx, events, limit=limit, lease_s=lease_s)]


async def claim_one(tx: Connection, event_id: UUID, *, lease_s: float) -> Claimed | None:
    """Lease one unfinished event now; None when it is finished or somebody else works on it."""
    row = await due_rows.claim_one(tx, events, event_id, lease_s=lease_s)
    return _claimed(row) if row else None


def _claimed(row: Row) -> Claimed:
    hint = Hint(row["stripe_event_id"], row["type"], row["object_id"], row["intent_id"], row["livemode"])
    age = row["lease_until"] - row["received_at"]
    return Claimed(row["id"], row["lease_epoch"], row["attempts"], age.total_seconds(), hint)


async def still_mine(tx: Connection, event: Claimed, *, lease_s: float) -> bool:
    """Lock the row; False when another worker has taken over, and nothing may be written."""
    return await due_rows.still_mine(tx, events, event.id, event.epoch, lease_s=lease_s)


async def finish(
    tx: Connection, event: Claimed, status: EventStatus, *, reason: str | None, payment_id: UUID | None = None
) -> bool:
    """Say for good what came of an event."""
    values: dict[str, Any] = {"status": status, "reason": reason, "processed_at": func.clock_timestamp()}
    if payment_id:
        values["payment_id"] = payment_id
    if status != EventStatus.DEAD:
        values["last_error"] = None
    return await due_rows.finish(tx, events, event.id, event.epoch, **values)


async def put_back(tx: Connection, event: Claimed, *, reason: str, error: str, due_in_s: float, attempts: int) -> bool:
    """Give the event up for now; it falls due again. `attempts` is how many tries count against it."""
    return await due_rows.put_back(
        tx, events, event.id, event.epoch, due_in_s=due_in_s, reason=reason, last_error=error, attempts=attempts
    )


async def bury(tx: Connection, event: Claimed, *, reason: str, error: str) -> bool:
    """Leave an event to the operators, with a reason."""
    return await due_rows.finish(
        tx,
        events,
        event.id,
        event.epoch,
        status=EventStatus.DEAD,
        reason=reason,
        last_error=error,
        processed_at=func.clock_timestamp(),
    )


async def revive(tx: Connection, event_id: UUID, *, by: str) -> dict[str, Any] | None:
    """Make an ignored, dead or waiting event due again; None when it has had its effect (or is none of ours)."""
    revived = await tx.execute(
        update(events)
        .where(events.c.id == event_id, events.c.status != EventStatus.PROCESSED)
        .values(
            status=EventStatus.RECEIVED,
            reason="replayed",
            attempts=0,
            processed_at=None,
            due_at=func.clock_timestamp(),
            replayed_by=by,
        )
        .returning(*_SHOWN)
    )
    row = revived.mappings().one_or_none()
    return dict(row) if row else None


# A live lease is what "processing" means; a status of that name would outlive a worker that was killed.
_IN_HAND: ColumnElement[bool] = and_(
    events.c.status == EventStatus.RECEIVED, events.c.lease_until > func.clock_timestamp()
)
_SHOWN = (
    events.c.id,
    events.c.stripe_event_id,
    events.c.type,
    case((_IN_HAND, EventStatus.PROCESSING.value), else_=events.c.status).label("status"),
    events.c.reason,
    events.c.attempts,
    events.c.deliveries,
    events.c.last_error,
    events.c.payment_id,
    events.c.received_at,
    events.c.processed_at,
)


async def find(connection: Connection, event_id: UUID) -> dict[str, Any] | None:
    found = await connection.execute(select(*_SHOWN).where(events.c.id == event_id))
    row = found.mappings().one_or_none()
    return dict(row) if row else None


async def page(connection: Connection, *, limit: int, after: UUID | None, status: EventStatus | None) -> Sequence[Row]:
    """Return events, newest first; ask for one more than wanted to learn whether there are more."""
    query = select(*_SHOWN).order_by(events.c.id.desc()).limit(limit)
    if after:
        query = query.where(events.c.id < after)
    if status == EventStatus.PROCESSING:
        query = query.where(_IN_HAND)
    elif status == EventStatus.RECEIVED:
        query = query.where(events.c.status == status, func.coalesce(_IN_HAND, false()).is_(False))
    elif status:
        query = query.where(events.c.status == status)
    rows: Sequence[Row] = (await connection.execute(query)).mappings().all()
    return rows


async def of_payment(connection: Connection, payment_id: UUID) -> Sequence[Row]:
    """Return the events that led to a payment's state, oldest first."""
    found = await connection.execute(
        select(*_SHOWN).where(events.c.payment_id == payment_id).order_by(events.c.received_at)
    )
    rows: Sequence[Row] = found.mappings().all()
    return rows


async def backlog(connection: Connection) -> tuple[int, int]:
    """Count the events that wait, and the dead ones."""
    found = await connection.execute(
        select(
            func.count().filter(events.c.due_at.is_not(None)),
            func.count().filter(events.c.status == EventStatus.DEAD),
        ).where(or_(events.c.due_at.is_not(None), events.c.status == EventStatus.DEAD))
    )
    waiting, dead = found.one()
    return waiting, dead
