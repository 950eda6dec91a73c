"""How many seats are free, asked for many slots at once: a calendar's weeks, and what has changed since the last look.

Seats of holds whose time is over count as free, by the database's clock, whether or not the sweeper has come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

_LAPSED = """
    SELECT coalesce(sum(held.seats), 0) AS seats FROM reservations AS held
    WHERE held.time_slot_id = slot.id AND held.status = 'held' AND held.expires_at <= clock_timestamp()
"""

# The price is asked for once: it does not depend on the slot. Slots come by `time_slots_by_day`, lapsed holds by
# `reservations_held_by_slot`.
_CALENDAR = text(
    f"""
SELECT e.time_zone, e.currency,
       (SELECT min(price_minor) FROM ticket_types
        WHERE experience_id = :experience_id AND active AND seats > 0) AS price_from_minor,
       slot.id, slot.starts_at, slot.capacity, slot.capacity - slot.taken + lapsed.seats AS available, slot.status,
       slot.sells_until <= clock_timestamp() AS over
FROM experiences AS e
LEFT JOIN time_slots AS slot ON slot.experience_id = :experience_id
     AND slot.starts_at >= :after AND slot.starts_at < :before
LEFT JOIN LATERAL ({_LAPSED}) AS lapsed ON true
WHERE e.id = :experience_id
ORDER BY slot.starts_at, slot.id
"""  # noqa: S608  built from our own texts
)

# What a look needs to know of the one before it: every transaction that was not over then has a number of at least
# `horizon`, so whatever it has written since carries such a number in `xmin`; and nothing had lapsed after `seen_at`
# (less some seconds, as clocks of databases are set). Slots change without a word when time passes: a hold lapses, or
# sales end. An experience that is looked at for the first time is told in full.
_CHANGED = text(
    f"""
WITH now AS MATERIALIZED (
    SELECT clock_timestamp() AS at, pg_snapshot_xmin(pg_current_snapshot())::text AS horizon
), passed AS MATERIALIZED (
    SELECT held.time_slot_id AS id FROM reservations AS held, now
    WHERE held.status = 'held' AND held.expires_at <= now.at
      AND held.expires_at > CAST(:seen_at AS timestamptz) - interval '5 seconds'
), changed AS (
    SELECT slot.* FROM time_slots AS slot, now
    WHERE slot.experience_id = ANY(CAST(:experiences AS uuid[]))
      AND slot.starts_at > now.at - interval '1 minute' AND slot.starts_at < now.at + interval '92 days'
      AND (slot.experience_id = ANY(CAST(:unseen AS uuid[]))
           OR age(slot.xmin) <= age(CAST(CAST(:horizon AS text) AS xid))
           OR slot.sells_until BETWEEN CAST(:seen_at AS timestamptz) - interval '5 seconds' AND now.at
           OR slot.id IN (SELECT id FROM passed))
)
SELECT now.at, now.horizon, slot.id, slot.experience_id, slot.version, slot.capacity, slot.status,
       slot.capacity - slot.taken + lapsed.seats AS available, slot.sells_until <= now.at AS over
FROM now LEFT JOIN changed AS slot ON true
LEFT JOIN LATERAL ({_LAPSED}) AS lapsed ON true
ORDER BY slot.starts_at, slot.id
"""  # noqa: S608  built from our own texts
)


@dataclass(frozen=True)
class Mark:
    """Where a look at the slots stood, so that the next one asks only for what has happened since."""

    horizon: str
    seen_at: datetime


async def calendar(
    connection: AsyncConnection, experience_id: UUID, *, between: tuple[datetime, datetime]
) -> Sequence[RowMapping]:
    """Return an experience's slots by start, each with its terms; one row without a slot when there are none."""
    after, before = between
    values: dict[str, Any] = {"experience_id": experience_id, "after": after, "before": before}
    return (await connection.execute(_CALENDAR, values)).mappings().all()


async def changed(
    connection: AsyncConnection, experiences: Sequence[UUID], *, unseen: Sequence[UUID], since: Mark
) -> tuple[Mark, list[RowMapping]]:
    """Return the coming slots of these experiences that may differ from what `since` saw, and where that stands now.

    Slots of `unseen` experiences all come. It may be more than what differs, never less.
    """
    values = {
        "experiences": list(experiences),
        "unseen": list(unseen),
        "horizon": since.horizon,
        "seen_at": since.seen_at,
    }
    rows = (await connection.execute(_CHANGED, values)).mappings().all()
    return Mark(rows[0]["horizon"], rows[0]["at"]), [row for row in rows if row["id"] is not None]
