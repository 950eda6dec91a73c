"""What operators may see and do; every path asks for a role, and a guest's token never has one."""

from uuid import UUID

from fastapi import APIRouter, Response

from reservation_service.api import admin_schemas
from reservation_service.api.answers import experience_view, json_answer, slot_view
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.schemas import ExperienceView, TimeSlotView
from reservation_service.booking import catalogue as selling
from reservation_service.errors import (
    CapacityBelowTaken,
    ExperienceNotFound,
    SlotClosed,
    TimeSlotNotFound,
)
from reservation_service.store import catalogue
from shared.bodies import parse_id
from shared.door import TheOperator
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)


@router.post(
    "/experiences",
    status_code=201,
    operation_id="addExperience",
    response_model=ExperienceView,
    responses=problem_responses(*_ROLE, *_BODY),
)
async def add_experience(parts: TheParts, _by: TheOperator, body: admin_schemas.CreateExperienceBody) -> Response:
    """Add something to sell. Without a cancellation policy, cancelling is free until the slot starts."""
    experience = body.model_dump(mode="json", exclude={"ticket_types"})
    tickets = [
        {"code": ticket.code, "title": ticket.title, "seats": ticket.seats}
        | {"price_minor": ticket.price.amount, "currency": ticket.price.currency}
        for ticket in body.ticket_types
    ]
    added = await selling.add_experience(parts.database, experience, tickets)
    return json_answer(experience_view(added, parts.settings.hold_ttl_seconds), status=201)


@router.post(
    "/time-slots",
    status_code=201,
    operation_id="addTimeSlot",
    response_model=TimeSlotView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound),
)
async def add_time_slot(parts: TheParts, _by: TheOperator, body: admin_schemas.CreateTimeSlotBody) -> Response:
    """Add a departure of an experience."""
    slot_id = await selling.add_time_slot(
        parts.database,
        body.experience_id,
        starts_at=body.starts_at,
        ends_at=body.ends_at,
        capacity=body.capacity,
    )
    return json_answer(await _slot_view(parts, slot_id), status=201)


@router.patch(
    "/time-slots/{time_slot_id}",
    operation_id="changeTimeSlot",
    response_model=TimeSlotView,
    responses=problem_responses(*_ROLE, *_BODY, TimeSlotNotFound, CapacityBelowTaken, SlotClosed),
)
async def change_time_slot(
    parts: TheParts, _by: TheOperator, time_slot_id: str, body: admin_schemas.ChangeTimeSlotBody
) -> Response:
    """Change a slot's capacity (never below what is taken), close it for sale, or open it again."""
    wanted = parse_id(time_slot_id)
    if wanted is None:
        raise TimeSlotNotFound
    await selling.change_time_slot(parts.database, wanted, capacity=body.capacity, status=body.status)
    return json_answer(await _slot_view(parts, wanted))


async def _slot_view(parts: Parts, slot_id: UUID) -> TimeSlotView:
    async with parts.database.reading() as connection:
        row = await catalogue.time_slot(connection, slot_id)
        sold = await catalogue.experience(connection, row["experience_id"]) if row else None
    if row is None or sold is None:
        raise TimeSlotNotFound
    return slot_view(dict(row), sold["tickets"])
