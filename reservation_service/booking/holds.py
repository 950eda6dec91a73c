"""A guest's hold: made, renewed by its key, looked at, extended, given back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from reservation_service.booking.admission import Admission, Decision, admit
from reservation_service.booking.pricing import price_party
from reservation_service.errors import (
    HoldExpired,
    HoldExtensionLimit,
    HoldNotFound,
    InvalidHoldStatus,
    TimeSlotNotFound,
)
from reservation_service.flags import SMART_IDEMPOTENCY
from reservation_service.settings import ReservationSettings
from reservation_service.states import BookingStatus, ReleasedBy
from reservation_service.store import catalogue, reservations, slots
from reservation_service.store.reservations import Booking
from shared.auth import Caller
from shared.database import Database
from shared.flags import Snapshot
from shared.identifiers import new_id
from shared.problems import IdempotencyKeyReused, Problem


@dataclass(frozen=True)
class HoldRequest:
    """POST /v1/holds, checked for form; `fingerprint` is what the key is bound to."""

    key: str
    fingerprint: bytes
    time_slot_id: UUID
    items: Sequence[tuple[UUID, int]]
    ttl_seconds: int | None = None
    client_reference: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True)
class HoldAnswer:
    """A hold to be shown as it was created, and whether this call made it."""

    booking: Booking
    created: bool
    renewed: bool


async def create_hold(
    database: Database, settings: ReservationSettings, flags: Snapshot, caller: Caller, request: HoldRequest
) -> HoldAnswer:
    """Hold seats, or replay or renew the hold that this key has. Raises the refusals of POST /v1/holds."""
    try:
        new = await _priced(database, settings, caller, request)
    except Problem:
        # The price list may have changed since; a hold that exists is replayed all the same.
        admission = await _known(database, caller, request)
        if admission is None:
            raise
    else:
        admission = await admit(database, new, renew=flags[SMART_IDEMPOTENCY])
    async with database.reading() as connection:
        booking = await reservations.booking(connection, admission.hold_id)
    if booking is None:
        raise HoldNotFound
    return HoldAnswer(booking, admission.decision is Decision.CREATED, admission.supersedes is not None)


async def _priced(
    database: Database, settings: ReservationSettings, caller: Caller, request: HoldRequest
) -> slots.NewHold:
    async with database.reading() as connection:
        offer = await catalogue.offer(connection, request.time_slot_id)
    if offer is None:
        raise TimeSlotNotFound
    party = price_party(dict(offer), request.items)
    return slots.NewHold(
        hold_id=new_id(),
        caller=caller.subject,
        key=request.key,
        fingerprint=request.fingerprint,
        time_slot_id=request.time_slot_id,
        seats=party.seats,
        ttl_s=request.ttl_seconds or offer["hold_ttl_seconds"] or settings.hold_ttl_seconds,
        items=party.items,
        price=party.price,
        total_minor=party.total_minor,
        currency=offer["currency"],
        capture_method=offer["capture_method"],
        client_reference=request.client_reference,
        metadata=request.metadata,
        active_holds_max=settings.max_active_holds,
    )


async def _known(database: Database, caller: Caller, request: HoldRequest) -> Admission | None:
    async with database.reading() as connection:
        known = await reservations.known_key(connection, caller=caller.subject, route=slots.HOLD_ROUTE, key=request.key)
    if known is None:
        return None
    if bytes(known["fingerprint"]) != request.fingerprint:
        raise IdempotencyKeyReused
    return Admission(known["hold_id"], Decision.REPLAYED)


async def read_hold(database: Database, caller: Caller, hold_id: UUID) -> Booking:
    """Return a caller's own hold. Raises HoldNotFound, for another's exactly like for none."""
    async with database.reading() as connection:
        booking = await reservations.booking(connection, hold_id, caller=caller.subject)
    if booking is None:
        raise HoldNotFound
    return booking


async def release_hold(database: Database, caller: Caller, hold_id: UUID) -> Booking:
    """Give a hold back, its seats at once; doing it again changes nothing. Raises InvalidHoldStatus once converted."""
    async with database.transaction("release_hold") as tx:
        booking = await reservations.lock_booking(tx, hold_id, caller=caller.subject)
        if booking is None:
            raise HoldNotFound
        if booking["status"] == BookingStatus.HELD:
            await reservations.move(
                tx, booking, BookingStatus.RELEASED, reason="given back", released_by=ReleasedBy.GUEST
            )
        elif booking["status"] not in {BookingStatus.RELEASED, BookingStatus.EXPIRED}:
            raise InvalidHoldStatus(hold_status="converted")
    return await read_hold(database, caller, hold_id)


async def extend_hold(
    database: Database, settings: ReservationSettings, caller: Caller, hold_id: UUID, seconds: int | None
) -> Booking:
    """Keep a hold for `seconds` more from now, at most twice and never beyond its longest lifetime."""
    async with database.transaction("extend_hold") as tx:
        booking = await reservations.lock_booking(tx, hold_id, caller=caller.subject)
        if booking is None:
            raise HoldNotFound
        if booking["status"] == BookingStatus.EXPIRED or (booking["status"] == BookingStatus.HELD and booking["due"]):
            raise HoldExpired(next_calls={"create_hold": "/v1/holds"})
        if booking["status"] != BookingStatus.HELD:
            raise InvalidHoldStatus
        if booking["extensions"] >= settings.hold_extensions_max:
            raise HoldExtensionLimit(maximum=settings.hold_extensions_max)
        await reservations.change(
            tx,
            hold_id,
            extensions=booking["extensions"] + 1,
            expires_at=reservations.extended_expiry(
                seconds or settings.hold_ttl_seconds, settings.hold_lifetime_max_seconds
            ),
        )
    return await read_hold(database, caller, hold_id)
