"""Rows of bookings: read them, lock them, and move them along the legal edges, seats included."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, cast, extract, func, insert, null, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement, Select

from reservation_service.states import LEGAL_MOVES, PINNED, BookingStatus, Notice
from reservation_service.store.slots import give_back_seats, take_back_seats
from reservation_service.store.tables import idempotency, reservation_events, reservations
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


class IllegalMove(RuntimeError):
    """A bug: somebody tried to move a booking along an edge that does not exist."""


def _bookings() -> Select[Any]:
    """Select rows with what only the database's clock may judge."""
    ends = func.coalesce(reservations.c.pay_until, reservations.c.expires_at)
    capture_before = cast(reservations.c.payment["capture_before"].astext, reservations.c.created_at.type)
    return select(
        reservations,
        (reservations.c.expires_at <= func.clock_timestamp()).label("due"),
        extract("epoch", ends - func.clock_timestamp()).label("seconds_left"),
        extract("epoch", capture_before - func.clock_timestamp()).label("capturable_s"),
    )


# Made once: a saga reads its booking at every turn, and to put the columns together costs more than to read them.
_ONE = _bookings().where(reservations.c.id == bindparam("booking_id"))
_ONE_LOCKED = _ONE.with_for_update(of=reservations)


async def booking(connection: AsyncConnection, booking_id: UUID, *, caller: str | None = None) -> Booking | None:
    """Return a booking; with `caller`, only if it is theirs."""
    found = await connection.execute(_of(_ONE, caller), {"booking_id": booking_id})
    row: Booking | None = found.mappings().one_or_none()
    return row


async def lock_booking(tx: AsyncConnection, booking_id: UUID, *, caller: str | None = None) -> Booking | None:
    """Lock a booking for a move; no transaction that holds a slot's lock may wait here."""
    found = await tx.execute(_of(_ONE_LOCKED, caller), {"booking_id": booking_id})
    row: Booking | None = found.mappings().one_or_none()
    return row


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


def _of(bookings: Select[Any], caller: str | None) -> Select[Any]:
    return bookings if caller is None else bookings.where(reservations.c.caller == caller)


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


async def move(tx: AsyncConnection, row: Booking, to: BookingStatus, *, reason: str, **values: Any) -> None:
    """Move a locked booking to another status, give its seats back if it no longer owns them, and write it down.

    Raises IllegalMove for an edge that `states.LEGAL_MOVES` does not have.
    """
    if to not in LEGAL_MOVES[BookingStatus(row["status"])]:
        raise IllegalMove(f"{row['status']} -> {to}")
    pinned = to in PINNED or (to is BookingStatus.NEEDS_ATTENTION and row["seats_pinned"])
    if pinned and not row["seats_pinned"]:
        raise IllegalMove(f"{row['status']} -> {to} needs its seats taken first")
    await tx.execute(
        update(reservations)
        .where(reservations.c.id == row["id"])
        .values(status=to, seats_pinned=pinned, version=reservations.c.version + 1, **values)
    )
    if row["seats_pinned"] and not pinned:
        await give_back_seats(tx, row["time_slot_id"], row["seats"])
    await tx.execute(
        insert(reservation_events).values(
            reservation_id=row["id"],
            from_status=row["status"],
            to_status=to,
            reason=reason,
            trace_id=current_trace_id(),
        )
    )


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


async def tell_guest(tx: AsyncConnection, booking_id: UUID, notice: Notice) -> None:
    """Add a notice to a booking, once."""
    untold = ~reservations.c.notices.contains([notice])
    await tx.execute(
        update(reservations)
        .where(reservations.c.id == booking_id, untold)
        .values(
            notices=reservations.c.notices.concat(cast([notice], JSONB)),
            version=reservations.c.version + 1,
        )
    )


async def change(tx: AsyncConnection, booking_id: UUID, **values: Any) -> None:
    """Change what is not a status (customer, payment, expiry); the version grows."""
    await tx.execute(
        update(reservations).where(reservations.c.id == booking_id).values(**values, version=reservations.c.version + 1)
    )


async def forget_payment(tx: AsyncConnection, booking_id: UUID, *, generation: int) -> None:
    """Begin a new generation of the payment: nothing is known of it yet."""
    await change(tx, booking_id, generation=generation, payment=null(), payment_version=0)


def from_now(seconds: float) -> ColumnElement[Any]:
    """Return the instant `seconds` from now, by the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def extended_expiry(seconds: int, lifetime_max_s: int) -> ColumnElement[Any]:
    """Return the later of now + `seconds` and the present expiry, but never beyond the longest lifetime."""
    wanted = from_now(seconds)
    longest = reservations.c.created_at + func.make_interval(0, 0, 0, 0, 0, 0, lifetime_max_s)
    latest = func.greatest(reservations.c.expires_at, func.least(wanted, longest))
    return func.date_trunc("milliseconds", latest)


async def known_key(connection: AsyncConnection, *, caller: str, route: str, key: str) -> RowMapping | None:
    """Return what a caller's key stands for on a route, or None."""
    found = await connection.execute(
        select(idempotency.c.hold_id, idempotency.c.fingerprint).where(
            idempotency.c.caller == caller, idempotency.c.route == route, idempotency.c.key == key
        )
    )
    return found.mappings().one_or_none()


async def remember_key(
    tx: AsyncConnection, *, caller: str, route: str, key: str, booking_id: UUID, fingerprint: bytes
) -> bytes:
    """Store a key with the fingerprint of its request, and return the fingerprint that counts: the first one."""
    stored = await tx.execute(
        upsert(idempotency)
        .values(caller=caller, route=route, key=key, hold_id=booking_id, fingerprint=fingerprint)
        .on_conflict_do_update(index_elements=["caller", "route", "key"], set_={"created_at": idempotency.c.created_at})
        .returning(idempotency.c.fingerprint)
    )
    return bytes(stored.scalar_one())


async def events(connection: AsyncConnection, booking_id: UUID) -> Sequence[RowMapping]:
    """Return every status change of a booking, in order."""
    found = await connection.execute(
        select(reservation_events)
        .where(reservation_events.c.reservation_id == booking_id)
        .order_by(reservation_events.c.id)
    )
    return found.mappings().all()
