"""How rows become answers: one place that turns bookings, slots and sagas into the public shapes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from pydantic import BaseModel
from pydantic_core import to_json

from reservation_service.api import schemas
from reservation_service.booking.availability import selling_status
from reservation_service.booking.calendar import Calendar
from reservation_service.booking.cancelling import Quote
from reservation_service.booking.pricing import money
from reservation_service.booking.reservations import payment_status, pays_by_card, refund_due_minor
from reservation_service.states import BookingStatus
from reservation_service.store.reservations import Booking
from shared.database import Row
from shared.payment_contract import PaymentStatus
from shared.problems import ServiceUnavailable

_HOLD_STATUS = {
    BookingStatus.HELD: "active",
    BookingStatus.EXPIRED: "expired",
    BookingStatus.RELEASED: "released",
}
_TIMED = frozenset({BookingStatus.HELD, BookingStatus.PENDING})
_POLL_AFTER_MS = 800
_POLL_AFTER_MAX_MS = 5000  # a payment in doubt may be settled without us, by what Stripe tells
_SETUP_RETRY_AFTER_MS = 2000
# The same convert again sets a payment up: one that never came to be, or another one for one that was called off.
_SET_UP_AGAIN = {PaymentStatus.SETUP_FAILED, PaymentStatus.CANCELED}
_OVER = {"detail": "The payment was called off before any money came; the same call again sets up another."}


def json_answer(view: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Serialise a view the one way that it is ever serialised."""
    return sent_json(view.model_dump_json(), status=status, headers=headers)


def sent_json(document: str | bytes, *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a document that is JSON already."""
    return Response(document, status, dict(headers or {}), media_type="application/json")


def conditional_answer(request: Request, view: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    """Answer a GET with an ETag, or with 304 when the client has this very body."""
    answer = json_answer(view, headers=headers)
    etag = f'"{hashlib.blake2b(bytes(answer.body), digest_size=12).hexdigest()}"'
    answer.headers["ETag"] = etag
    if client_has(request, etag):
        return Response(status_code=304, headers={"ETag": etag, **(headers or {})})
    return answer


def public_answer(request: Request, view: BaseModel) -> Response:
    """Answer a GET that needs no token; a browser may keep it, but asks with If-None-Match before it shows it again."""
    return conditional_answer(request, view, {"Cache-Control": "no-cache"})


def client_has(request: Request, etag: str) -> bool:
    """Tell whether `If-None-Match`, which is a list of tags that may be weak, names this one."""
    known = _tags(request, "if-none-match")
    return etag in known or "*" in known


def versions_wanted(request: Request) -> frozenset[str] | None:
    """Return the versions that `If-Match` lets a change be made on, `*` for any; None when nothing was sent."""
    if "if-match" not in request.headers:
        return None
    return frozenset(tag.strip('"') for tag in _tags(request, "if-match"))


def _tags(request: Request, header: str) -> set[str]:
    sent = ",".join(request.headers.getlist(header))
    return {tag.strip().removeprefix("W/") for tag in sent.split(",")}


def experience_view(row: Mapping[str, Any], default_ttl_s: int) -> schemas.ExperienceView:
    return schemas.ExperienceView(
        **{name: row[name] for name in ("id", "title", "description", "time_zone", "currency", "max_party")},
        ticket_types=ticket_views(row["tickets"], row["currency"]),
        cancellation_policy=row["cancellation_policy"],
        hold_ttl_seconds=row["hold_ttl_seconds"] or default_ttl_s,
        cutoff_minutes=row["cutoff_minutes"],
    )


def ticket_views(tickets: Sequence[Mapping[str, Any]], currency: str) -> list[schemas.TicketTypeView]:
    """Show the ticket types that are sold."""
    return [schemas.TicketTypeView(**ticket_fields(ticket, currency)) for ticket in tickets if ticket["active"]]


def ticket_fields(ticket: Mapping[str, Any], currency: str) -> dict[str, Any]:
    known = {name: ticket[name] for name in ("id", "code", "title", "seats")}
    return known | {"price": schemas.Money(**money(ticket["price_minor"], currency))}


def calendar_view(experience_id: UUID, calendar: Calendar, *, with_slots: bool) -> schemas.CalendarView:
    price = calendar.price_from_minor
    zone = ZoneInfo(calendar.time_zone)
    days = [
        schemas.CalendarDayView(
            date=day.date,
            status=day.status,
            vacancies=day.vacancies,
            price_from=None if price is None else schemas.Money(**money(price, calendar.currency)),
            slots=[_day_slot_view(slot, zone) for slot in day.slots] if with_slots else None,
        )
        for day in calendar.days
    ]
    return schemas.CalendarView(experience_id=experience_id, time_zone=calendar.time_zone, days=days)


def _day_slot_view(slot: Row, zone: ZoneInfo) -> schemas.DaySlotView:
    return schemas.DaySlotView(
        id=slot["id"],
        starts_at=slot["starts_at"],
        local_start=slot["starts_at"].astimezone(zone).isoformat(),
        available=slot["available"],
        status=selling_status(slot),
    )


def slot_view(row: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]]) -> schemas.TimeSlotView:
    return schemas.TimeSlotView(
        **{name: row[name] for name in ("id", "experience_id", "starts_at", "ends_at", "time_zone", "capacity")},
        local_start=row["starts_at"].astimezone(ZoneInfo(row["time_zone"])).isoformat(),
        available=row["available"],
        status=selling_status(row),
        prices=ticket_views(tickets, row["currency"]),
    )


def hold_view(booking: Row, *, extensions_max: int, as_created: bool = False) -> schemas.HoldView:
    """Show a hold as it is, or, for a replay, exactly as it was when it was made."""
    return schemas.HoldView.model_validate(_hold_fields(booking, extensions_max, as_created=as_created))


def made_hold_json(booking: Row, *, extensions_max: int) -> bytes:
    """Serialise a hold from the values that it was just made of, which are in the order of the view.

    It is what a replay's view comes to, byte for byte; to validate our own values again takes longer than to write them.
    """
    return to_json(_hold_fields(booking, extensions_max, as_created=True))


def _hold_fields(booking: Row, extensions_max: int, *, as_created: bool) -> dict[str, Any]:
    status = _HOLD_STATUS.get(BookingStatus(booking["status"]), "converted")
    if status == "active" and booking["due"]:
        status = "expired"  # its seats are free already; the sweeper has only not come by yet
    extendable = status == "active" and booking["extensions"] < extensions_max
    return {
        "id": booking["id"],
        "status": "active" if as_created else status,
        "time_slot_id": booking["time_slot_id"],
        "items": booking["items"],
        "seats": booking["seats"],
        "price": booking["price"],
        "expires_at": booking["created_expires_at"] if as_created else booking["expires_at"],
        "extendable": extensions_max > 0 if as_created else extendable,
        "supersedes": booking["supersedes"],
        "client_reference": booking["client_reference"],
        # PostgreSQL keeps the members of a JSON object in an order of its own
        "metadata": None if booking["metadata"] is None else dict(sorted(booking["metadata"].items())),
    }


def time_left(booking: Row) -> dict[str, str]:
    """Say how long is left, as a duration: guests' clocks lie, and bodies replay byte for byte."""
    left_ms = max(0, int(float(booking["seconds_left"]) * 1000)) if booking["status"] in _TIMED else 0
    return {"Expires-In-Ms": str(left_ms)}


def reservation_view(booking: Booking, *, with_secret: bool = True, under_way: bool = False) -> schemas.ReservationView:
    """Show a booking; without the secret to pay with, nothing is left to do but to wait for whoever has it."""
    if not with_secret and booking["payment"]:
        booking = {**booking, "payment": {**booking["payment"], "client_secret": None}}
    pending = booking["status"] == BookingStatus.PENDING
    return schemas.ReservationView.model_validate(
        {
            "id": booking["id"],
            "reference": booking["reference"],
            "status": booking["status"],
            "time_slot_id": booking["time_slot_id"],
            "items": booking["items"],
            "seats": booking["seats"],
            "price": booking["price"],
            "customer": booking["customer"],
            "payment": payment_fields(booking),
            "notices": booking["notices"],
            "expires_at": booking["pay_until"] if pending else None,
            "version": booking["version"],
            "outcome": outcome(booking, under_way=under_way),
            "cancellation": cancellation_fields(booking),
        }
    )


def cancellation_fields(booking: Booking) -> dict[str, Any] | None:
    """Return who called a booking off and what goes back; None while nobody has."""
    asked = booking["cancellation"]
    if asked is None:
        return None
    told = booking["payment"] or {}
    captured_minor = told.get("captured", 0) if pays_by_card(booking) else booking["total_minor"]
    return {
        **asked,
        "requested_at": booking["cancel_requested_at"],
        "cancelled_at": booking["cancelled_at"],
        "refund": money(refund_due_minor(booking, captured_minor=captured_minor), booking["currency"]),
    }


def quote_view(quote: Quote) -> schemas.CancellationQuoteView:
    return schemas.CancellationQuoteView.model_validate(
        {
            "reservation_id": quote.booking["id"],
            "cancellable": quote.is_cancellable,
            "kind": quote.kind,
            "refund": money(quote.refund_minor, quote.booking["currency"]),
            "policy": quote.policy,
            "expires_at": quote.expires_at,
        }
    )


def payment_fields(booking: Booking, *, with_secret: bool = True) -> dict[str, Any]:
    """Return how the payment stands; the secret to pay with is the guest's alone."""
    told = booking["payment"] or {}
    payable = with_secret and _is_payable(booking)
    return {
        "status": payment_status(booking),
        "amount": money(booking["total_minor"], booking["currency"]),
        "captured": money(told.get("captured", 0), booking["currency"]),
        "refunded": money(told.get("refunded", 0), booking["currency"]),
        "client_secret": told.get("client_secret") if payable else None,
        "publishable_key": told.get("publishable_key") if payable else None,
        "last_error": _last_error(told),
    }


def _last_error(told: Mapping[str, Any]) -> dict[str, Any] | None:
    if told.get("decline_class"):
        return {"code": "PAYMENT_DECLINED", "detail": str(told["decline_class"])}
    error: dict[str, Any] | None = told.get("last_error")
    return error


def _poll_after_ms(told: Mapping[str, Any]) -> int:
    """Return when to ask again: hardly before the provider may be, or all who wait for it would ask and ask meanwhile."""
    said_ms = (told.get("last_error") or {}).get("retry_after_ms", _POLL_AFTER_MS)
    return max(_POLL_AFTER_MS, min(int(said_ms), _POLL_AFTER_MAX_MS))


def _is_payable(booking: Booking) -> bool:
    waiting = payment_status(booking) in {PaymentStatus.REQUIRES_PAYMENT, PaymentStatus.REQUIRES_ACTION}
    wanted = booking["status"] == BookingStatus.PENDING and booking["cancel_requested_at"] is None
    return wanted and waiting


def outcome(booking: Booking, *, under_way: bool = False) -> dict[str, Any]:
    """Say what a frontend does next; always 2xx, because the seats are pinned whatever the payment does.

    While a payment is being set up anew (`under_way`), the trouble that the last try met is no reason to stay away.
    """
    told = booking["payment"] or {}
    if booking["status"] == BookingStatus.CONFIRMED:
        return {"type": "succeeded"}
    if booking["status"] != BookingStatus.PENDING:
        return {"type": "closed", "status": booking["status"]}
    if payment_status(booking) in _SET_UP_AGAIN and booking["cancel_requested_at"] is None and not under_way:
        trouble = told.get("last_error") or _OVER
        wait_ms = int(trouble.get("retry_after_ms", _SETUP_RETRY_AFTER_MS))
        problem = ServiceUnavailable(str(trouble["detail"]), retry_after_ms=wait_ms).document()
        return {"type": "payment_setup_failed", "retry_after_ms": wait_ms, "error": problem}
    if not _is_payable(booking) or not told.get("client_secret"):
        return {"type": "processing", "poll_after_ms": _POLL_AFTER_MS if under_way else _poll_after_ms(told)}
    card = {"client_secret": told["client_secret"], "publishable_key": told.get("publishable_key")}
    if told.get("decline_class"):
        return {"type": "payment_declined", "decline_class": told["decline_class"], **card}
    return {"type": "action_required", "action": "confirm_payment", **card}
