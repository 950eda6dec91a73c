"""Rows of replays: which events were meant when it was planned, and what has become of each of them since.

A replay touches nothing but what it was planned for: an event that has moved on in the meantime is skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, and_, case, delete, func, insert, literal, select, true, update

from payment_service.states import EventStatus, ReplayItem, ReplayStatus
from payment_service.store.dead_letters import fingerprint
from payment_service.store.tables import webhook_events as events
from payment_service.store.tables import webhook_replay_items as items
from payment_service.store.tables import webhook_replays as replays
from payment_service.store.webhook_events import revived_by
from shared.database import Connection, Row
from shared.identifiers import new_id

_SAMPLE_MAX = 10
_KEPT_AFTER_EXPIRY_S = 86_400


@dataclass(frozen=True)
class Criteria:
    """Which events are meant; what is left out does not matter."""

    status: EventStatus = EventStatus.DEAD
    type: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None

    def condition(self) -> ColumnElement[bool]:
        wanted: list[ColumnElement[bool]] = [events.c.status == self.status]
        for column, value in ((events.c.type, self.type), (events.c.reason, self.reason)):
            if value is not None:
                wanted.append(column == value)
        if self.fingerprint is not None:
            wanted.append(fingerprint() == self.fingerprint)
        if self.received_from is not None:
            wanted.append(events.c.received_at >= self.received_from)
        if self.received_to is not None:
            wanted.append(events.c.received_at < self.received_to)
        return and_(*wanted)


def _in(delay_s: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, delay_s)


async def plan(tx: Connection, criteria: Criteria, *, by: str, valid_s: float, limit: int) -> UUID:
    """Write down which events are meant, the oldest `limit` of them; nothing happens to them yet."""
    replay_id = new_id()
    await tx.execute(
        insert(replays).values(id=replay_id, status=ReplayStatus.PLANNED, planned_by=by, expires_at=_in(valid_s))
    )
    meant = (
        select(literal(replay_id, Uuid), events.c.id, events.c.status, events.c.processed_at)
        .where(criteria.condition())
        .order_by(events.c.received_at)
        .limit(limit)
    )
    columns = ["replay_id", "event_id", "event_status", "ended_at"]
    written = await tx.execute(insert(items).from_select(columns, meant))
    await tx.execute(update(replays).where(replays.c.id == replay_id).values(total=written.rowcount))
    return replay_id


async def count_matching(connection: Connection, criteria: Criteria) -> int:
    """Count what a plan would be about if it had no limit."""
    counted = await connection.execute(select(func.count()).select_from(events).where(criteria.condition()))
    count: int = counted.scalar_one()
    return count


async def sample(connection: Connection, replay_id: UUID) -> Sequence[UUID]:
    """Return the first few events that a replay is about."""
    found = await connection.execute(
        select(items.c.event_id).where(items.c.replay_id == replay_id).order_by(items.c.event_id).limit(_SAMPLE_MAX)
    )
    return found.scalars().all()


async def find(connection: Connection, replay_id: UUID) -> Row | None:
    """Return a replay with how far it has come."""
    sent = items.c.state == ReplayItem.REPLAYED
    ended_well = events.c.status.in_([EventStatus.PROCESSED, EventStatus.IGNORED])
    progress = (
        select(
            func.count().filter(sent).label("replayed"),
            func.count().filter(and_(sent, ended_well)).label("processed"),
            func.count().filter(and_(sent, events.c.status == EventStatus.DEAD)).label("dead_again"),
            func.count().filter(items.c.state == ReplayItem.SKIPPED).label("skipped"),
        )
        .select_from(items.join(events, events.c.id == items.c.event_id))
        .where(items.c.replay_id == replay_id)
        .subquery()
    )
    with_progress = select(replays, progress).select_from(replays.join(progress, true()))
    found = await connection.execute(with_progress.where(replays.c.id == replay_id))
    return found.mappings().one_or_none()


async def start(tx: Connection, replay_id: UUID, *, by: str, reason: str) -> bool:
    """Let a planned replay run, unless its plan is too old; True also when it was started before."""
    started = await tx.execute(
        update(replays)
        .where(
            replays.c.id == replay_id,
            replays.c.status == ReplayStatus.PLANNED,
            replays.c.expires_at > func.clock_timestamp(),
        )
        .values(status=ReplayStatus.RUNNING, confirmed_by=by, reason=reason, due_at=func.clock_timestamp())
    )
    return started.rowcount == 1 or await _is(tx, replay_id, ReplayStatus.RUNNING, ReplayStatus.DONE)


async def stop(tx: Connection, replay_id: UUID, *, by: str) -> bool:
    """Send no further event round; True also when that was said before."""
    stopped = await tx.execute(
        update(replays)
        .where(replays.c.id == replay_id, replays.c.status.in_([ReplayStatus.PLANNED, ReplayStatus.RUNNING]))
        .values(status=ReplayStatus.CANCELLED, cancelled_by=by, due_at=None, finished_at=func.clock_timestamp())
    )
    return stopped.rowcount == 1 or await _is(tx, replay_id, ReplayStatus.CANCELLED)


async def _is(tx: Connection, replay_id: UUID, *statuses: ReplayStatus) -> bool:
    found = await tx.execute(select(replays.c.status).where(replays.c.id == replay_id))
    return found.scalar_one_or_none() in statuses


async def is_any_due(connection: Connection) -> bool:
    """Tell whether a running replay waits for its next turn."""
    found = await connection.execute(select(replays.c.id).where(replays.c.due_at <= func.clock_timestamp()).limit(1))
    return found.first() is not None


async def step(tx: Connection, *, batch: int, pause_s: float) -> int:
    """Send the next few events of one running replay round; returns how many.

    At most `batch` of a replay's events are on their way at a time, so that it never crowds out what Stripe sends now.
    """
    found = await tx.execute(
        select(replays.c.id, replays.c.confirmed_by)
        .where(replays.c.due_at <= func.clock_timestamp())
        .order_by(replays.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    replay = found.mappings().one_or_none()
    if replay is None:
        return 0
    on_their_way = await _count_on_their_way(tx, replay["id"])
    chosen = await _next_items(tx, replay["id"], limit=max(batch - on_their_way, 0))
    revived = await _revive(tx, replay["id"], chosen, by=replay["confirmed_by"]) if chosen else 0
    finished = not chosen and not on_their_way
    ends = {"status": ReplayStatus.DONE, "due_at": None, "finished_at": func.clock_timestamp()}
    await tx.execute(
        update(replays).where(replays.c.id == replay["id"]).values(ends if finished else {"due_at": _in(pause_s)})
    )
    return revived


async def _count_on_their_way(tx: Connection, replay_id: UUID) -> int:
    counted = await tx.execute(
        select(func.count())
        .select_from(items.join(events, events.c.id == items.c.event_id))
        .where(
            items.c.replay_id == replay_id,
            items.c.state == ReplayItem.REPLAYED,
            events.c.status == EventStatus.RECEIVED,
        )
    )
    count: int = counted.scalar_one()
    return count


async def _next_items(tx: Connection, replay_id: UUID, *, limit: int) -> Sequence[UUID]:
    found = await tx.execute(
        select(items.c.event_id)
        .where(items.c.replay_id == replay_id, items.c.state == ReplayItem.WAITING)
        .order_by(items.c.event_id)
        .limit(limit)
    )
    return found.scalars().all()


async def _revive(tx: Connection, replay_id: UUID, chosen: Sequence[UUID], *, by: str) -> int:
    mine = and_(items.c.replay_id == replay_id, items.c.event_id.in_(chosen))
    unchanged = and_(events.c.status == items.c.event_status, events.c.processed_at == items.c.ended_at)
    locked = await tx.execute(
        select(events.c.id)
        .select_from(events.join(items, items.c.event_id == events.c.id))
        .where(mine, unchanged)
        .order_by(events.c.id)
        .with_for_update(of=events)
    )
    still_there = locked.scalars().all()
    await tx.execute(update(events).where(events.c.id.in_(still_there)).values(revived_by(by)))
    state = case((items.c.event_id.in_(still_there), ReplayItem.REPLAYED.value), else_=ReplayItem.SKIPPED.value)
    await tx.execute(update(items).where(mine).values(state=state))
    return len(still_there)


async def forget_unconfirmed(tx: Connection) -> None:
    """Delete plans that nobody confirmed in time; what they were about stays as it is."""
    await tx.execute(
        delete(replays).where(
            replays.c.status == ReplayStatus.PLANNED, replays.c.expires_at < _in(-_KEPT_AFTER_EXPIRY_S)
        )
    )
