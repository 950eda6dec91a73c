"""A booking from convert on: how it becomes pending, what the payment does to it, and how it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from reservation_service.errors import (
    HoldExpired,
    HoldNotFound,
    InvalidHoldStatus,
    PaymentModeFixed,
    ReservationNotFound,
    SlotClosed,
)
from reservation_service.states import CONVERTED, BookingStatus, Notice
from reservation_service.store import catalogue, reservations
from reservation_service.store.reservations import Booking
from shared.auth import Caller
from shared.changes import NOW, FromNow
from shared.database import Connection, Database
from shared.identifiers import derived_id
from shared.payment_contract import PaymentStatus
from shared.problems import IdempotencyKeyReused

EXTERNAL_SCOPE = "bookings:external"
CONVERT_ROUTE = "POST /v1/holds/{id}/convert"
# No I, L, O, 0, 1: a reference is read over the telephone.
_REFERENCE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_REFERENCE_LENGTH = 6

Choose = Callable[[str], str]


@dataclass(frozen=True)
class ConvertRequest:
    """POST /v1/holds/{id}/convert, checked for form."""

    hold_id: UUID
    key: str
    fingerprint: bytes
    customer: Mapping[str, str]
    payment_mode: str


def payment_id(booking: Booking) -> UUID:
    """Return the payment's id: one per booking and generation, so that a retry is never a second payment."""
    return derived_id(booking["id"], f"payment:{booking['generation']}")


def pays_by_card(booking: Booking) -> bool:
    """Tell whether the payment service has a part in this booking."""
    return bool(booking["payment_mode"] == "stripe" and booking["total_minor"] > 0)


def payment_status(booking: Booking) -> PaymentStatus:
    """Return the payment's state as it was last told."""
    if booking["payment_mode"] == "external":
        return PaymentStatus.EXTERNAL
    return PaymentStatus((booking["payment"] or {}).get("status", PaymentStatus.NONE))


async def begin_conversion(
    tx: Connection, caller: Caller, request: ConvertRequest, *, window_s: int, choose: Choose
) -> tuple[Booking, bool]:
    """Lock the caller's hold and make it pending if it is still theirs to convert.

    Returns the booking as it then is and whether this call made the transition. Raises the refusals of convert; a booking
    that is pending, or past that, is no refusal: the same call is the only retry that a frontend needs.
    """
    booking = await reservations.lock_booking(tx, request.hold_id, caller=caller.subject)
    if booking is None:
        raise HoldNotFound
    await _check_key(tx, caller, request)
    status = BookingStatus(booking["status"])
    if status in CONVERTED:
        await _again(tx, booking, request)
        return booking, False
    if status is BookingStatus.RELEASED:
        raise InvalidHoldStatus(hold_status=str(status))
    if status is BookingStatus.EXPIRED or booking["due"]:
        raise HoldExpired(next_calls={"create_hold": "/v1/holds"})
    slot = await catalogue.share_slot(tx, booking["time_slot_id"])
    if slot["status"] != "open" or slot["over"]:
        raise SlotClosed
    pending = await reservations.move(
        tx,
        booking,
        BookingStatus.PENDING,
        reason="converted",
        reference="".join(choose(_REFERENCE_ALPHABET) for _ in range(_REFERENCE_LENGTH)),
        customer=dict(request.customer),
        payment_mode=request.payment_mode,
        pay_until=FromNow(window_s),
        cancellation_policy=slot["cancellation_policy"],
    )
    return pending, True


async def _check_key(tx: Connection, caller: Caller, request: ConvertRequest) -> None:
    """The key of a convert stores no answer; it only detects that the body was changed under it."""
    first = await reservations.remember_key(
        tx,
        caller=caller.subject,
        route=CONVERT_ROUTE,
        key=request.key,
        booking_id=request.hold_id,
        fingerprint=request.fingerprint,
    )
    if first != request.fingerprint:
        raise IdempotencyKeyReused


async def _again(tx: Connection, booking: Booking, request: ConvertRequest) -> None:
    """A later convert of the same booking may correct the customer while pending, never how it is paid."""
    if booking["payment_mode"] != request.payment_mode:
        raise PaymentModeFixed
    if booking["status"] == BookingStatus.PENDING and dict(booking["customer"]) != dict(request.customer):
        await reservations.change(tx, booking["id"], customer=dict(request.customer))


async def note_payment(tx: Connection, booking: Booking, told: Mapping[str, Any]) -> Booking:
    """Keep what payment_service says of the payment, unless something newer, or another payment, is known.

    `told` has the fields of a payment view or event; what it leaves out (the client secret) stays as it was. Returns the
    booking as it then is.
    """
    if told["generation"] != booking["generation"] or told["version"] < booking["payment_version"]:
        return booking
    known = dict(booking["payment"] or {})
    fresh = {name: value for name, value in told.items() if value is not None}
    merged = {**known, **fresh, "decline_class": told.get("decline_class"), "last_error": None}
    if merged == known:
        return booking
    booking = await reservations.change(tx, booking["id"], payment=merged, payment_version=told["version"])
    if notice := _worth_telling(booking, told):
        return await reservations.tell_guest(tx, booking["id"], notice) or booking
    return booking


def _worth_telling(booking: Booking, told: Mapping[str, Any]) -> Notice | None:
    """Say what the guest must hear of that happened at the bank or in Stripe's dashboard. It moves no seats.

    A refund of a booking that stands was nobody's here: whoever cancels moves the booking first.
    """
    match told["status"]:
        case PaymentStatus.DISPUTED:
            return Notice.PAYMENT_DISPUTED
        case PaymentStatus.DISPUTE_LOST:
            return Notice.DISPUTE_LOST
        case PaymentStatus.REFUNDED if booking["status"] == BookingStatus.CONFIRMED:
            return Notice.REFUNDED_BY_HAND
        case _:
            return None


async def next_generation(tx: Connection, booking: Booking) -> Booking:
    """Let a booking have another payment, its old one being over for good: nothing that was known of it is kept."""
    return await reservations.forget_payment(tx, booking["id"], generation=booking["generation"] + 1)


async def note_setup_trouble(
    tx: Connection, booking: Booking, *, sent: bool, code: str, detail: str, retry_after_ms: int | None = None
) -> None:
    """Remember that the payment could not be set up, so that convert can say so; nothing is known to be wrong if sent."""
    status = payment_status(booking) if sent else PaymentStatus.SETUP_FAILED
    if status in {PaymentStatus.NONE, PaymentStatus.SETUP_FAILED}:
        wait = {} if retry_after_ms is None else {"retry_after_ms": retry_after_ms}
        error = {"code": code, "detail": detail, **wait}
        payment = {**(booking["payment"] or {}), "status": status, "last_error": error}
        await reservations.change(tx, booking["id"], payment=payment)


async def confirm(tx: Connection, booking: Booking) -> Booking:
    """Make the booking final; cannot be refused, because its seats are pinned. Returns it as it then is."""
    if booking["status"] == BookingStatus.CONFIRMED:
        return booking
    return await reservations.move(tx, booking, BookingStatus.CONFIRMED, reason="paid", confirmed_at=NOW)


async def give_up(tx: Connection, booking: Booking, *, asked: bool, reason: str) -> Booking:
    """End a booking that never became final, and give its seats back at once. Returns it as it then is."""
    if booking["status"] not in {BookingStatus.PENDING, BookingStatus.NEEDS_ATTENTION}:
        return booking
    target, values = (BookingStatus.CANCELLED, {"cancelled_at": NOW}) if asked else (BookingStatus.FAILED, {})
    return await reservations.move(tx, booking, target, reason=reason, failure_reason=reason, **values)


async def cancel(tx: Connection, booking: Booking, *, reason: str) -> Booking:
    """Take back a confirmed booking; its seats can be sold again at once, and what goes back is fixed with that."""
    if booking["status"] != BookingStatus.CONFIRMED:
        return booking
    return await reservations.move(
        tx,
        booking,
        BookingStatus.CANCELLED,
        reason=reason,
        cancelled_at=NOW,
        refund_due_minor=refund_due_minor(booking, captured_minor=booking["total_minor"]),
    )


def refund_due_minor(booking: Booking, *, captured_minor: int) -> int:
    """Return how much of what was captured goes back in all: what the terms gave, and without them everything."""
    due = booking["refund_due_minor"]
    return captured_minor if due is None else min(int(due), captured_minor)


def is_money_missing(booking: Booking) -> bool:
    """Tell whether the payment holds money that this ended booking owes its guest, as far as was last told."""
    told = booking["payment"] or {}
    captured = int(told.get("captured", 0))
    owed = refund_due_minor(booking, captured_minor=captured) - int(told.get("refunded", 0))
    return pays_by_card(booking) and owed > 0


async def ask_for_attention(tx: Connection, booking: Booking, reason: str) -> None:
    """Hand a booking to an operator, its seats as they are."""
    if booking["status"] == BookingStatus.PENDING:
        await reservations.move(tx, booking, BookingStatus.NEEDS_ATTENTION, reason=reason, failure_reason=reason)


async def hand_back(tx: Connection, booking: Booking) -> None:
    """Give a booking that an operator has looked at back to its saga, if it still has its seats."""
    if booking["status"] == BookingStatus.NEEDS_ATTENTION and booking["seats_pinned"]:
        await reservations.move(tx, booking, BookingStatus.PENDING, reason="operator", failure_reason=None)


async def vouch(tx: Connection, booking: Booking, outcome: BookingStatus) -> None:
    """End a booking the way an operator vouches for."""
    values = {"confirmed_at": NOW} if outcome is BookingStatus.CONFIRMED else {}
    reason = None if outcome is BookingStatus.CONFIRMED else "operator"
    await reservations.move(tx, booking, outcome, reason="operator", failure_reason=reason, **values)


def whose(caller: Caller, reservation_id: UUID) -> str | None:
    """Return whose a booking has to be for this caller to see it; None when the token was given out for this very one.

    Raises ReservationNotFound for every other one: like what does not exist.
    """
    if caller.bound_to is None:
        return caller.subject
    if caller.bound_to != str(reservation_id):
        raise ReservationNotFound
    return None


async def read_reservation(database: Database, caller: Caller, reservation_id: UUID) -> Booking:
    """Return a caller's own reservation. Raises ReservationNotFound also for a hold that was never converted."""
    async with database.reading() as connection:
        booking = await reservations.booking(connection, reservation_id, caller=whose(caller, reservation_id))
    if booking is None or booking["status"] not in CONVERTED:
        raise ReservationNotFound
    return booking
