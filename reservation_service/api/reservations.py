"""Reservations: a customer's own bookings, from convert on, and what taking one back costs and does."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response

from reservation_service.api.answers import (
    client_has,
    json_answer,
    quote_view,
    reservation_view,
    time_left,
    versions_wanted,
)
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import CancelBody, CancellationQuoteView, ReservationView
from reservation_service.booking import reservations as bookings
from reservation_service.booking.cancelling import CancelRequest, read_quote
from reservation_service.errors import (
    InvalidReservationStatus,
    OutsideCancellationWindow,
    RateLimited,
    ReservationNotFound,
    VersionConflict,
)
from reservation_service.states import CONVERTED, CancelledBy
from reservation_service.store import reservations
from shared.bodies import parse_id
from shared.door import ListView, TheBearer, TheCaller, TheKey, ThePage, list_of
from shared.idempotency import fingerprint
from shared.problems import (
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    MalformedJson,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    ValidationFailed,
    problem_responses,
)

router = APIRouter(tags=["reservations"], responses=problem_responses(RateLimited))

_BODY = (MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed)
_KEY = (IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyKeyReused)
_UNDER_WAY = "Asked for, and not over yet: a pending booking is being unwound, or money is on its way back."


def _reservation_id(text: str) -> UUID:
    wanted = parse_id(text)
    if wanted is None:
        raise ReservationNotFound
    return wanted


@router.get(
    "/v1/reservations",
    operation_id="listReservations",
    response_model=ListView[ReservationView],
    responses=problem_responses(Unauthenticated, ValidationFailed),
)
async def list_reservations(parts: TheParts, caller: TheCaller, page: ThePage) -> Response:
    """List the caller's reservations, newest first."""
    async with parts.database.reading() as connection:
        rows = await reservations.page(
            connection, caller=caller.subject, statuses=sorted(CONVERTED), limit=page.limit + 1, after=page.after
        )
    return json_answer(list_of(ReservationView, [reservation_view(row) for row in rows], page.limit))


@router.get(
    "/v1/reservations/{reservation_id}",
    operation_id="getReservation",
    response_model=ReservationView,
    responses=problem_responses(Unauthenticated, ReservationNotFound),
)
async def get_reservation(request: Request, parts: TheParts, caller: TheBearer, reservation_id: str) -> Response:
    """Show a reservation; its ETag is its version."""
    booking = await bookings.read_reservation(parts.database, caller, _reservation_id(reservation_id))
    headers = {"ETag": f'"{booking["version"]}"', **time_left(booking)}
    if client_has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_answer(reservation_view(booking, with_secret=caller.bound_to is None), headers=headers)


@router.get(
    "/v1/reservations/{reservation_id}/cancellation-quote",
    operation_id="quoteCancellation",
    response_model=CancellationQuoteView,
    responses=problem_responses(Unauthenticated, ReservationNotFound, InvalidReservationStatus),
)
async def quote_cancellation(parts: TheParts, caller: TheBearer, reservation_id: str) -> Response:
    """Say what cancelling now would give back; nothing changes. Quote and cancel judge by the same terms and clock."""
    wanted = _reservation_id(reservation_id)
    quote = await read_quote(parts.database, wanted, caller=bookings.whose(caller, wanted))
    return json_answer(quote_view(quote), headers={"ETag": f'"{quote.booking["version"]}"'})


@router.post(
    "/v1/reservations/{reservation_id}/cancel",
    operation_id="cancelReservation",
    response_model=ReservationView,
    responses=problem_responses(
        Unauthenticated, *_BODY, *_KEY, ReservationNotFound, InvalidReservationStatus, OutsideCancellationWindow,
        VersionConflict,
    )
    | {202: {"model": ReservationView, "description": _UNDER_WAY}},
)  # fmt: skip
async def cancel_reservation(
    request: Request,
    parts: TheParts,
    caller: TheBearer,
    key: TheKey,
    reservation_id: str,
    body: CancelBody | None = None,
    _documented: Annotated[
        str | None, Header(alias="If-Match", description="the ETag of what was seen; judged by the call that cancels")
    ] = None,
) -> Response:
    """Cancel a booking: its seats are free at once, and what its terms give back is refunded.

    The same call again is the only retry that a frontend needs: it drives the refund on and answers how it stands. 202
    while a pending booking is unwound or money is on its way back, 200 when all of it has arrived.
    """
    sent, booking_id = body.model_dump(mode="json", exclude_unset=True) if body else {}, _reservation_id(reservation_id)
    wanted = CancelRequest(
        reservation_id=booking_id,
        by=CancelledBy.GUEST,
        who=caller.subject,
        reason=body.reason if body else None,
        caller=bookings.whose(caller, booking_id),
        key=key,
        fingerprint=fingerprint("POST", request.scope["path"], sent),
        if_match=versions_wanted(request),
    )
    called_off = await parts.calling_off.cancel(wanted)
    headers = {"ETag": f'"{called_off.booking["version"]}"', **time_left(called_off.booking)}
    status = 202 if called_off.is_under_way else 200
    shown = reservation_view(called_off.booking, with_secret=caller.bound_to is None)
    return json_answer(shown, status=status, headers=headers)
