"""Lets a hold in, or says why not: the one statement, what its answer means, and when it is worth a second try."""

from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

from reservation_service.errors import SlotBusy, SlotClosed, SlotUnavailable, TimeSlotNotFound, TooManyActiveHolds
from reservation_service.states import BookingStatus, ReleasedBy
from reservation_service.store import reservations, slots
from reservation_service.store.slots import NewHold
from shared.database import Conflict, Database, DatabaseAway, Row
from shared.problems import IdempotencyKeyReused

# The same key racing in two processes, or a slot whose expired holds had to go first: each costs one more round.
_ROUNDS = 5


class Decision(Enum):
    """What the statement decided."""

    CREATED = "created"
    REPLAYED = "replayed"
    STALE = "stale"
    FULL = "full"


@dataclass(frozen=True)
class Admission:
    """A hold that is there: just made, made anew for an older one, or found under its key."""

    hold_id: UUID
    decision: Decision
    supersedes: UUID | None = None


async def admit(database: Database, new: NewHold, *, renew: bool) -> Admission:
    """Take the seats for `new`, or find the hold that its key already has.

    With `renew`, a hold that expired, failed or was taken away is superseded under the same key. Raises the refusals
    of POST /v1/holds; SlotBusy (503) when the database could not be had in time, and then nothing was done.
    """
    slot_was_swept = False
    try:
        for _ in range(_ROUNDS):
            row = await _take(database, new)
            if row is None:
                continue
            decision = judge(row, new)
            if decision is Decision.STALE and renew:
                renewed = await _renew(database, new, row["known_id"])
                if renewed is not None:
                    return renewed
            elif decision is Decision.FULL:
                if slot_was_swept:
                    break
                slot_was_swept = True
                await expire_slot(database, new.time_slot_id)
            else:
                return Admission(row["known_id"] or new.hold_id, _without_renewal(decision))
        async with database.reading() as connection:
            available = await slots.free_seats(connection, new.time_slot_id)
    except DatabaseAway as error:
        raise SlotBusy(retry_after_ms=1000) from error
    raise SlotUnavailable(available=max(0, min(available, new.seats - 1)))


def _without_renewal(decision: Decision) -> Decision:
    return Decision.REPLAYED if decision is Decision.STALE else decision


def judge(row: Row, new: NewHold) -> Decision:
    """Read the statement's row. Raises what is final: key reused, no such slot, closed, too many holds."""
    if row["expires_at"] is not None:
        return Decision.CREATED
    if row["known_id"] is not None and row["known_id"] != new.supersedes:
        if bytes(row["fingerprint"]) != new.fingerprint:
            raise IdempotencyKeyReused
        return (
            Decision.STALE
            if is_renewable(row["known_status"], row["released_by"], due=row["due"])
            else Decision.REPLAYED
        )
    if row["slot_status"] is None:
        raise TimeSlotNotFound
    if row["slot_status"] != "open" or row["slot_over"]:
        raise SlotClosed
    if row["active_holds"] >= new.active_holds_max:
        raise TooManyActiveHolds(active=row["active_holds"], maximum=new.active_holds_max)
    return Decision.FULL


def is_renewable(status: str, released_by: str | None, *, due: bool) -> bool:
    """Tell whether the same key makes a new hold: not after the guest gave it back, nor once it is a booking."""
    match status:
        case BookingStatus.HELD:
            return due
        case BookingStatus.EXPIRED | BookingStatus.FAILED:
            return True
        case BookingStatus.RELEASED:
            return released_by != ReleasedBy.GUEST
        case _:
            return False


async def _take(database: Database, new: NewHold) -> Row | None:
    """Run the statement in its own transaction; None when another process won the race for the same key."""
    try:
        async with database.transaction("create_hold") as tx:
            return await slots.take_seats(tx, new)
    except Conflict:
        return None


async def _renew(database: Database, new: NewHold, stale_id: UUID) -> Admission | None:
    """Close the stale hold and take the seats again; None when it turned out not to be stale (ask anew).

    Locks the old row first and the slot after it, in the order of the sweeper.
    """
    renewal = replace(new, supersedes=stale_id)
    try:
        async with database.transaction("renew_hold") as tx:
            old = await reservations.lock_booking(tx, stale_id)
            if old is None or not is_renewable(old["status"], old["released_by"], due=old["due"]):
                return None
            if old["status"] == BookingStatus.HELD:
                await reservations.move(tx, old, BookingStatus.EXPIRED, reason="time ran out, renewed")
            row = await slots.take_seats(tx, renewal)
    except Conflict:
        return None
    if judge(row, renewal) is Decision.FULL:
        await _sweep_or_refuse(database, new)
        return None
    return Admission(new.hold_id, Decision.CREATED, supersedes=stale_id)


async def _sweep_or_refuse(database: Database, new: NewHold) -> None:
    """The slot is full: give back what others let lapse; when that frees nothing, the refusal is final."""
    if await expire_slot(database, new.time_slot_id) == 0:
        async with database.reading() as connection:
            available = await slots.free_seats(connection, new.time_slot_id)
        raise SlotUnavailable(available=max(0, min(available, new.seats - 1)))


async def expire_slot(database: Database, time_slot_id: UUID) -> int:
    """Expire the due holds of one slot, so that their seats can be had at once."""
    async with database.transaction("expire_slot") as tx:
        return await slots.expire_due(tx, batch=100, time_slot_id=time_slot_id)
