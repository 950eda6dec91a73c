"""API keys in operators' hands: made for a reseller, listed by their prefixes, ended at once."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import View
from reservation_service.errors import ApiKeyNotFound
from reservation_service.store import api_keys
from shared.bodies import Id, Instant, ShortText, StrictBody, parse_id
from shared.database import Row
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/api-keys", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)
_SHOWN = ("id", "name", "prefix", "scopes", "created_by", "created_at", "expires_at", "revoked_at")

Scope = Literal["bookings:read", "bookings:write", "bookings:external"]


class CreateApiKeyBody(StrictBody):
    """Only what the reseller needs; `bookings:external` is for those who are paid elsewhere."""

    name: ShortText
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires_at: Instant | None = None


class RevokeApiKeyBody(StrictBody):
    reason: ShortText


class ApiKeyView(View):
    id: Id
    name: str
    prefix: str = Field(description="the beginning of the key, to tell it from others")
    scopes: list[Scope]
    created_by: str
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None


class NewApiKeyView(ApiKeyView):
    key: str = Field(description="the key itself, shown this once: we keep only a hash")


@router.post(
    "",
    status_code=201,
    operation_id="addApiKey",
    response_model=NewApiKeyView,
    responses=problem_responses(*_ROLE, *_BODY),
)
async def add_api_key(parts: TheParts, by: TheOperator, body: CreateApiKeyBody) -> Response:
    """Make a key for a reseller's programs; it is sent like a token, and shown only in this answer."""
    row, key = await parts.api_keys.add(body.name, body.scopes, body.expires_at, Act(by.subject, "addApiKey"))
    return json_answer(NewApiKeyView(**_fields(row), key=key), status=201)


@router.get(
    "",
    operation_id="listApiKeys",
    response_model=ListView[ApiKeyView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_api_keys(parts: TheParts, _by: TheViewer, page: ThePage) -> Response:
    """List keys by what can be shown of them, newest first."""
    async with parts.database.reading() as connection:
        rows = await api_keys.page(connection, limit=page.limit + 1, after=page.after)
    return json_answer(list_of(ApiKeyView, [ApiKeyView(**_fields(row)) for row in rows], page.limit))


@router.post(
    "/{api_key_id}/revoke",
    operation_id="revokeApiKey",
    response_model=ApiKeyView,
    responses=problem_responses(*_ROLE, *_BODY, ApiKeyNotFound),
)
async def revoke_api_key(parts: TheParts, by: TheOperator, api_key_id: str, body: RevokeApiKeyBody) -> Response:
    """End a key for good, within a second in every process; what was booked with it stays. Repeatable."""
    wanted: UUID | None = parse_id(api_key_id)
    if wanted is None:
        raise ApiKeyNotFound
    row = await parts.api_keys.revoke(wanted, Act(by.subject, "revokeApiKey", body.reason))
    return json_answer(ApiKeyView(**_fields(row)))


def _fields(row: Row) -> dict[str, object]:
    return {name: row[name] for name in _SHOWN}
