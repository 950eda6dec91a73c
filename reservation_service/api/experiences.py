"""The public catalogue: what is sold."""

from fastapi import APIRouter, Request, Response

from reservation_service.api.answers import conditional_answer, experience_view
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import ExperienceView
from reservation_service.errors import ExperienceNotFound, RateLimited
from reservation_service.store import catalogue
from shared.bodies import parse_id
from shared.door import ListView, ThePage, list_of
from shared.problems import ValidationFailed, problem_responses

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
    return conditional_answer(request, list_of(ExperienceView, views, page.limit))


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
    return conditional_answer(request, experience_view(row, parts.settings.hold_ttl_seconds))
