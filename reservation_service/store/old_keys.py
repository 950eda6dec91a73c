"""Idempotency keys that nobody will send again: found by walking along the table's own key, because no index by age is
worth what it would add to every hold.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from reservation_service.states import BookingStatus
from shared.columns import is_one_of

# The bookings that somebody still works on; the key of one of those is kept however old it is.
_AT_WORK = is_one_of("hold.status", (BookingStatus.HELD, BookingStatus.PENDING, BookingStatus.NEEDS_ATTENTION))


@dataclass(frozen=True)
class Place:
    """The last key that was looked at; the default stands before the first one."""

    caller: str = ""
    route: str = ""
    key: str = ""


@dataclass(frozen=True)
class Stretch:
    """What became of one stretch of the way; `at` is None once the table's end was reached."""

    forgotten: int
    at: Place | None


_WALK = text(
    f"""
WITH stretch AS MATERIALIZED (
    SELECT caller, route, key FROM idempotency WHERE (caller, route, key) > (:caller, :route, :key)
    ORDER BY caller, route, key LIMIT :rows
), forgotten AS (
    DELETE FROM idempotency AS old USING stretch, reservations AS hold
    WHERE old.caller = stretch.caller AND old.route = stretch.route AND old.key = stretch.key AND hold.id = old.hold_id
      AND old.created_at < clock_timestamp() - make_interval(days => :keep_days) AND NOT {_AT_WORK}
    RETURNING 1
)
SELECT (SELECT count(*) FROM forgotten) AS forgotten, (SELECT count(*) FROM stretch) AS looked,
       stretch.caller, stretch.route, stretch.key
FROM stretch ORDER BY caller DESC, route DESC, key DESC LIMIT 1
"""  # noqa: S608  built from our own enumeration
)


async def forget(tx: AsyncConnection, after: Place, *, rows: int, keep_days: int) -> Stretch:
    """Look at the next `rows` keys after a place, and delete those that are older than `keep_days`."""
    values = {**vars(after), "rows": rows, "keep_days": keep_days}
    last = (await tx.execute(_WALK, values)).mappings().one_or_none()
    if last is None:
        return Stretch(0, None)
    at = Place(last["caller"], last["route"], last["key"]) if last["looked"] == rows else None
    return Stretch(last["forgotten"], at)
