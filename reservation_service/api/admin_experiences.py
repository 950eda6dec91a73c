"""What operators sell: experiences and their ticket types, looked at, added and changed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from reservation_service.api import admin_schemas
from reservation_service.api.admin_answers import admin_experience_view, admin_ticket_view
from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.booking import catalogue as selling
from reservation_service.errors import ExperienceNotFound, TermsFixed, TicketCodeTaken, TicketTypeNotFound
from reservation_service.store import catalogue
from shared.bodies import parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/experiences", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)


def _experience_id(text: str) -> UUID:
    wanted = parse_id(text)
    if wanted is None:
        raise ExperienceNotFound
    return wanted


def _view(parts: Parts, row: Mapping[str, Any]) -> admin_schemas.AdminExperienceView:
    return admin_experience_view(row, parts.settings.hold_ttl_seconds)


def _ticket(body: admin_schemas.TicketTypeBody) -> dict[str, Any]:
    return {"code": body.code, "title": body.title, "seats": body.seats, **_price(body.price)}


def _price(price: admin_schemas.MoneyBody) -> dict[str, Any]:
    return {"price_minor": price.amount, "currency": price.currency}


@router.get(
    "",
    operation_id="listAllExperiences",
    response_model=ListView[admin_schemas.AdminExperienceView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_experiences(parts: TheParts, _by: TheViewer, page: ThePage) -> Response:
    """List experiences with all their terms and ticket types, oldest first."""
    async with parts.database.reading() as connection:
        rows = await catalogue.experience_page(connection, limit=page.limit + 1, after=page.after)
    views = [_view(parts, row) for row in rows]
    return json_answer(list_of(admin_schemas.AdminExperienceView, views, page.limit))


@router.get(
    "/{experience_id}",
    operation_id="getAnyExperience",
    response_model=admin_schemas.AdminExperienceView,
    responses=problem_responses(*_ROLE, ExperienceNotFound),
)
async def get_experience(parts: TheParts, _by: TheViewer, experience_id: str) -> Response:
    """Show an experience with all its terms and ticket types."""
    async with parts.database.reading() as connection:
        row = await catalogue.experience(connection, _experience_id(experience_id))
    if row is None:
        raise ExperienceNotFound
    return json_answer(_view(parts, row))


@router.post(
    "",
    status_code=201,
    operation_id="addExperience",
    response_model=admin_schemas.AdminExperienceView,
    responses=problem_responses(*_ROLE, *_BODY),
)
async def add_experience(parts: TheParts, by: TheOperator, body: admin_schemas.CreateExperienceBody) -> Response:
    """Add something to sell. Without a cancellation policy, cancelling is free until the slot starts."""
    experience = body.model_dump(mode="json", exclude={"ticket_types"})
    tickets = [_ticket(ticket) for ticket in body.ticket_types]
    act = Act(by.subject, "addExperience")
    added = await selling.add_experience(parts.database, experience, tickets, act)
    return json_answer(_view(parts, added), status=201)


@router.patch(
    "/{experience_id}",
    operation_id="changeExperience",
    response_model=admin_schemas.AdminExperienceView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound, TermsFixed),
)
async def change_experience(
    parts: TheParts, by: TheOperator, experience_id: str, body: admin_schemas.ChangeExperienceBody
) -> Response:
    """Change the terms of what is sold from now on. Another cutoff moves the end of sales of all coming slots."""
    act = Act(by.subject, "changeExperience", body.reason)
    changed = await selling.change_experience(parts.database, _experience_id(experience_id), body.changes(), act)
    return json_answer(_view(parts, changed))


@router.post(
    "/{experience_id}/ticket-types",
    status_code=201,
    operation_id="addTicketType",
    response_model=admin_schemas.AdminTicketTypeView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound, TicketCodeTaken),
)
async def add_ticket_type(
    parts: TheParts, by: TheOperator, experience_id: str, body: admin_schemas.TicketTypeBody
) -> Response:
    """Add a ticket type to an experience; it is on sale within five seconds."""
    act = Act(by.subject, "addTicketType")
    added = await selling.add_ticket_type(parts.database, _experience_id(experience_id), _ticket(body), act)
    return json_answer(admin_ticket_view(added, added["currency"]), status=201)


@router.patch(
    "/{experience_id}/ticket-types/{ticket_type_id}",
    operation_id="changeTicketType",
    response_model=admin_schemas.AdminTicketTypeView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound, TicketTypeNotFound),
)
async def change_ticket_type(
    parts: TheParts,
    by: TheOperator,
    experience_id: str,
    ticket_type_id: str,
    body: admin_schemas.ChangeTicketTypeBody,
) -> Response:
    """Change a ticket's price or title, or stop selling it, within five seconds; holds keep the price they have."""
    wanted = parse_id(ticket_type_id)
    if wanted is None:
        raise TicketTypeNotFound
    changes = body.model_dump(exclude={"price", "reason"}, exclude_none=True) | (
        _price(body.price) if body.price else {}
    )
    act = Act(by.subject, "changeTicketType", body.reason)
    changed = await selling.change_ticket_type(parts.database, _experience_id(experience_id), wanted, changes, act)
    return json_answer(admin_ticket_view(changed, changed["currency"]))
