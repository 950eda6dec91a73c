"""A booking's story: for its guest, and in full for operators."""

from fastapi import APIRouter, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.timeline_schemas import (
    MomentView,
    OperatorsMomentView,
    OperatorsTimelineView,
    TimelineView,
)
from reservation_service.booking import reservations as bookings
from reservation_service.booking.timeline import LOCK, Story
from reservation_service.errors import RateLimited, ReservationNotFound
from reservation_service.states import CONVERTED
from reservation_service.store import reservations
from shared.bodies import parse_id
from shared.door import TheBearer, TheViewer
from shared.problems import Forbidden, Unauthenticated, problem_responses

router = APIRouter(tags=["reservations"])


@router.get(
    "/v1/reservations/{reservation_id}/timeline",
    operation_id="getReservationTimeline",
    response_model=TimelineView,
    responses=problem_responses(Unauthenticated, ReservationNotFound, RateLimited),
)
async def get_timeline(parts: TheParts, caller: TheBearer, reservation_id: str) -> Response:
    """Tell what happened to a reservation in both services, oldest first; nobody's name and no bank's words in it."""
    wanted = parse_id(reservation_id)
    if wanted is None:
        raise ReservationNotFound
    story = await parts.timelines.of(await bookings.read_reservation(parts.database, caller, wanted))
    lines = [
        MomentView(at=one.at, service=one.service, kind=one.kind, what=one.what)
        for one in story.moments
        if one.kind != LOCK
    ]
    return json_answer(TimelineView(data=lines, partial=story.partial))


@router.get(
    "/admin/v1/reservations/{reservation_id}/timeline",
    operation_id="getAnyReservationTimeline",
    response_model=OperatorsTimelineView,
    responses=problem_responses(Unauthenticated, Forbidden, ReservationNotFound),
    tags=["admin"],
)
async def get_any_timeline(parts: TheParts, _by: TheViewer, reservation_id: str) -> Response:
    """Tell what happened to any customer's reservation, with reasons, codes, lock waits, operators and trace ids."""
    story = await _any_story(parts, reservation_id)
    lines = [OperatorsMomentView.model_validate(vars(one)) for one in story.moments]
    return json_answer(OperatorsTimelineView(data=lines, partial=story.partial))


async def _any_story(parts: Parts, reservation_id: str) -> Story:
    wanted = parse_id(reservation_id)
    async with parts.database.reading() as connection:
        booking = await reservations.booking(connection, wanted) if wanted else None
    if booking is None or booking["status"] not in CONVERTED:
        raise ReservationNotFound
    return await parts.timelines.of(booking)
