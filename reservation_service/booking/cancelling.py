"""A booking is called off because somebody asked: what it is worth by its terms, and the asking, which is durable.

What was asked for is written on the booking in the transaction that answers for it, so no crash forgets it: a pending
booking then never ends confirmed, and a confirmed one is cancelled, its seats free, before any money is called for.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from reservation_service.booking.cancellation_policy import RefundKind, in_words, refund_minor, share_at
from reservation_service.booking.reservations import pays_by_card
from reservation_service.errors import (
    InvalidReservationStatus,
    OutsideCancellationWindow,
    ReservationNotFound,
    VersionConflict,
)
from reservation_service.states import CONVERTED, BookingStatus, CancelledBy, SlotStatus
from reservation_service.store import cancellations, reservations
from reservation_service.store.reservations import Booking
from shared.changes import NOW
from shared.database import Connection, Database
from shared.operator_actions import Act, record
from shared.problems import IdempotencyKeyReused

CANCEL_ROUTE = "POST /v1/reservations/{id}/cancel"
_ALL = 100
_OPEN = frozenset({BookingStatus.PENDING, BookingStatus.CONFIRMED})


@dataclass(frozen=True)
class CancelRequest:
    """Who wants which booking cancelled, checked for form. `caller` is set when it has to be theirs.

    `key` and `fingerprint` are the guest's: an operator's call needs none, because the booking's id makes it repeatable;
    what an operator does is an `act`.
    """

    reservation_id: UUID
    by: CancelledBy
    who: str
    reason: str | None = None
    caller: str | None = None
    key: str | None = None
    fingerprint: bytes = b""
    if_match: Collection[str] | None = None
    waives_terms: bool = False
    act: Act | None = None


@dataclass(frozen=True)
class Quote:
    """What cancelling now would give back; the amount is so until `expires_at`, or until the booking changes."""

    booking: Booking
    kind: RefundKind
    refund_minor: int
    policy: str
    expires_at: datetime | None

    @property
    def is_cancellable(self) -> bool:
        return self.kind is not RefundKind.NOT_CANCELLABLE


class Asked(StrEnum):
    """What a call came to: it made the transition, it was asked before, or there is nothing left to ask for."""

    NOW = "now"
    BEFORE = "before"


async def read_quote(database: Database, reservation_id: UUID, *, caller: str | None) -> Quote:
    """Return what cancelling a booking would give back now. Raises ReservationNotFound, InvalidReservationStatus."""
    async with database.snapshot() as connection:
        booking = await reservations.booking(connection, reservation_id, caller=caller)
        if booking is None or booking["status"] not in CONVERTED:
            raise ReservationNotFound
        if booking["status"] not in _OPEN:
            raise InvalidReservationStatus(reservation_status=booking["status"])
        return await quote(connection, booking)


async def quote(connection: Connection, booking: Booking, *, waives_terms: bool = False) -> Quote:
    """Judge a pending or confirmed booking by its terms and the database's clock; quote and cancel both come here.

    Nothing is kept of a booking that is not final, nor of one whose departure its operator has cancelled.
    """
    terms = await cancellations.terms(connection, booking["id"])
    words = in_words(terms["policy"])
    if booking["status"] == BookingStatus.PENDING:
        return Quote(booking, RefundKind.VOID, 0, words, None)
    if waives_terms or terms["slot_status"] == SlotStatus.CANCELLED:
        percent, until = _ALL, None
    else:
        share = share_at(terms["policy"], starts_at=terms["starts_at"], now=terms["now"])
        if share.percent is None:
            return Quote(booking, RefundKind.NOT_CANCELLABLE, 0, words, None)
        percent, until = share.percent, share.until
    back_minor = refund_minor(booking["total_minor"], percent, booking["currency"])
    return Quote(booking, _kind(booking, back_minor), back_minor, words, until)


def _kind(booking: Booking, back_minor: int) -> RefundKind:
    if not booking["total_minor"]:
        return RefundKind.VOID
    if not back_minor:
        return RefundKind.NOTHING
    if not pays_by_card(booking):
        return RefundKind.EXTERNAL
    return RefundKind.FULL if back_minor == booking["total_minor"] else RefundKind.PARTIAL


async def ask_to_cancel(tx: Connection, booking: Booking, request: CancelRequest) -> Asked:
    """Write down that a locked booking is to be cancelled, and what goes back; moving it is its saga's.

    Raises IdempotencyKeyReused, InvalidReservationStatus, OutsideCancellationWindow, and VersionConflict for the call
    that would make the transition: the same call again is the only retry that a frontend needs.
    """
    await _check_key(tx, request)
    status = BookingStatus(booking["status"])
    if status is BookingStatus.CANCELLED or (status in _OPEN and booking["cancel_requested_at"] is not None):
        return Asked.BEFORE
    if status not in _OPEN:
        raise InvalidReservationStatus(reservation_status=str(status))
    if request.if_match is not None and not {"*", str(booking["version"])} & set(request.if_match):
        raise VersionConflict(version=booking["version"])
    told = await quote(tx, booking, waives_terms=request.waives_terms)
    if not told.is_cancellable:
        raise OutsideCancellationWindow(policy=told.policy)
    await write_down(tx, booking, request, told)
    if request.act:
        asked = {"refund_minor": told.refund_minor, "kind": told.kind, "waive_policy": request.waives_terms}
        await record(tx, request.act, booking["id"], before={"status": str(status)}, after=asked)
    return Asked.NOW


async def write_down(tx: Connection, booking: Booking, request: CancelRequest, told: Quote) -> None:
    """Make the asking durable; a booking that is not final yet gives everything back, whatever comes meanwhile."""
    asked = {"by": request.by, "who": request.who, "reason": request.reason, "kind": told.kind, "policy": told.policy}
    due = {} if booking["status"] == BookingStatus.PENDING else {"refund_due_minor": told.refund_minor}
    await reservations.change(tx, booking["id"], cancel_requested_at=NOW, cancellation=asked, **due)


async def _check_key(tx: Connection, request: CancelRequest) -> None:
    """The key of a cancel stores no answer; it only detects that the body was changed under it."""
    if request.key is None:
        return
    first = await reservations.remember_key(
        tx,
        caller=request.who,
        route=CANCEL_ROUTE,
        key=request.key,
        booking_id=request.reservation_id,
        fingerprint=request.fingerprint,
    )
    if first != request.fingerprint:
        raise IdempotencyKeyReused
