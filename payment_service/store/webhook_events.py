"""Rows of Stripe's events: stored once, claimed under a lease, finished, put back, or buried with a reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, case, false, func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement

from payment_service.states import EventStatus
from payment_service.store.tables import webhook_events as events
from shared import due_rows
from shared.changes import placed
from shared.columns import is_one_of
from shared.database import Connection, Row
from shared.identifiers import new_id
from shared.prepared import Prepared

_ALIKE_MAX = 500


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
    """What storing an event found; `duplicate`: another delivery, or the comparison, had stored it before."""

    id: UUID
    duplicate: bool
    finished: bool


_HINT = ("id", "stripe_event_id", "type", "object_id", "intent_id", "livemode")
_OUTCOME = ("status", "reason", "payment_id")


def _stored(values: dict[str, Any]) -> Prepared:
    """Return the insert of an event, which counts one more delivery of a known one."""
    return Prepared(
        insert(events)
        .values(**placed(events, *_HINT), **values)
        .on_conflict_do_update(index_elements=["stripe_event_id"], set_={"deliveries": events.c.deliveries + 1})
        .returning(events.c.id, events.c.due_at)
    )


_STORE = _stored({"due_at": func.clock_timestamp()})
_STORE_SETTLED = _stored({"processed_at": func.clock_timestamp(), **placed(events, *_OUTCOME)})
_SETTLE = Prepared(
    update(events)
    .where(events.c.id == bindparam("event_id"))
    .values(
        processed_at=func.clock_timestamp(),
        due_at=null(),
        lease_until=null(),
        lease_epoch=events.c.lease_epoch + 1,  # a worker that has it in hand finds that it is its own no more
        **placed(events, *_OUTCOME),
    )
)


async def store(tx: Connection, hint: Hint) -> Accepted:
    """Insert an event, or count one more delivery of a known one."""
    return await _accepted(_STORE, tx, hint)


async def store_settled(
    tx: Connection, hint: Hint, status: EventStatus, *, reason: str | None, payment_id: UUID | None
) -> Accepted:
    """Insert an event of which nothing is left to do; a known one is only counted, and stays as it is."""
    outcome = {"status": status, "reason": reason, "payment_id": payment_id}
    return await _accepted(_STORE_SETTLED, tx, hint, **outcome)


async def settle(tx: Connection, event_id: UUID, *, reason: str | None, payment_id: UUID | None) -> None:
    """Mark an event that the same transaction has given its effect: nothing of it is left to do, for no worker either."""
    await _SETTLE.count(tx, event_id=event_id, status=EventStatus.PROCESSED, reason=reason, payment_id=payment_id)


async def _accepted(insertion: Prepared, tx: Connection, hint: Hint, **outcome: Any) -> Accepted:
    mine = new_id()
    row = await insertion.one(tx, id=mine, **vars(hint), **outcome)
    return Accepted(row["id"], duplicate=row["id"] != mine, finished=row["due_at"] is None)


async def store_missing(tx: Connection, hints: Sequence[Hint]) -> int:
    """Insert the events that no delivery has brought, due at once; returns how many there were."""
    if not hints:
        return 0
    stored = await tx.execute(
        insert(events)
        .values([vars(hint) | {"id": new_id(), "deliveries": 0, "due_at": func.clock_timestamp()} for hint in hints])
        .on_conflict_do_nothing(index_elements=["stripe_event_id"])
        .returning(events.c.id)
    )
    return len(stored.all())


async def claim(tx: Connection, *, limit: int, lease_s: float) -> list[Claimed]:
    """Lease due events, and all that wait for the same payments, so that one look at Stripe serves them together."""
    rows = list(await due_rows.claim_due(tx, events, limit=limit, lease_s=lease_s))
    if intents := {row["intent_id"] for row in rows if row["intent_id"]}:
        rows += await due_rows.claim_alike(tx, events, events.c.intent_id, intents, limit=_ALIKE_MAX, lease_s=lease_s)
    return sorted((_claimed(row) for row in rows), key=lambda event: event.id)


async def claim_one(tx: Connection, event_id: UUID, *, lease_s: float) -> Claimed | None:
    """Lease one unfinished event now; None when it is finished or somebody else works on it."""
    row = await due_rows.claim_one(tx, events, event_id, lease_s=lease_s)
    return _claimed(row) if row else None


def _claimed(row: Row) -> Claimed:
    hint = Hint(row["stripe_event_id"], row["type"], row["object_id"], row["intent_id"], row["livemode"])
    age = row["lease_until"] - (row["replayed_at"] or row["received_at"])
    return Claimed(row["id"], row["lease_epoch"], row["attempts"], age.total_seconds(), hint)


async def still_mine(tx: Connection, held: Sequence[Claimed], *, lease_s: float) -> list[Claimed]:
    """Lock the rows; of an event that is missing in the answer another worker has taken over: nothing is written."""
    mine = await due_rows.still_mine_of(tx, events, [(event.id, event.epoch) for event in held], lease_s=lease_s)
    return [event for event in held if event.id in mine]


async def finish(
    tx: Connection,
    held: Sequence[Claimed],
    status: EventStatus,
    *,
    reason: str | None,
    error: str | None = None,
    payment_id: UUID | None = None,
) -> None:
    """Say for good what came of events; `reason` and `error` are words for programs."""
    values: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "last_error": error,
        "processed_at": func.clock_timestamp(),
    }
    if payment_id:
        values["payment_id"] = payment_id
    await due_rows.finish_all(tx, events, [(event.id, event.epoch) for event in held], **values)


async def put_back(tx: Connection, event: Claimed, *, reason: str, error: str, due_in_s: float, attempts: int) -> bool:
    """Give the event up for now; it falls due again. `attempts` is how many tries count against it."""
    return await due_rows.put_back(
        tx, events, event.id, event.epoch, due_in_s=due_in_s, reason=reason, last_error=error, attempts=attempts
    )


async def revive(tx: Connection, event_id: UUID, *, by: str, force: bool) -> dict[str, Any] | None:
    """Make an event due again; None when it has had its effect, unless `force`d (or is none of ours)."""
    which = [events.c.id == event_id]
    if not force:
        which.append(events.c.status != EventStatus.PROCESSED)
    revived = await tx.execute(update(events).where(*which).values(revived_by(by)).returning(*_SHOWN))
    row = revived.mappings().one_or_none()
    return dict(row) if row else None


def revived_by(operator: str) -> dict[str, Any]:
    """Return what sends an event round again: tries, age and what was said of it start anew."""
    return {
        "status": EventStatus.RECEIVED,
        "reason": "replayed",
        "attempts": 0,
        "processed_at": None,
        "due_at": func.clock_timestamp(),
        "replayed_by": operator,
        "replayed_at": func.clock_timestamp(),
    }


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
    events.c.replayed_by,
    events.c.replayed_at,
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


async def waiting(connection: Connection) -> int:
    """Count the events that wait for their effect."""
    found = await connection.execute(select(func.count()).where(events.c.due_at.is_not(None)))
    count: int = found.scalar_one()
    return count


# Ids begin with the milliseconds of their birth, so the oldest events are at one end of the primary key, and the end of
# what is old is known without an index by age.
_BORN_BEFORE = """CAST(lpad(to_hex(CAST(extract(epoch FROM clock_timestamp() - make_interval(days => :days)) * 1000 AS bigint)),
                          12, '0') || '00000000000000000000' AS uuid)"""
_FORGET = text(
    f"""
DELETE FROM webhook_events WHERE id IN (
    SELECT id FROM webhook_events
    WHERE id < (SELECT {_BORN_BEFORE}) AND received_at < (SELECT clock_timestamp() - make_interval(days => :days))
      AND {is_one_of("status", (EventStatus.PROCESSED, EventStatus.IGNORED))}
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
)"""  # noqa: S608  our own words
)


async def forget(tx: Connection, *, older_than_days: int, limit: int) -> int:
    """Delete old events that have had their effect; the dead wait for an operator. Returns how many."""
    return (await tx.execute(_FORGET, {"days": older_than_days, "limit": limit})).rowcount
