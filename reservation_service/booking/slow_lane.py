"""Admits the holds that need more than their slot's row: a discount that can be used up, or one's own older seats.

Each is an ordinary transaction, and only a few run at a time. Locks come in the order discount, own holds, slot, and
the seats are taken by the same statement as everywhere. Who takes a group's locks waits for none of the former two.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf
from uuid import UUID

from reservation_service.booking.admission import (
    Admission,
    Decision,
    TurnedAway,
    check_uses,
    is_renewable,
    lock_discount,
)
from reservation_service.booking.discounts import uses_left
from reservation_service.errors import SlotBusy
from reservation_service.states import BookingStatus, ReleasedBy
from reservation_service.store import catalogue, discounts, reservations, slots
from reservation_service.store.discounts import Discount
from reservation_service.store.reservations import Booking
from reservation_service.store.slots import NewHold
from shared.database import Conflict, Connection, Database, Row
from shared.problems import IdempotencyKeyReused

_WIDTH = 3  # connections that may wait for one popular code; the rest of the pool stays free
_DEADLINE_S = 5.0
_EXPIRE_BATCH = 100


class _NotTaken(Exception):
    """The statement took no seats after all, so nothing of the transaction may stay."""


class SlowLane:
    """The lane of one process."""

    def __init__(self, database: Database, *, abandoned_after_s: int) -> None:
        self._database = database
        self._abandoned_after_s = abandoned_after_s
        self._width = asyncio.Semaphore(_WIDTH)

    async def take(self, new: NewHold) -> Row | None:
        """Take seats with a discount whose uses are counted; see `slots.take_seats` for the row.

        None when another process won the race for the same key. Raises DiscountInvalid, TurnedAway when no use is left
        even after lapsed holds have given theirs back, SlotBusy (503) when it is nobody's turn in time.
        """
        async with self._turn():
            try:
                return await self._take(new)
            except TurnedAway:
                if new.discount_id is None or not await self._expire_uses(new.discount_id):
                    raise
                return await self._take(new)

    async def replace(self, new: NewHold) -> Admission | None:
        """Take the seats for `new` after giving back as many of the caller's own abandoned holds on the slot as it needs.

        None when that does not help; then nothing was given back. A key that is known is no newer hold: it is replayed,
        or, when it could only be renewed, refused, so that two keys of one guest never take turns.
        """
        async with self._turn():
            try:
                async with self._database.transaction("replace_hold") as tx:
                    return await _replace(tx, new, older_than_s=self._abandoned_after_s)
            except (_NotTaken, Conflict):
                return None

    async def _take(self, new: NewHold) -> Row | None:
        try:
            async with self._database.transaction("discounted_hold") as tx:
                discount = await lock_discount(tx, new)
                # Whoever waited here for their own twin finds its hold, and takes neither a use nor seats.
                if discount is not None and await _known(tx, new) is None:
                    await check_uses(tx, new, discount)
                return await slots.take_seats(tx, new)
        except Conflict:
            return None

    async def _expire_uses(self, discount_id: UUID) -> int:
        """Expire lapsed holds that have this discount, skipping those that somebody works on; return how many."""
        async with self._database.transaction("expire_uses") as tx:
            return await slots.expire_uses(tx, batch=_EXPIRE_BATCH, discount_id=discount_id)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._width.acquire()
        except TimeoutError as error:
            raise SlotBusy(retry_after_ms=1000) from error
        try:
            yield
        finally:
            self._width.release()


async def _known(tx: Connection, new: NewHold) -> Row | None:
    return await reservations.known_key(tx, caller=new.caller, route=slots.HOLD_ROUTE, key=new.key)


async def _replace(tx: Connection, new: NewHold, *, older_than_s: int) -> Admission | None:
    discount = await lock_discount(tx, new)
    own = await reservations.lock_own_holds(tx, new.caller, new.time_slot_id, older_than_s=older_than_s)
    # Only now: whoever waited for their own twin finds what it has made.
    if (known := await _known(tx, new)) is not None:
        return await _replayed(tx, new, known)
    going = _fewest(own, await _room(tx, new, discount), new)
    if going is None:
        return None
    for hold in going:
        by = ReleasedBy.SYSTEM
        await reservations.move(tx, hold, BookingStatus.RELEASED, reason="replaced by a newer hold", released_by=by)
    row = await slots.take_seats(tx, new)
    if row["expires_at"] is None:
        raise _NotTaken
    return Admission(new.hold_id, Decision.CREATED, row["expires_at"], replaced=len(going))


async def _replayed(tx: Connection, new: NewHold, known: Row) -> Admission | None:
    """Return the hold that the same key made meanwhile."""
    if bytes(known["fingerprint"]) != new.fingerprint:
        raise IdempotencyKeyReused
    hold = await reservations.booking(tx, known["hold_id"])
    if hold is None or is_renewable(hold["status"], hold["released_by"], due=hold["due"]):
        return None
    return Admission(hold["id"], Decision.REPLAYED)


@dataclass(frozen=True)
class _Room:
    """What is left for a new hold of this customer; less than nothing is possible for each."""

    seats: int
    holds: int
    uses: float

    def fits(self, new: NewHold) -> bool:
        return self.seats >= new.seats and self.holds >= 1 and self.uses >= 1

    def with_back(self, hold: Booking, new: NewHold) -> "_Room":
        """Return what is left when an older hold gives back its seats, its place and its use."""
        use = int(new.discount_id is not None and hold["discount_id"] == new.discount_id)
        return replace(self, seats=self.seats + hold["seats"], holds=self.holds + 1, uses=self.uses + use)

    def gains_by(self, hold: Booking, new: NewHold) -> bool:
        return self.seats < new.seats or self.holds < 1 or hold["discount_id"] == new.discount_id


async def _room(tx: Connection, new: NewHold, discount: Discount | None) -> _Room:
    """Lock the slot, and say what is left. Nothing of it can be taken by others before this transaction ends."""
    slot = await catalogue.lock_time_slot(tx, new.time_slot_id)
    free = slot["capacity"] - slot["taken"] if slot else 0
    holds = new.active_holds_max - await reservations.active_holds(tx, new.caller)
    left = uses_left(discount, await discounts.uses(tx, discount["id"], new.caller)) if discount else None
    return _Room(free, holds, inf if left is None else left)


def _fewest(own: Sequence[Booking], room: _Room, new: NewHold) -> Sequence[Booking] | None:
    """Choose which holds make way, the oldest first and none that would not help; None when all are not enough."""
    going: list[Booking] = []
    for hold in own:
        if room.fits(new):
            break
        if room.gains_by(hold, new):
            going.append(hold)
            room = room.with_back(hold, new)
    return going if room.fits(new) else None
