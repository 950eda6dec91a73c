"""Lets a hold in, or says why not: the one statement, what its answer means, and when it is worth a second try."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from reservation_service.booking.discounts import USED_UP, check_dates, uses_left
from reservation_service.booking.slot_sweeps import SlotSweeps
from reservation_service.clients.slot_lock import Lease, SlotLocks
from reservation_service.errors import (
    DiscountInvalid,
    SlotBusy,
    SlotClosed,
    SlotUnavailable,
    TimeSlotNotFound,
    TooManyActiveHolds,
)
from reservation_service.states import BookingStatus, ReleasedBy
from reservation_service.store import discounts, reservations, slots
from reservation_service.store.discounts import Discount
from reservation_service.store.slots import NewHold
from shared.crashpoints import external_call
from shared.database import Conflict, Connection, Database, DatabaseAway, Overtaken, Row
from shared.problems import IdempotencyKeyReused, Problem

# The same key racing in two processes, or a slot whose expired holds had to go first: each costs one more round.
_ROUNDS = 8
_PAUSE_S = 0.02  # at most, before another round when somebody else is at work on what we want
_DISCOUNT_LOCK_TIMEOUT_MS = 500  # nobody keeps a discount locked for long because one slot is blocked


Take = Callable[[NewHold], Awaitable[Row | None]]


class TurnedAway(Exception):
    """No hold, for a reason that the customer's own older holds may have a part in; `own` says whether they have any."""

    def __init__(self, refusal: Problem, *, own: int) -> None:
        super().__init__(refusal.detail)
        self._refusal = refusal
        self.own = own

    def let_go(self) -> Problem:
        """Return the refusal, once, to be raised in this one's stead.

        This one then becomes its context. Would it still refer to it, every refusal of a rush, with all that its frames
        hold, were a circle that only the collector can take away, in pauses that everybody feels.
        """
        refusal = self._refusal
        del self._refusal
        return refusal


class Decision(Enum):
    """What the statement decided."""

    CREATED = "created"
    REPLAYED = "replayed"
    STALE = "stale"
    FULL = "full"


class Admission(NamedTuple):
    """A hold that is there: just made, made anew for an older one, or found under its key."""

    hold_id: UUID
    decision: Decision
    expires_at: datetime | None = None
    supersedes: UUID | None = None
    replaced: int = 0


Replace = Callable[[NewHold], Awaitable[Admission | None]]


async def admit(
    database: Database, new: NewHold, take: Take, sweeps: SlotSweeps, *, renew: bool, replace: Replace | None = None
) -> Admission:
    """Take the seats for `new`, or find the hold that its key already has.

    `take` runs the statement, alone or in a group. With `renew`, a hold that expired, failed or was taken away is
    superseded under the same key; with `replace`, customers' own older holds on the slot make way. Raises the refusals
    of POST /v1/holds; SlotBusy (503) when the database could not be had in time, and then nothing was done.
    """
    try:
        try:
            return await _ask(database, new, take, sweeps, renew=renew)
        except TurnedAway as away:
            instead = await replace(new) if replace and away.own else None
            if instead is None:
                raise away.let_go() from None
            return instead
    except DatabaseAway as error:
        raise SlotBusy(retry_after_ms=1000) from error


async def _ask(database: Database, new: NewHold, take: Take, sweeps: SlotSweeps, *, renew: bool) -> Admission:
    """Ask until something is decided. Raises TurnedAway, SlotBusy, and the refusals that are nobody's own doing."""
    for _ in range(_ROUNDS):
        try:
            admission = await _one_round(database, new, take, sweeps, renew=renew)
        except Overtaken:
            admission = None
        if admission is not None:
            return admission
        await asyncio.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311  spreads those who met each other
    raise SlotBusy(retry_after_ms=1000)


async def _one_round(
    database: Database, new: NewHold, take: Take, sweeps: SlotSweeps, *, renew: bool
) -> Admission | None:
    """Ask once, and make room or renew if the answer says so; None when it is worth asking again."""
    row = await take(new)
    if row is None:
        return None
    decision = judge(row, new)
    if decision is Decision.STALE and renew:
        decision, renewed = await _renew(database, new, row["known_id"])
        if renewed is not None:
            return renewed
    elif decision is not Decision.FULL:
        return Admission(row["known_id"] or new.hold_id, _without_renewal(decision), row["expires_at"])
    if decision is Decision.FULL:
        swept = await sweeps.sweep(new.time_slot_id)
        # Free seats that we did not free ourselves are those of lapsed holds which a sweeper has in hand just now.
        if not swept.expired and swept.available < new.seats:
            raise TurnedAway(SlotUnavailable(available=max(0, swept.available)), own=row["active_holds"])
    return None


def _without_renewal(decision: Decision) -> Decision:
    return Decision.REPLAYED if decision is Decision.STALE else decision


def judge(row: Row, new: NewHold) -> Decision:
    """Read the statement's row. Raises what is final: key reused, no such slot, closed; TurnedAway for too many holds.

    A key that leads to this very hold belongs to an earlier run of the statement whose commit we did not hear of.
    """
    if row["expires_at"] is not None or row["known_id"] == new.hold_id:
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
        refusal = TooManyActiveHolds(active=row["active_holds"], maximum=new.active_holds_max)
        raise TurnedAway(refusal, own=row["active_holds"])
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


@asynccontextmanager
async def slots_locked(locks: SlotLocks, slot_ids: Sequence[UUID]) -> AsyncIterator[None]:
    """Have these slots' locks meanwhile, or those that can be had at once: what happens inside is right without any."""
    lease = await lock_slots(locks, slot_ids)
    try:
        yield
    finally:
        await unlock_slots(locks, lease)


async def lock_slots(locks: SlotLocks, slot_ids: Sequence[UUID]) -> Lease:
    """Take these slots' locks, or those that can be had at once; never raises."""
    async with external_call("lock_slots"):
        return await locks.acquire(slot_ids)


async def unlock_slots(locks: SlotLocks, lease: Lease) -> None:
    """Give locks back; never raises."""
    async with external_call("unlock_slots"):
        await locks.release(lease)


async def lock_discount(tx: Connection, new: NewHold) -> Discount | None:
    """Lock the discount of a hold, if it has one, before anything else. Raises DiscountInvalid when it is over."""
    if new.discount_id is None:
        return None
    await slots.wait_at_most(tx, _DISCOUNT_LOCK_TIMEOUT_MS)
    discount = await discounts.lock(tx, new.discount_id)
    check_dates(discount)
    return discount


async def check_uses(tx: Connection, new: NewHold, discount: Discount) -> None:
    """Make sure that a locked discount has a use left for this customer. Raises TurnedAway."""
    uses = await discounts.uses(tx, discount["id"], new.caller)
    left = uses_left(discount, uses)
    if left is not None and left < 1:
        raise TurnedAway(DiscountInvalid(reason=USED_UP), own=uses.mine)


class NobodyWaits(Exception):
    """The caller has gone before their seats were kept, and nothing of their transaction was."""


async def take_alone(
    database: Database, new: NewHold, *, lock_wait_ms: int | None = None, wanted: Callable[[], bool] = lambda: True
) -> Row | None:
    """Run the statement in its own transaction; None when another process won the race for the same key.

    Raises LockedOut when a lock was not to be had, in `lock_wait_ms` if that is said, and NobodyWaits when it is not
    `wanted` any more once the lock was had.
    """
    try:
        async with database.transaction("create_hold") as tx:
            if lock_wait_ms is not None:
                await slots.wait_at_most(tx, lock_wait_ms)
            row = await slots.take_seats(tx, new)
            if not wanted():
                raise NobodyWaits
            return row
    except Conflict:
        return None


async def _renew(database: Database, new: NewHold, stale_id: UUID) -> tuple[Decision, Admission | None]:
    """Close the stale hold and take the seats again; no admission when it is not stale after all, or the slot is full.

    Locks the discount first, the old row next and the slot last. The discount has to be valid now, with a use left
    once the old hold has given its own back. Raises DiscountInvalid, TurnedAway; then the old hold is left as it was.
    """
    renewal = new._replace(supersedes=stale_id)
    try:
        async with database.transaction("renew_hold") as tx:
            discount = await lock_discount(tx, new)
            old = await reservations.lock_booking(tx, stale_id)
            if old is None or not is_renewable(old["status"], old["released_by"], due=old["due"]):
                return Decision.STALE, None
            if old["status"] == BookingStatus.HELD:
                await reservations.move(tx, old, BookingStatus.EXPIRED, reason="time ran out, renewed")
            if discount is not None:
                if not await _leads_to(tx, new, stale_id):
                    return Decision.STALE, None
                await check_uses(tx, new, discount)
            row = await slots.take_seats(tx, renewal)
    except Conflict:
        return Decision.STALE, None
    decision = judge(row, renewal)
    if decision is not Decision.CREATED:  # full, or somebody else has renewed it meanwhile: ask anew
        return decision, None
    return decision, Admission(new.hold_id, Decision.CREATED, row["expires_at"], supersedes=stale_id)


async def _leads_to(tx: Connection, new: NewHold, hold_id: UUID) -> bool:
    """Tell whether the key still leads to this hold; if not, somebody else has renewed it and has its use."""
    known = await reservations.known_key(tx, caller=new.caller, route=slots.HOLD_ROUTE, key=new.key)
    return known is not None and known["hold_id"] == hold_id
