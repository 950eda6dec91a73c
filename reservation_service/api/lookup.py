"""Guests who have lost their token find a booking again by what stands on its confirmation: its reference and their e-mail."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.api.guest_sessions import guest_token
from reservation_service.api.schemas import LookupBody, LookupView
from reservation_service.errors import RateLimited, ReservationNotFound
from reservation_service.store import reservations
from shared.problems import (
    MalformedJson,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    problem_responses,
)

router = APIRouter(tags=["reservations"], responses=problem_responses(RateLimited))


@router.post(
    "/v1/reservations/lookup",
    operation_id="lookUpReservation",
    response_model=LookupView,
    responses=problem_responses(
        MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed, ReservationNotFound
    ),
)
async def look_up_reservation(request: Request, parts: TheParts, body: LookupBody) -> Response:
    """Give whoever knows a booking's reference and its e-mail address a token for that booking, good for an hour.

    An unknown reference and a wrong address have the same answer, after the same work.
    """
    reference = body.reference.upper()
    await parts.rate_limits.admit_guess(request, reference)
    async with parts.database.reading() as connection:
        found = await reservations.id_by_reference(connection, reference=reference, email=body.email)
    if found is None:
        raise ReservationNotFound
    lasts = timedelta(minutes=parts.settings.lookup_token_minutes)
    token, expires_at = guest_token(parts, lasts=lasts, bound_to=found)
    return json_answer(LookupView(token=token, reservation_id=found, expires_at=expires_at))
