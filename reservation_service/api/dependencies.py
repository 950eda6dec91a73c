"""What every endpoint may ask for, as annotated names; nothing is built here, only handed over."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request

from reservation_service.booking.holds import Holds
from reservation_service.metrics import Metrics
from reservation_service.saga.engine import Engine
from reservation_service.settings import ReservationSettings
from shared.auth import Caller, TokenVerifier
from shared.bodies import parse_id
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.idempotency import parse_key
from shared.problems import ValidationFailed
from shared.signing import InternalSigner


@dataclass(frozen=True)
class Parts:
    """Everything that `create_app` has wired."""

    settings: ReservationSettings
    database: Database
    flags: Flags
    metrics: Metrics
    holds: Holds
    engine: Engine
    tokens: TokenVerifier
    signer: InternalSigner
    clock: Clock


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _caller(request: Request) -> Caller:
    parts: Parts = request.app.state.parts
    return parts.tokens.caller(request.headers.get("authorization"))


async def _operator(request: Request) -> Caller:
    caller = await _caller(request)
    caller.require_role("operator")
    return caller


async def _viewer(request: Request) -> Caller:
    caller = await _caller(request)
    caller.require_role("operator", "viewer")
    return caller


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


TheParts = Annotated[Parts, Depends(_parts)]
TheCaller = Annotated[Caller, Depends(_caller)]
TheOperator = Annotated[Caller, Depends(_operator)]
TheViewer = Annotated[Caller, Depends(_viewer)]
TheKey = Annotated[str, Depends(_key)]
ThePage = Annotated[Page, Depends(_page)]
