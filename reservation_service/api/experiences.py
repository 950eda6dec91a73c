"""The public catalogue: what is sold."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator

from reservation_service.api.answers import calendar_view, experience_view, public_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import CalendarView, ExperienceView
from reservation_service.booking.calendar import DAYS_MAX, read_calendar
from reservation_service.errors import ExperienceNotFound, InvalidDateRange, RateLimited
from reservation_service.store import catalogue
from shared.bodies import parse_id
from shared.door import ListView, ThePage, list_of
from shared.problems import ValidationFailed, problem_responses


def _iso_date(text: object) -> object:
    """A number would be read as seconds since 1970, which nobody means."""
    if isinstance(text, str) and not (len(text) == 10 and text[4] == text[7] == "-"):
        raise ValueError("must be an ISO date")
    return text


IsoDate = Annotated[date, BeforeValidator(_iso_date)]

router = APIRouter(tags=["catalogue"], responses=problem_responses(RateLimited))


@router.get(
    "/v1/experiences",
    operation_id="listExperiences",
    response_model=ListView[ExperienceView],
    responses=problem_responses(ValidationFailed),
)
async def list_experiences(request: Request, parts: TheParts, page: ThePage) -> Response:
    """List experiences, oldest first."""
    async with parts.database.reading() as connection:
        rows = await catalogue.experience_page(connection, limit=page.limit + 1, after=page.after)
    views = [experience_view(row, parts.settings.hold_ttl_seconds) for row in rows]
    return public_answer(request, list_of(ExperienceView, views, page.limit))


@router.get(
    "/v1/experiences/{experience_id}",
    operation_id="getExperience",
    response_model=ExperienceView,
    responses=problem_responses(ExperienceNotFound),
)
async def get_experience(request: Request, parts: TheParts, experience_id: str) -> Response:
    """Show one experience with its ticket types and terms."""
    wanted = parse_id(experience_id)
    if wanted is None:
        raise ExperienceNotFound
    async with parts.database.reading() as connection:
        row = await catalogue.experience(connection, wanted)
    if row is None:
        raise ExperienceNotFound
    return public_answer(request, experience_view(row, parts.settings.hold_ttl_seconds))


@router.get(
    "/v1/experiences/{experience_id}/calendar",
    operation_id="getCalendar",
    response_model=CalendarView,
    responses=problem_responses(ExperienceNotFound, ValidationFailed, InvalidDateRange),
)
async def get_calendar(
    request: Request,
    parts: TheParts,
    experience_id: str,
    first: Annotated[IsoDate, Query(alias="from", description="a day in the experience's time zone")],
    last: Annotated[IsoDate, Query(alias="to", description=f"the last day, at most {DAYS_MAX} with the first")],
    seats: Annotated[int, Query(ge=1, le=1000, description="how many seats one slot must have free")] = 1,
    slots: Annotated[bool, Query(description="list each day's slots, too")] = False,
) -> Response:
    """Show for each local day whether a party still finds a slot, and from which price."""
    wanted = parse_id(experience_id)
    if wanted is None:
        raise ExperienceNotFound
    calendar = await read_calendar(parts.database, wanted, first, last, seats=seats)
    return public_answer(request, calendar_view(wanted, calendar, with_slots=slots))
