"""What the doors of both services hand to an endpoint: who calls, under which key, and which page of a list.

Every app keeps what it has wired in `app.state.parts`; here is what both of them need of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from pydantic import BaseModel, ConfigDict

from shared.auth import Caller, TokenVerifier
from shared.bodies import parse_id
from shared.idempotency import parse_key
from shared.internal_calls import InternalDoor
from shared.problems import ValidationFailed


class DoorParts(Protocol):
    """The parts of an app that guard its door."""

    @property
    def tokens(self) -> TokenVerifier: ...

    @property
    def internal(self) -> InternalDoor: ...


def _parts(request: Request) -> DoorParts:
    parts: DoorParts = request.app.state.parts
    return parts


async def _caller(request: Request) -> Caller:
    caller = await _bearer(request)
    caller.require_freedom()
    return caller


async def _bearer(request: Request) -> Caller:
    known: Caller | None = request.scope.get("caller")  # verified already, where requests are counted
    caller = known or await _parts(request).tokens.caller(request.headers.get("authorization"))
    caller.require_method(request.method)
    return caller


async def _operator(request: Request) -> Caller:
    caller = await _caller(request)
    caller.require_role("operator")
    return caller


async def _viewer(request: Request) -> Caller:
    caller = await _caller(request)
    caller.require_role("operator", "viewer")
    return caller


async def only_the_other_service(request: Request) -> None:
    """Let in nobody but the other service. Raises InternalSignatureInvalid (401)."""
    _parts(request).internal.admit(request.method, str(request.url), dict(request.headers), await request.body())


async def _key(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Required. 1 to 255 visible ASCII characters, bare or quoted."),
    ] = None,
) -> str:
    return parse_key(request.headers.getlist("idempotency-key"))


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted."""

    limit: int
    after: UUID | None


async def _page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    starting_after: Annotated[str | None, Query(max_length=36)] = None,
) -> Page:
    after = parse_id(starting_after) if starting_after else None
    if starting_after and after is None:
        raise ValidationFailed(
            errors=[{"in": "query", "pointer": "/starting_after", "type": "cursor", "detail": "not a cursor of ours"}]
        )
    return Page(limit, after)


TheCaller = Annotated[Caller, Depends(_caller)]
TheBearer = Annotated[Caller, Depends(_bearer)]  # may be bound to one thing, which the endpoint must ask for
TheOperator = Annotated[Caller, Depends(_operator)]
TheViewer = Annotated[Caller, Depends(_viewer)]
TheKey = Annotated[str, Depends(_key)]
ThePage = Annotated[Page, Depends(_page)]

Item = TypeVar("Item", bound=BaseModel)


class ListView(BaseModel, Generic[Item]):
    """The envelope of every list."""

    model_config = ConfigDict(frozen=True)

    data: list[Item]
    has_more: bool
    next_cursor: str | None


def list_of(view: type[Item], found: Sequence[Any], limit: int) -> ListView[Item]:
    """Put a page into its envelope; callers ask the store for `limit + 1` rows to learn whether there are more."""
    shown = [
        item if isinstance(item, view) else view.model_validate(dict(item) if isinstance(item, Mapping) else item)
        for item in found[:limit]
    ]
    has_more = len(found) > limit
    cursor = str(shown[-1].id) if has_more else None  # type: ignore[attr-defined]  # whatever is listed has an id
    return ListView[view](data=shown, has_more=has_more, next_cursor=cursor)  # type: ignore[valid-type]
