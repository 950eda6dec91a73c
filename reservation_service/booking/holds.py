"""A guest's hold: made, renewed by its key, looked at, extended, given back."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from reservation_service.booking.admission import Admission, Decision, Take, admit, is_renewable
from reservation_service.booking.api_keys import is_reseller
from reservation_service.booking.catalogue import Offers
from reservation_service.booking.discounts import is_limited, reduction, usable
from reservation_service.booking.group_admission import GroupAdmission, HungUp
from reservation_service.booking.one_flight import apart
from reservation_service.booking.pricing import price_party
from reservation_service.booking.reservations import EXTERNAL_SCOPE
from reservation_service.booking.slot_sweeps import SlotSweeps
from reservation_service.booking.slow_lane import SlowLane
from reservation_service.errors import (
    HoldExpired,
    HoldExtensionLimit,
    HoldNotFound,
    InvalidHoldStatus,
    SlotBusy,
    TimeSlotNotFound,
)
from reservation_service.flags import GROUP_ADMISSION, REPLACE_OWN_HOLD, SMART_IDEMPOTENCY
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from reservation_service.states import BookingStatus, ReleasedBy
from reservation_service.store import reservations, slots
from reservation_service.store.discounts import Discount
from reservation_service.store.reservations import Booking
from shared.auth import Caller
from shared.database import Database, Row
from shared.flags import Snapshot
from shared.identifiers import new_id
from shared.operator_actions import Act, record
from shared.problems import IdempotencyKeyReused, Problem

T = TypeVar("T")


class HoldRequest(NamedTuple):
    """POST /v1/holds, checked for form; `fingerprint` is what the key is bound to."""

    key: str
    fingerprint: bytes
    time_slot_id: UUID
    items: Sequence[tuple[UUID, int]]
    ttl_seconds: int | None = None
    discount_code: str | None = None
    client_reference: str | None = None
    metadata: Mapping[str, str] | None = None


class HoldAnswer(NamedTuple):
    """A hold to be shown as it was created, and whether this call made it.

    `as_made`: `booking` is what it was made of, which nobody has read back.
    """

    booking: Row
    created: bool
    renewed: bool
    replaced: bool = False
    as_made: bool = False


class Holds:
    """The behaviours of one process, with what they share."""

    def __init__(
        self,
        database: Database,
        settings: ReservationSettings,
        offers: Offers,
        group: GroupAdmission,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._settings = settings
        self._offers = offers
        self._group = group
        self._sweeps = SlotSweeps(database, metrics)
        self._slow_lane = SlowLane(database, abandoned_after_s=settings.abandoned_hold_seconds)

    async def create(
        self, flags: Snapshot, caller: Caller, request: HoldRequest, *, hung_up: HungUp | None = None
    ) -> HoldAnswer:
        """Hold seats, or replay or renew the hold that this key has. Raises the refusals of POST /v1/holds.

        Who has `hung_up` while they wait for their turn is dropped, and takes nothing.
        """
        renew = flags[SMART_IDEMPOTENCY]
        try:
            prepared = await self._prepared(caller, request, renew=renew)
        except TimeoutError as error:
            raise SlotBusy(retry_after_ms=1000) from error
        if isinstance(prepared, Admission):
            return await self._replay(prepared)
        new, limited = prepared
        # Whoever books for others has older holds of other guests, not older ones of their own.
        replaces = flags[REPLACE_OWN_HOLD] and EXTERNAL_SCOPE not in caller.scopes
        admission = await admit(
            self._database,
            new,
            self._take(flags, limited=limited, hung_up=hung_up),
            self._sweeps,
            renew=renew,
            replace=self._slow_lane.replace if replaces else None,
        )
        if admission.decision is Decision.CREATED and admission.expires_at is not None:
            return HoldAnswer(
                _as_made(new, admission),
                created=True,
                renewed=admission.supersedes is not None,
                replaced=admission.replaced > 0,
                as_made=True,
            )
        return await self._replay(admission)

    def _take(self, flags: Snapshot, *, limited: bool, hung_up: HungUp | None) -> Take:
        """Choose the lane: what is counted besides seats takes the slow one."""
        if limited:
            return self._slow_lane.take
        if flags[GROUP_ADMISSION]:
            return partial(self._group.take, hung_up=hung_up)
        return self._group.take_single

    async def _replay(self, admission: Admission) -> HoldAnswer:
        async with self._database.reading() as connection:
            booking = await reservations.booking(connection, admission.hold_id)
        if booking is None:
            raise HoldNotFound
        return HoldAnswer(booking, created=admission.decision is Decision.CREATED, renewed=False)

    async def _prepared(
        self, caller: Caller, request: HoldRequest, *, renew: bool
    ) -> tuple[slots.NewHold, bool] | Admission:
        """Price a hold; or find the one that the key has, when it could not be priced any more.

        Price list and discount may have changed since; a hold that exists is replayed all the same.
        """
        try:
            return await self._priced(caller, request)
        except Problem:
            known = await self._in_time(apart(self._known(caller, request, renew=renew)))
            if known is None:
                raise
            return known

    async def _priced(self, caller: Caller, request: HoldRequest) -> tuple[slots.NewHold, bool]:
        """Return the hold as it would be made, and whether its discount has limits."""
        slot_id, code = request.time_slot_id, request.discount_code
        offer = self._offers.remembered(slot_id) or await self._in_time(self._offers.of_slot(slot_id))
        if offer is None:
            raise TimeSlotNotFound
        discount = await self._in_time(apart(self._discount(offer, code))) if code else None
        if discount is None:
            party = self._offers.party(slot_id, offer, request.items)
        else:
            party = price_party(offer, request.items, reduction(discount))
        new = slots.NewHold(
            hold_id=new_id(),
            caller=caller.subject,
            key=request.key,
            fingerprint=request.fingerprint,
            time_slot_id=slot_id,
            seats=party.seats,
            ttl_s=request.ttl_seconds or offer["hold_ttl_seconds"] or self._settings.hold_ttl_seconds,
            items=party.items,
            price=party.price,
            total_minor=party.total_minor,
            currency=offer["currency"],
            capture_method=offer["capture_method"],
            client_reference=request.client_reference,
            metadata=request.metadata,
            active_holds_max=self._holds_max(caller),
            discount_id=discount["id"] if discount else None,
        )
        return new, discount is not None and is_limited(discount)

    async def _in_time(self, asked: Awaitable[T]) -> T:
        """Wait for what had to be asked; a deadline for what is known would cost more than knowing it. Raises TimeoutError."""
        async with asyncio.timeout(self._settings.admission_price_s):
            return await asked

    def _holds_max(self, caller: Caller) -> int:
        settings = self._settings
        return settings.max_active_holds_of_reseller if is_reseller(caller) else settings.max_active_holds

    async def _discount(self, offer: Mapping[str, Any], code: str) -> Discount:
        async with self._database.reading() as connection:
            return await usable(connection, code, experience_id=offer["experience_id"], currency=offer["currency"])

    async def _known(self, caller: Caller, request: HoldRequest, *, renew: bool) -> Admission | None:
        """Return the hold that a key has, unless it is over: then only what can be had today could renew it."""
        async with self._database.reading() as connection:
            known = await reservations.known_key(
                connection, caller=caller.subject, route=slots.HOLD_ROUTE, key=request.key
            )
            hold = await reservations.booking(connection, known["hold_id"]) if known else None
        if known is None or hold is None:
            return None
        if bytes(known["fingerprint"]) != request.fingerprint:
            raise IdempotencyKeyReused
        if renew and is_renewable(hold["status"], hold["released_by"], due=hold["due"]):
            return None
        return Admission(known["hold_id"], Decision.REPLAYED)

    async def read(self, caller: Caller, hold_id: UUID) -> Booking:
        """Return a caller's own hold. Raises HoldNotFound, for another's exactly like for none."""
        async with self._database.reading() as connection:
            booking = await reservations.booking(connection, hold_id, caller=caller.subject)
        if booking is None:
            raise HoldNotFound
        return booking

    async def release(self, caller: Caller, hold_id: UUID) -> Booking:
        """Give a hold back, its seats at once; again changes nothing. Raises InvalidHoldStatus once converted."""
        return await self._release(hold_id, ReleasedBy.GUEST, "given back", owner=caller.subject)

    async def release_by_operator(self, hold_id: UUID, act: Act) -> Booking:
        """Take any customer's hold back; unlike one that its guest gave back, the same key may renew it."""
        return await self._release(hold_id, ReleasedBy.OPERATOR, f"operator: {act.why}", owner=None, act=act)

    async def _release(
        self, hold_id: UUID, by: ReleasedBy, reason: str, *, owner: str | None, act: Act | None = None
    ) -> Booking:
        async with self._database.transaction("release_hold") as tx:
            booking = await reservations.lock_booking(tx, hold_id, caller=owner)
            if booking is None:
                raise HoldNotFound
            if booking["status"] == BookingStatus.HELD:
                await reservations.move(tx, booking, BookingStatus.RELEASED, reason=reason, released_by=by)
                if act:
                    await record(tx, act, hold_id, before={"status": "held"}, after={"status": "released"})
            elif booking["status"] not in {BookingStatus.RELEASED, BookingStatus.EXPIRED}:
                raise InvalidHoldStatus(hold_status="converted")
            released = await reservations.booking(tx, hold_id, caller=owner)
        if released is None:
            raise HoldNotFound
        return released

    async def extend(self, caller: Caller, hold_id: UUID, seconds: int | None) -> Booking:
        """Keep a hold for `seconds` more from now, at most twice and never beyond its longest lifetime."""
        async with self._database.transaction("extend_hold") as tx:
            booking = await reservations.lock_booking(tx, hold_id, caller=caller.subject)
            if booking is None:
                raise HoldNotFound
            self._check_extendable(booking)
            await reservations.extend(
                tx,
                hold_id,
                seconds or self._settings.hold_ttl_seconds,
                lifetime_max_s=self._settings.hold_lifetime_max_seconds,
            )
        return await self.read(caller, hold_id)

    def _check_extendable(self, booking: Booking) -> None:
        if booking["status"] == BookingStatus.EXPIRED or (booking["status"] == BookingStatus.HELD and booking["due"]):
            raise HoldExpired(next_calls={"create_hold": "/v1/holds"})
        if booking["status"] != BookingStatus.HELD:
            raise InvalidHoldStatus
        if booking["extensions"] >= self._settings.hold_extensions_max:
            raise HoldExtensionLimit(maximum=self._settings.hold_extensions_max)


def _as_made(new: slots.NewHold, admission: Admission) -> dict[str, Any]:
    """Return the columns a new hold is shown from, as a read of its row would give them."""
    return {
        "id": new.hold_id,
        "status": BookingStatus.HELD,
        "time_slot_id": new.time_slot_id,
        "items": new.items,
        "seats": new.seats,
        "price": new.price,
        "created_expires_at": admission.expires_at,
        "expires_at": admission.expires_at,
        "extensions": 0,
        "due": False,
        "supersedes": admission.supersedes,
        "client_reference": new.client_reference,
        "metadata": new.metadata,
        "seconds_left": new.ttl_s,
    }
