"""The life of departures in operators' hands: looked at, added, changed, closed, cancelled for good."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from reservation_service.api import admin_schemas
from reservation_service.api.admin_answers import admin_slot_view, cancellation_view
from reservation_service.api.answers import json_answer, slot_view
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.schemas import TimeSlotView
from reservation_service.booking import time_slots as departures
from reservation_service.booking.slot_cancellation import read_progress
from reservation_service.errors import (
    CancellationNotFound,
    CapacityBelowTaken,
    ExperienceNotFound,
    SlotClosed,
    TimeSlotNotFound,
)
from reservation_service.store import catalogue
from shared.bodies import Id, Instant, parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/time-slots", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)
_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _slot_id(text: str) -> UUID:
    wanted = parse_id(text)
    if wanted is None:
        raise TimeSlotNotFound
    return wanted


@router.get(
    "",
    operation_id="listAllTimeSlots",
    response_model=ListView[admin_schemas.AdminTimeSlotView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_time_slots(
    parts: TheParts,
    _by: TheViewer,
    page: ThePage,
    experience_id: Annotated[Id | None, Query()] = None,
    after: Annotated[Instant | None, Query(alias="from", description="the earliest start, RFC 3339")] = None,
    before: Annotated[Instant | None, Query(alias="to", description="starts are before this instant")] = None,
) -> Response:
    """List slots by start, with what is taken of them; all of them unless a time is given."""
    async with parts.database.reading() as connection:
        rows = await catalogue.slot_page(
            connection,
            experience_id=experience_id,
            between=(after or _ALWAYS[0], before or _ALWAYS[1]),
            limit=page.limit + 1,
            after=page.after,
        )
    views = [admin_slot_view(dict(row)) for row in rows]
    return json_answer(list_of(admin_schemas.AdminTimeSlotView, views, page.limit))


@router.get(
    "/{time_slot_id}",
    operation_id="getAnyTimeSlot",
    response_model=admin_schemas.AdminTimeSlotView,
    responses=problem_responses(*_ROLE, TimeSlotNotFound),
)
async def get_time_slot(parts: TheParts, _by: TheViewer, time_slot_id: str) -> Response:
    """Show a slot with what is taken of it."""
    async with parts.database.reading() as connection:
        row = await catalogue.time_slot(connection, _slot_id(time_slot_id))
    if row is None:
        raise TimeSlotNotFound
    return json_answer(admin_slot_view(dict(row)))


@router.post(
    "",
    status_code=201,
    operation_id="addTimeSlot",
    response_model=TimeSlotView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound),
)
async def add_time_slot(parts: TheParts, by: TheOperator, body: admin_schemas.CreateTimeSlotBody) -> Response:
    """Add a departure of an experience."""
    slot_id = await departures.add_time_slot(
        parts.database,
        body.experience_id,
        starts_at=body.starts_at,
        ends_at=body.ends_at,
        capacity=body.capacity,
        act=Act(by.subject, "addTimeSlot"),
    )
    return json_answer(await _slot_view(parts, slot_id), status=201)


@router.patch(
    "/{time_slot_id}",
    operation_id="changeTimeSlot",
    response_model=TimeSlotView,
    responses=problem_responses(*_ROLE, *_BODY, TimeSlotNotFound, CapacityBelowTaken, SlotClosed),
)
async def change_time_slot(
    parts: TheParts, by: TheOperator, time_slot_id: str, body: admin_schemas.ChangeTimeSlotBody
) -> Response:
    """Change a slot's capacity (never below what is taken), close it for sale, open it again, or cancel it for good.

    Cancelling ends sales with this answer; holds are released and pending bookings unwound after it.
    """
    wanted = _slot_id(time_slot_id)
    await departures.change_time_slot(
        parts.database,
        wanted,
        capacity=body.capacity,
        status=body.status,
        act=Act(by.subject, "changeTimeSlot", body.reason),
    )
    return json_answer(await _slot_view(parts, wanted))


@router.get(
    "/{time_slot_id}/cancellation",
    operation_id="getSlotCancellation",
    response_model=admin_schemas.SlotCancellationView,
    responses=problem_responses(*_ROLE, CancellationNotFound),
)
async def get_cancellation(parts: TheParts, _by: TheViewer, time_slot_id: str) -> Response:
    """Show how far the cancellation of a slot has come."""
    wanted = parse_id(time_slot_id)
    if wanted is None:
        raise CancellationNotFound
    return json_answer(cancellation_view(wanted, await read_progress(parts.database, wanted)))


async def _slot_view(parts: Parts, slot_id: UUID) -> TimeSlotView:
    async with parts.database.reading() as connection:
        row = await catalogue.time_slot(connection, slot_id)
        sold = await catalogue.experience(connection, row["experience_id"]) if row else None
    if row is None or sold is None:
        raise TimeSlotNotFound
    return slot_view(dict(row), sold["tickets"])
