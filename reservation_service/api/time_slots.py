"""Departures and how many seats are free; seats of holds whose time is over count as free."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from reservation_service.api.answers import public_answer, slot_view
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import TimeSlotView
from reservation_service.errors import ExperienceNotFound, RateLimited, TimeSlotNotFound
from reservation_service.store import catalogue
from shared.bodies import parse_id
from shared.database import Connection
from shared.door import ListView, ThePage, list_of
from shared.problems import ValidationFailed, problem_responses

router = APIRouter(tags=["catalogue"], responses=problem_responses(RateLimited))


@router.get(
    "/v1/time-slots",
    operation_id="listTimeSlots",
    response_model=ListView[TimeSlotView],
    responses=problem_responses(ValidationFailed, ExperienceNotFound),
)
async def list_time_slots(
    request: Request,
    parts: TheParts,
    page: ThePage,
    experience_id: str,
    day: Annotated[date | None, Query(alias="date", description="a day in the experience's time zone")] = None,
) -> Response:
    """List an experience's slots by start, of one day or from now on."""
    wanted = parse_id(experience_id)
    async with parts.database.reading() as connection:
        sold = await catalogue.experience(connection, wanted) if wanted else None
        if wanted is None or sold is None:
            raise ExperienceNotFound
        rows = await catalogue.slot_page(
            connection,
            experience_id=wanted,
            between=_bounds(day, sold["time_zone"], parts.clock.now()),
            limit=page.limit + 1,
            after=page.after,
        )
    views = [slot_view(dict(row), sold["tickets"]) for row in rows]
    return public_answer(request, list_of(TimeSlotView, views, page.limit))


def _bounds(day: date | None, time_zone: str, now: datetime) -> tuple[datetime, datetime]:
    """Return the instants between which a local day lies (23 or 25 hours apart when clocks change)."""
    if day is None:
        return now, datetime.max.replace(tzinfo=UTC)
    zone = ZoneInfo(time_zone)
    try:
        ends = (datetime.combine(day + timedelta(days=1), time(), zone)).astimezone(UTC)
        return datetime.combine(day, time(), zone).astimezone(UTC), ends
    except OverflowError as error:
        raise ValidationFailed("The date is out of range.") from error


@router.get(
    "/v1/time-slots/{time_slot_id}",
    operation_id="getTimeSlot",
    response_model=TimeSlotView,
    responses=problem_responses(TimeSlotNotFound),
)
async def get_time_slot(request: Request, parts: TheParts, time_slot_id: str) -> Response:
    """Show one slot; ask again with If-None-Match to learn cheaply whether anything changed."""
    wanted = parse_id(time_slot_id)
    async with parts.database.reading() as connection:
        found = await _slot(connection, wanted) if wanted else None
    if found is None:
        raise TimeSlotNotFound
    row, tickets = found
    return public_answer(request, slot_view(row, tickets))


async def _slot(
    connection: Connection, time_slot_id: UUID
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]] | None:
    row = await catalogue.time_slot(connection, time_slot_id)
    if row is None:
        return None
    sold = await catalogue.experience(connection, row["experience_id"])
    return (dict(row), sold["tickets"]) if sold else None
