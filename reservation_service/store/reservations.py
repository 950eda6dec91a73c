"""Rows of bookings: read them, lock them, and move them along the legal edges, seats included."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, cast, extract, func, insert, null, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Select

from reservation_service.states import LEGAL_MOVES, PINNED, BookingStatus, Notice
from reservation_service.store.slots import give_back_seats, take_back_seats
from reservation_service.store.tables import idempotency, reservation_events, reservations
from shared.changes import Shape, assignments, from_now, placed, shape_of, written
from shared.prepared import Prepared
from shared.problems import current_trace_id

Booking = Mapping[str, Any]


_RIVALS = text(
    """
SELECT EXISTS (SELECT FROM reservations WHERE supersedes = :id) AS superseded,
       EXISTS (SELECT FROM reservations
               WHERE caller = :caller AND time_slot_id = :time_slot_id AND id <> :id AND seats_pinned
                 AND (status <> 'held' OR expires_at > clock_timestamp())) AS another
"""
)
_RIVAL_KEYS = ("id", "caller", "time_slot_id")


_EVENT = Prepared(
    insert(reservation_events).values(
        placed(reservation_events, "reservation_id", "from_status", "to_status", "reason", "trace_id")
    )
)
_KEY = Prepared(
    select(idempotency.c.hold_id, idempotency.c.fingerprint).where(
        idempotency.c.caller == bindparam("of_caller"),
        idempotency.c.route == bindparam("of_route"),
        idempotency.c.key == bindparam("of_key"),
    )
)
_REMEMBER = Prepared(
    upsert(idempotency)
    .values(placed(idempotency, "caller", "route", "key", "hold_id", "fingerprint"))
    .on_conflict_do_update(index_elements=["caller", "route", "key"], set_={"created_at": idempotency.c.created_at})
    .returning(idempotency.c.fingerprint)
)


class IllegalMove(RuntimeError):
    """A bug: somebody tried to move a booking along an edge that does not exist."""


_ENDS = func.coalesce(reservations.c.pay_until, reservations.c.expires_at)
_CAPTURE_BEFORE = cast(reservations.c.payment["capture_before"].astext, reservations.c.created_at.type)
_SHOWN = (
    reservations,
    (reservations.c.expires_at <= func.clock_timestamp()).label("due"),
    extract("epoch", _ENDS - func.clock_timestamp()).label("seconds_left"),
    extract("epoch", _CAPTURE_BEFORE - func.clock_timestamp()).label("capturable_s"),
)
"""A row, with what only the database's clock may judge."""


def _bookings() -> Select[Any]:
    return select(*_SHOWN)


def _one(*, locked: bool, of_caller: bool) -> Prepared:
    found = _of(_bookings().where(reservations.c.id == bindparam("booking_id")), of_caller=of_caller)
    return Prepared(found.with_for_update(of=reservations) if locked else found)


def _of(bookings: Select[Any], *, of_caller: bool) -> Select[Any]:
    return bookings.where(reservations.c.caller == bindparam("of_caller")) if of_caller else bookings


_ONE, _THEIRS = _one(locked=False, of_caller=False), _one(locked=False, of_caller=True)
_ONE_LOCKED, _THEIRS_LOCKED = _one(locked=True, of_caller=False), _one(locked=True, of_caller=True)


async def booking(connection: AsyncConnection, booking_id: UUID, *, caller: str | None = None) -> Booking | None:
    """Return a booking; with `caller`, only if it is theirs."""
    if caller is None:
        return await _ONE.row(connection, booking_id=booking_id)
    return await _THEIRS.row(connection, booking_id=booking_id, of_caller=caller)


async def lock_booking(tx: AsyncConnection, booking_id: UUID, *, caller: str | None = None) -> Booking | None:
    """Lock a booking for a move; no transaction that holds a slot's lock may wait here."""
    if caller is None:
        return await _ONE_LOCKED.row(tx, booking_id=booking_id)
    return await _THEIRS_LOCKED.row(tx, booking_id=booking_id, of_caller=caller)


async def lock_own_holds(
    tx: AsyncConnection, caller: str, time_slot_id: UUID, *, older_than_s: int
) -> Sequence[Booking]:
    """Lock a caller's older holds on a slot that are not over, the oldest first; whoever converts one has it first."""
    query = (
        _bookings()
        .where(
            reservations.c.caller == caller,
            reservations.c.time_slot_id == time_slot_id,
            reservations.c.status == text("'held'"),  # a literal, so that the partial index serves it
            reservations.c.expires_at > func.clock_timestamp(),
            reservations.c.created_at <= from_now(-older_than_s),
        )
        .order_by(reservations.c.id)
        .with_for_update(of=reservations)
    )
    rows: Sequence[Booking] = (await tx.execute(query)).mappings().all()
    return rows


async def active_holds(connection: AsyncConnection, caller: str) -> int:
    """Return how many holds of a caller are not over, on any slot."""
    query = select(func.count()).where(
        reservations.c.caller == caller,
        reservations.c.status == text("'held'"),
        reservations.c.expires_at > func.clock_timestamp(),
    )
    return int((await connection.execute(query)).scalar_one())


async def page(
    connection: AsyncConnection,
    *,
    statuses: Sequence[str],
    limit: int,
    after: UUID | None,
    caller: str | None = None,
    time_slot_id: UUID | None = None,
    email: str | None = None,
    reference: str | None = None,
    due: bool | None = None,
) -> Sequence[Booking]:
    """Return bookings in these statuses, newest first; `due` asks for those whose hold has lapsed, or has not."""
    query = _bookings().where(reservations.c.status.in_(statuses)).order_by(reservations.c.id.desc()).limit(limit)
    if caller is not None:
        query = query.where(reservations.c.caller == caller)
    if time_slot_id is not None:
        query = query.where(reservations.c.time_slot_id == time_slot_id)
    if email is not None:
        query = query.where(text("lower(customer ->> 'email') = lower(:email)").bindparams(email=email))
        query = query.where(reservations.c.customer.is_not(None))  # the index has no other rows
    if reference is not None:
        query = query.where(reservations.c.reference == reference.upper())
    if due is not None:
        query = query.where((reservations.c.expires_at <= func.clock_timestamp()).is_(due))
    if after is not None:
        query = query.where(reservations.c.id < after)
    rows: Sequence[Booking] = (await connection.execute(query)).mappings().all()
    return rows


async def id_by_reference(connection: AsyncConnection, *, reference: str, email: str) -> UUID | None:
    """Return the booking that has this reference and this e-mail address; no row leaves the database unless both agree."""
    query = (
        select(reservations.c.id)
        .where(reservations.c.reference == reference)
        .where(text("lower(customer ->> 'email') = lower(:email)").bindparams(email=email))
    )
    found: UUID | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def move(tx: AsyncConnection, row: Booking, to: BookingStatus, *, reason: str, **values: Any) -> Booking:
    """Move a locked booking to another status, give its seats back if it no longer owns them, and write it down.

    Returns the booking as it then is. Raises IllegalMove for an edge that `states.LEGAL_MOVES` does not have.
    """
    if to not in LEGAL_MOVES[BookingStatus(row["status"])]:
        raise IllegalMove(f"{row['status']} -> {to}")
    pinned = to in PINNED or (to is BookingStatus.NEEDS_ATTENTION and row["seats_pinned"])
    if pinned and not row["seats_pinned"]:
        raise IllegalMove(f"{row['status']} -> {to} needs its seats taken first")
    moved = await change(tx, row["id"], status=to, seats_pinned=pinned, **values)
    if row["seats_pinned"] and not pinned:
        await give_back_seats(tx, row["time_slot_id"], row["seats"])
    await _EVENT.count(
        tx,
        reservation_id=row["id"],
        from_status=row["status"],
        to_status=to,
        reason=reason,
        trace_id=current_trace_id(),
    )
    return moved


async def pin_again(tx: AsyncConnection, row: Booking) -> bool:
    """Take the seats of a locked booking that has given them up; False when they are sold. Its move comes after this."""
    if not await take_back_seats(tx, row["time_slot_id"], row["seats"]):
        return False
    await tx.execute(update(reservations).where(reservations.c.id == row["id"]).values(seats_pinned=True))
    return True


async def take_up(tx: AsyncConnection, row: Booking, *, reason: str, **values: Any) -> bool:
    """Make a locked booking that has failed pending again, its seats taken anew; False when they are sold."""
    if not await take_back_seats(tx, row["time_slot_id"], row["seats"]):
        return False
    await move(tx, {**row, "seats_pinned": True}, BookingStatus.PENDING, reason=reason, **values)
    return True


async def rivals(connection: AsyncConnection, row: Booking) -> RowMapping:
    """Tell what stands against taking a booking up again: one that supersedes it, or another live one of its customer's."""
    return (await connection.execute(_RIVALS, {name: row[name] for name in _RIVAL_KEYS})).mappings().one()


async def tell_guest(tx: AsyncConnection, booking_id: UUID, notice: Notice) -> Booking | None:
    """Add a notice to a booking, once; returns the booking as it then is, or None when it had been told."""
    untold = ~reservations.c.notices.contains([notice])
    told = await tx.execute(
        update(reservations)
        .where(reservations.c.id == booking_id, untold)
        .values(
            notices=reservations.c.notices.concat(cast([notice], JSONB)),
            version=reservations.c.version + 1,
        )
        .returning(*_SHOWN)
    )
    row: Booking | None = told.mappings().one_or_none()
    return row


async def change(tx: AsyncConnection, booking_id: UUID, **values: Any) -> Booking:
    """Change a locked booking; the version grows. Returns it as it then is."""
    return await _change(shape_of(values)).one(tx, booking_id=booking_id, **written(values))


@cache
def _change(shape: Shape) -> Prepared:
    one = update(reservations).where(reservations.c.id == bindparam("booking_id"))
    following = {"version": reservations.c.version + 1}
    return Prepared(one.values(**assignments(reservations, shape), **following).returning(*_SHOWN))


async def forget_payment(tx: AsyncConnection, booking_id: UUID, *, generation: int) -> Booking:
    """Begin a new generation of the payment: nothing is known of it yet. Returns the booking as it then is."""
    anew = {"generation": generation, "payment": null(), "payment_version": 0, "version": reservations.c.version + 1}
    begun = update(reservations).where(reservations.c.id == booking_id).values(**anew).returning(*_SHOWN)
    row: Booking = (await tx.execute(begun)).mappings().one()
    return row


async def extend(tx: AsyncConnection, booking_id: UUID, seconds: int, *, lifetime_max_s: int) -> None:
    """Let a locked hold expire at the later of now + `seconds` and when it would anyway, within the longest lifetime."""
    longest = reservations.c.created_at + func.make_interval(0, 0, 0, 0, 0, 0, lifetime_max_s)
    latest = func.greatest(reservations.c.expires_at, func.least(from_now(seconds), longest))
    extended = {
        "expires_at": func.date_trunc("milliseconds", latest),
        "extensions": reservations.c.extensions + 1,
        "version": reservations.c.version + 1,
    }
    await tx.execute(update(reservations).where(reservations.c.id == booking_id).values(**extended))


async def known_key(connection: AsyncConnection, *, caller: str, route: str, key: str) -> Mapping[str, Any] | None:
    """Return what a caller's key stands for on a route, or None."""
    return await _KEY.row(connection, of_caller=caller, of_route=route, of_key=key)


async def remember_key(
    tx: AsyncConnection, *, caller: str, route: str, key: str, booking_id: UUID, fingerprint: bytes
) -> bytes:
    """Store a key with the fingerprint of its request, and return the fingerprint that counts: the first one."""
    first = await _REMEMBER.value(tx, caller=caller, route=route, key=key, hold_id=booking_id, fingerprint=fingerprint)
    return bytes(first)


async def events(connection: AsyncConnection, booking_id: UUID) -> Sequence[RowMapping]:
    """Return every status change of a booking, in order."""
    found = await connection.execute(
        select(reservation_events)
        .where(reservation_events.c.reservation_id == booking_id)
        .order_by(reservation_events.c.id)
    )
    return found.mappings().all()
