"""Dead events as operators work on them: alike ones together, because one cause has one cure."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ARRAY, ColumnElement, Uuid, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from payment_service.states import EventStatus
from payment_service.store.tables import webhook_events as events
from shared.database import Connection, Row

_GROUPS_MAX = 100
_EXAMPLES = 5


def fingerprint() -> ColumnElement[str]:
    """Return what went wrong with what kind of event, in sixteen characters: type, reason and class of the error."""
    reason, error = func.coalesce(events.c.reason, ""), func.coalesce(events.c.last_error, "")
    return func.left(func.md5(events.c.type + "|" + reason + "|" + error), 16)


async def groups(connection: Connection) -> Sequence[Row]:
    """Return the dead events by fingerprint, the largest group first, with the newest few of each as examples."""
    newest = func.array_agg(aggregate_order_by(events.c.id, events.c.processed_at.desc()), type_=ARRAY(Uuid))
    found = await connection.execute(
        select(
            fingerprint().label("fingerprint"),
            events.c.type,
            events.c.reason,
            events.c.last_error,
            func.count().label("count"),
            func.min(events.c.processed_at).label("first_at"),
            func.max(events.c.processed_at).label("last_at"),
            newest[1:_EXAMPLES].label("example_ids"),
        )
        .where(events.c.status == EventStatus.DEAD)
        .group_by(events.c.type, events.c.reason, events.c.last_error)
        .order_by(func.count().desc(), func.max(events.c.processed_at).desc())
        .limit(_GROUPS_MAX)
    )
    rows: Sequence[Row] = found.mappings().all()
    return rows


async def by_reason(connection: Connection) -> Mapping[str, int]:
    """Count the dead events by the reason that they were given."""
    found = await connection.execute(
        select(events.c.reason, func.count()).where(events.c.status == EventStatus.DEAD).group_by(events.c.reason)
    )
    return {reason or "unknown": count for reason, count in found}
