"""Where overselling becomes impossible: seats are taken by one conditional UPDATE and given back exactly once."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

HOLD_ROUTE = "POST /v1/holds"


class NewHold(NamedTuple):
    """Everything the statement writes; `supersedes` is set when it renews an older hold under the same key."""

    hold_id: UUID
    caller: str
    key: str
    fingerprint: bytes
    time_slot_id: UUID
    seats: int
    ttl_s: int
    items: list[dict[str, Any]]
    price: Mapping[str, Any]
    total_minor: int
    currency: str
    capture_method: str
    client_reference: str | None
    metadata: Mapping[str, str] | None
    active_holds_max: int
    discount_id: UUID | None = None
    supersedes: UUID | None = None


# One hold. `seats` is the proof: PostgreSQL re-evaluates its WHERE on the newest row after waiting for the row's lock,
# and CHECK (taken <= capacity) stands behind it. Everything else is written only FROM seats, so it happens with the
# seats or not at all. The outer SELECT always gives one row that says what was decided and why. What is long between
# the statement's beginning and its seats was a wait for the slot's lock: the hold keeps it for its timeline.
_HOLD = """
WITH known AS MATERIALIZED (
    SELECT i.hold_id, i.fingerprint, r.status, r.released_by, r.expires_at <= clock_timestamp() AS due
    FROM idempotency i JOIN reservations r ON r.id = i.hold_id
    WHERE i.caller = :caller AND i.route = :route AND i.key = :key
), active AS MATERIALIZED (
    SELECT count(*) AS holds FROM reservations
    WHERE caller = :caller AND status = 'held' AND expires_at > clock_timestamp()
), seats AS (
    UPDATE time_slots SET taken = taken + :seats, version = version + 1
    WHERE id = :time_slot_id AND status = 'open' AND sells_until > clock_timestamp() AND taken + :seats <= capacity
      AND NOT EXISTS (SELECT FROM known WHERE hold_id IS DISTINCT FROM CAST(:supersedes AS uuid))
      AND (SELECT holds FROM active) < :active_holds_max
    RETURNING id
), hold AS (
    INSERT INTO reservations (id, caller, time_slot_id, seats, items, price, total_minor, currency, capture_method,
                              client_reference, metadata, discount_id, supersedes, expires_at, created_expires_at,
                              lock_waited_ms)
    SELECT :hold_id, :caller, seats.id, :seats, CAST(:items AS jsonb), CAST(:price AS jsonb), :total_minor, :currency,
           :capture_method, :client_reference, CAST(:metadata AS jsonb), CAST(:discount_id AS uuid),
           CAST(:supersedes AS uuid), until.at, until.at,
           CASE WHEN clock_timestamp() - statement_timestamp() > interval '50 milliseconds'
                THEN CAST(extract(epoch FROM least(clock_timestamp() - statement_timestamp(), interval '1 minute')) * 1000
                          AS integer) END
    FROM seats, (SELECT date_trunc('milliseconds', clock_timestamp()) + make_interval(secs => :ttl_s) AS at) AS until
    RETURNING expires_at
), claim AS (
    {claim}
)
SELECT hold.expires_at, known.hold_id AS known_id, known.fingerprint, known.status AS known_status, known.released_by,
       known.due, active.holds AS active_holds, slot.status AS slot_status,
       slot.sells_until <= clock_timestamp() AS slot_over
FROM active LEFT JOIN hold ON true LEFT JOIN known ON true
     LEFT JOIN time_slots AS slot ON slot.id = :time_slot_id
"""

_FIRST_CLAIM = """
    INSERT INTO idempotency (caller, route, key, hold_id, fingerprint)
    SELECT :caller, :route, :key, :hold_id, :fingerprint FROM seats
"""
# The renewing transaction has locked the old hold, so the key still points at it; UNIQUE (supersedes) is the proof.
_REPOINT = """
    UPDATE idempotency SET hold_id = :hold_id, created_at = clock_timestamp()
    WHERE caller = :caller AND route = :route AND key = :key AND hold_id = CAST(:supersedes AS uuid)
      AND fingerprint = :fingerprint AND EXISTS (SELECT FROM seats)
"""
HOLD_SQL = _HOLD.format(claim=_FIRST_CLAIM.strip())
"""The statement of a first hold, with `:name` parameters; `store.hold_lane` pipelines it."""
_TAKE = text(HOLD_SQL)
_TAKE_AGAIN = text(_HOLD.format(claim=_REPOINT.strip()))

# Expired holds give their seats back. A row that somebody works on is passed over, and by the sweeper also every row
# whose slot is locked: it holds many slots at once, so it must never wait for one. Who wants one full slot waits for it.
# The instant is asked for once, in a subquery, because PostgreSQL looks nothing up in an index by a volatile function.
_EXPIRE = """
WITH due AS (
    {due}
), back AS (
    SELECT time_slot_id, sum(seats) AS seats FROM due GROUP BY time_slot_id
), given_back AS (
    UPDATE time_slots AS slot SET taken = slot.taken - back.seats, version = slot.version + 1
    FROM back WHERE slot.id = back.time_slot_id
), expired AS (
    UPDATE reservations AS r SET status = 'expired', seats_pinned = false, version = r.version + 1
    FROM due WHERE r.id = due.id
), noted AS (
    INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)
    SELECT id, 'held', 'expired', 'time ran out' FROM due
)
SELECT count(*) FROM due
"""
_DUE_ANYWHERE = """
    SELECT r.id, r.time_slot_id, r.seats FROM reservations AS r JOIN time_slots AS slot ON slot.id = r.time_slot_id
    WHERE r.status = 'held' AND r.expires_at <= (SELECT clock_timestamp()){only}
    ORDER BY r.expires_at LIMIT :batch FOR NO KEY UPDATE OF slot SKIP LOCKED FOR UPDATE OF r SKIP LOCKED
"""
EXPIRE_SQL = _EXPIRE.format(due=_DUE_ANYWHERE.format(only="").strip())
"""The sweeper's statement: at most `:batch` lapsed holds of slots that nobody has locked."""
_EXPIRE_ANY = text(EXPIRE_SQL)
_EXPIRE_OF_DISCOUNT = text(_EXPIRE.format(due=_DUE_ANYWHERE.format(only=" AND r.discount_id = :discount_id")))
_EXPIRE_OF_SLOT = text(
    _EXPIRE.format(
        due="""
    SELECT id, time_slot_id, seats FROM reservations
    WHERE status = 'held' AND expires_at <= (SELECT clock_timestamp()) AND time_slot_id = :time_slot_id
    ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
""".strip()
    )
)

_WAIT_AT_MOST = text("SELECT set_config('lock_timeout', :lock_timeout, true)")

_GIVE_BACK = text("UPDATE time_slots SET taken = taken - :seats, version = version + 1 WHERE id = :time_slot_id")

_TAKE_BACK = text(
    """
UPDATE time_slots SET taken = taken + :seats, version = version + 1
WHERE id = :time_slot_id AND status <> 'cancelled' AND taken + :seats <= capacity
"""
)

_FREE = text(
    """
SELECT slot.capacity - slot.taken + coalesce(
    (SELECT sum(seats) FROM reservations
     WHERE time_slot_id = slot.id AND status = 'held' AND expires_at <= clock_timestamp()), 0)
FROM time_slots AS slot WHERE slot.id = :time_slot_id
"""
)


async def take_seats(tx: AsyncConnection, new: NewHold) -> RowMapping:
    """Run the statement; its one row says what became of it (see `booking.admission`).

    The transaction ends in a Conflict when another process was faster with the same key: nothing was taken then, and
    running it again finds the other's hold.
    """
    result = await tx.execute(_TAKE if new.supersedes is None else _TAKE_AGAIN, statement_values(new))
    return result.mappings().one()


def statement_values(new: NewHold) -> dict[str, Any]:
    """Return the statement's parameters by name, JSON as text."""
    return {
        **new._asdict(),
        "route": HOLD_ROUTE,
        "items": orjson.dumps(new.items).decode(),
        "price": orjson.dumps(new.price).decode(),
        "metadata": None if new.metadata is None else orjson.dumps(new.metadata).decode(),
    }


async def wait_at_most(tx: AsyncConnection, lock_timeout_ms: int) -> None:
    """Let this transaction give up sooner than others when somebody keeps a row locked."""
    await tx.execute(_WAIT_AT_MOST, {"lock_timeout": f"{lock_timeout_ms}ms"})


async def expire_due(tx: AsyncConnection, *, batch: int, time_slot_id: UUID | None = None) -> int:
    """Expire up to `batch` holds whose time is over (of one slot, or of all that are not locked); return how many."""
    if time_slot_id is None:
        return int((await tx.execute(_EXPIRE_ANY, {"batch": batch})).scalar_one())
    return int((await tx.execute(_EXPIRE_OF_SLOT, {"batch": batch, "time_slot_id": time_slot_id})).scalar_one())


async def expire_uses(tx: AsyncConnection, *, batch: int, discount_id: UUID) -> int:
    """Expire up to `batch` holds that have this discount and whose time is over, on slots that are not locked."""
    return int((await tx.execute(_EXPIRE_OF_DISCOUNT, {"batch": batch, "discount_id": discount_id})).scalar_one())


async def give_back_seats(tx: AsyncConnection, time_slot_id: UUID, seats: int) -> None:
    """Give seats back; only called by the transaction that unpins them from a locked booking row."""
    await tx.execute(_GIVE_BACK, {"time_slot_id": time_slot_id, "seats": seats})


async def take_back_seats(tx: AsyncConnection, time_slot_id: UUID, seats: int) -> bool:
    """Take seats for a booking that had given them up; False when they are no longer to be had."""
    values = {"time_slot_id": time_slot_id, "seats": seats}
    return bool((await tx.execute(_TAKE_BACK, values)).rowcount == 1)


async def free_seats(connection: AsyncConnection, time_slot_id: UUID) -> int:
    """Return how many seats can be had now; seats of holds whose time is over count as free."""
    return int((await connection.execute(_FREE, {"time_slot_id": time_slot_id})).scalar_one_or_none() or 0)
