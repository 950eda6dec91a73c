"""Every customer's holds and reservations, for operators: found by slot, status or e-mail, released and cancelled."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from reservation_service.api import admin_schemas
from reservation_service.api.admin_answers import admin_hold_view, admin_reservation_view
from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.booking.cancelling import CancelRequest
from reservation_service.errors import (
    HoldNotFound,
    InvalidHoldStatus,
    InvalidReservationStatus,
    OutsideCancellationWindow,
    ReservationNotFound,
)
from reservation_service.states import CONVERTED, BookingStatus, CancelledBy
from reservation_service.store import reservations
from shared.bodies import Id, ShortText, parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)

HoldStatus = Literal["active", "expired", "released", "converted"]
ReservationStatus = Literal["pending", "confirmed", "failed", "cancelled", "needs_attention"]
SlotFilter = Annotated[Id | None, Query()]

# Which rows are shown as such a hold, and whether they have lapsed (None: whether or not).
_HOLDS: dict[HoldStatus | None, tuple[list[str], bool | None]] = {
    None: (sorted(BookingStatus), None),
    "active": ([BookingStatus.HELD], False),
    "expired": ([BookingStatus.HELD, BookingStatus.EXPIRED], True),
    "released": ([BookingStatus.RELEASED], None),
    "converted": (sorted(CONVERTED), None),
}


@router.get(
    "/holds",
    operation_id="listAllHolds",
    response_model=ListView[admin_schemas.AdminHoldView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_holds(
    parts: TheParts,
    _by: TheViewer,
    page: ThePage,
    status: Annotated[HoldStatus | None, Query()] = None,
    time_slot_id: SlotFilter = None,
) -> Response:
    """List all customers' holds, newest first."""
    statuses, due = _HOLDS[status]
    async with parts.database.reading() as connection:
        rows = await reservations.page(
            connection, statuses=statuses, due=due, time_slot_id=time_slot_id, limit=page.limit + 1, after=page.after
        )
    views = [admin_hold_view(row, extensions_max=parts.settings.hold_extensions_max) for row in rows]
    return json_answer(list_of(admin_schemas.AdminHoldView, views, page.limit))


@router.get(
    "/holds/{hold_id}",
    operation_id="getAnyHold",
    response_model=admin_schemas.AdminHoldView,
    responses=problem_responses(*_ROLE, HoldNotFound),
)
async def get_hold(parts: TheParts, _by: TheViewer, hold_id: str) -> Response:
    """Show any customer's hold."""
    wanted = parse_id(hold_id)
    async with parts.database.reading() as connection:
        booking = await reservations.booking(connection, wanted) if wanted else None
    if booking is None:
        raise HoldNotFound
    return json_answer(admin_hold_view(booking, extensions_max=parts.settings.hold_extensions_max))


@router.post(
    "/holds/{hold_id}/release",
    operation_id="releaseAnyHold",
    response_model=admin_schemas.AdminHoldView,
    responses=problem_responses(*_ROLE, *_BODY, HoldNotFound, InvalidHoldStatus),
)
async def release_hold(parts: TheParts, by: TheOperator, hold_id: str, body: admin_schemas.ReleaseHoldBody) -> Response:
    """Take a customer's hold back, its seats at once; repeating it changes nothing."""
    wanted = parse_id(hold_id)
    if wanted is None:
        raise HoldNotFound
    booking = await parts.holds.release_by_operator(wanted, Act(by.subject, "releaseAnyHold", body.reason))
    return json_answer(admin_hold_view(booking, extensions_max=parts.settings.hold_extensions_max))


@router.get(
    "/reservations",
    operation_id="listAllReservations",
    response_model=ListView[admin_schemas.AdminReservationView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_reservations(
    parts: TheParts,
    _by: TheViewer,
    page: ThePage,
    status: Annotated[ReservationStatus | None, Query()] = None,
    time_slot_id: SlotFilter = None,
    email: Annotated[ShortText | None, Query(description="in upper or lower case")] = None,
    reference: Annotated[ShortText | None, Query(description="as the guest has it")] = None,
) -> Response:
    """List all customers' reservations, newest first."""
    async with parts.database.reading() as connection:
        rows = await reservations.page(
            connection,
            statuses=[status] if status else sorted(CONVERTED),
            time_slot_id=time_slot_id,
            email=email,
            reference=reference,
            limit=page.limit + 1,
            after=page.after,
        )
    views = [admin_reservation_view(row) for row in rows]
    return json_answer(list_of(admin_schemas.AdminReservationView, views, page.limit))


@router.get(
    "/reservations/{reservation_id}",
    operation_id="getAnyReservation",
    response_model=admin_schemas.AdminReservationView,
    responses=problem_responses(*_ROLE, ReservationNotFound),
)
async def get_reservation(parts: TheParts, _by: TheViewer, reservation_id: str) -> Response:
    """Show any customer's reservation, without the secret that it is paid with."""
    wanted: UUID | None = parse_id(reservation_id)
    async with parts.database.reading() as connection:
        booking = await reservations.booking(connection, wanted) if wanted else None
    if booking is None or booking["status"] not in CONVERTED:
        raise ReservationNotFound
    return json_answer(admin_reservation_view(booking))


@router.post(
    "/reservations/{reservation_id}/cancel",
    operation_id="cancelAnyReservation",
    response_model=admin_schemas.AdminReservationView,
    responses=problem_responses(
        *_ROLE, *_BODY, ReservationNotFound, InvalidReservationStatus, OutsideCancellationWindow
    )
    | {202: {"model": admin_schemas.AdminReservationView, "description": "Asked for, and not over yet."}},
)
async def cancel_reservation(
    parts: TheParts, by: TheOperator, reservation_id: str, body: admin_schemas.CancelForGuestBody
) -> Response:
    """Cancel a customer's booking, by its terms or, with `waive_policy`, with everything back at any time.

    Repeating it drives the refund on; what was decided by the first call stays.
    """
    wanted = parse_id(reservation_id)
    if wanted is None:
        raise ReservationNotFound
    called_off = await parts.calling_off.cancel(
        CancelRequest(
            reservation_id=wanted,
            by=CancelledBy.OPERATOR,
            who=by.subject,
            reason=body.reason,
            waives_terms=body.waive_policy,
            act=Act(by.subject, "cancelAnyReservation", body.reason),
        )
    )
    status = 202 if called_off.is_under_way else 200
    return json_answer(admin_reservation_view(called_off.booking), status=status)
