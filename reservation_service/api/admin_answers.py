"""How rows become answers for operators: with what guests do not see, and without what is the guest's alone."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from reservation_service.api import admin_schemas, saga_schemas
from reservation_service.api.answers import (
    cancellation_fields,
    experience_view,
    hold_view,
    payment_fields,
    ticket_fields,
)
from reservation_service.booking.availability import selling_status
from reservation_service.booking.pricing import money
from reservation_service.booking.reservations import payment_status
from reservation_service.booking.slot_cancellation import Progress
from reservation_service.saga.desk import Explanation, possible
from reservation_service.states import BookingStatus
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Row


def admin_experience_view(row: Mapping[str, Any], default_ttl_s: int) -> admin_schemas.AdminExperienceView:
    shown = experience_view(row, default_ttl_s).model_dump(exclude={"ticket_types"})
    known = {name: row[name] for name in ("capture_method", "late_payment_policy", "created_at")}
    tickets = [admin_ticket_view(ticket, row["currency"]) for ticket in row["tickets"]]
    return admin_schemas.AdminExperienceView(**shown, **known, ticket_types=tickets)


def admin_ticket_view(ticket: Mapping[str, Any], currency: str) -> admin_schemas.AdminTicketTypeView:
    return admin_schemas.AdminTicketTypeView(**ticket_fields(ticket, currency), active=ticket["active"])


def admin_slot_view(row: Mapping[str, Any]) -> admin_schemas.AdminTimeSlotView:
    names = ("id", "experience_id", "starts_at", "ends_at", "sells_until", "time_zone", "capacity", "taken", "version")
    return admin_schemas.AdminTimeSlotView(
        **{name: row[name] for name in (*names, "available", "created_at")},
        local_start=row["starts_at"].astimezone(ZoneInfo(row["time_zone"])).isoformat(),
        status=selling_status(row),
    )


def cancellation_view(slot_id: UUID, progress: Progress) -> admin_schemas.SlotCancellationView:
    return admin_schemas.SlotCancellationView(time_slot_id=slot_id, **vars(progress))


def admin_hold_view(booking: Booking, *, extensions_max: int) -> admin_schemas.AdminHoldView:
    shown = hold_view(booking, extensions_max=extensions_max).model_dump()
    known = {name: booking[name] for name in ("caller", "created_at", "released_by", "extensions")}
    return admin_schemas.AdminHoldView(**shown, **known)


def admin_reservation_view(booking: Booking) -> admin_schemas.AdminReservationView:
    names = ("id", "reference", "status", "time_slot_id", "items", "seats", "price", "customer", "version", "caller")
    more = ("created_at", "payment_mode", "confirmed_at", "cancel_requested_at", "failure_reason")
    pending = booking["status"] == BookingStatus.PENDING
    return admin_schemas.AdminReservationView.model_validate(
        {name: booking[name] for name in names + more}
        | {
            "payment": payment_fields(booking, with_secret=False),
            "expires_at": booking["pay_until"] if pending else None,
            "cancellation": cancellation_fields(booking),
        }
    )


_OF_SAGA = ("id", "reservation_id", "status", "reason", "attempts", "lease_until", "due_at")
_MORE_OF_SAGA = ("created_at", "generation", "unwinding_because", "lease_epoch")
_OF_STEP = ("step", "direction", "event", "at", "detail", "epoch")
_OF_BOOKING = ("reference", "status", "seats", "seats_pinned", "pay_until", "failure_reason")


def saga_view(row: SagaRow, lines: Sequence[Row]) -> saga_schemas.SagaView:
    return saga_schemas.SagaView.model_validate(_saga(row, lines))


def _saga(row: SagaRow, lines: Sequence[Row]) -> dict[str, Any]:
    steps = [{name: line[name] for name in _OF_STEP} for line in lines]
    shown = {name: row[name] for name in (*_OF_SAGA, *_MORE_OF_SAGA)}
    return {**shown, "steps": steps, "operator_can": [str(verb) for verb in possible(row)]}


def explained_saga_view(told: Explanation) -> saga_schemas.ExplainedSagaView:
    booking = {name: told.booking[name] for name in _OF_BOOKING}
    booking |= {
        "total": money(told.booking["total_minor"], told.booking["currency"]),
        "payment_status": payment_status(told.booking),
    }
    explained = {"now": told.saga["now"], "waits_for": told.waits_for, "booking": booking}
    return saga_schemas.ExplainedSagaView.model_validate(_saga(told.saga, told.lines) | explained)
