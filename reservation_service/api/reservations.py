"""Reservations: a customer's own bookings, from convert on."""

from fastapi import APIRouter, Request, Response

from reservation_service.api.answers import client_has, json_answer, reservation_view, time_left
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import ReservationView
from reservation_service.booking import reservations as bookings
from reservation_service.errors import RateLimited, ReservationNotFound
from reservation_service.states import CONVERTED
from reservation_service.store import reservations
from shared.bodies import parse_id
from shared.door import ListView, TheCaller, ThePage, list_of
from shared.problems import Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(tags=["reservations"], responses=problem_responses(RateLimited))


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
async def get_reservation(request: Request, parts: TheParts, caller: TheCaller, reservation_id: str) -> Response:
    """Show a reservation; its ETag is its version."""
    wanted = parse_id(reservation_id)
    if wanted is None:
        raise ReservationNotFound
    booking = await bookings.read_reservation(parts.database, caller, wanted)
    headers = {"ETag": f'"{booking["version"]}"', **time_left(booking)}
    if client_has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_answer(reservation_view(booking), headers=headers)
