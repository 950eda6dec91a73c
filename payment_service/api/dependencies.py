"""What every endpoint may ask for, as annotated names; nothing is built here, only handed over."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from pydantic import SecretStr

from payment_service.errors import PaymentNotFound
from payment_service.flags import SIGNED_INTERNAL_CALLS
from payment_service.payments.lifecycle import Lifecycle
from payment_service.payments.reading import Reading
from payment_service.payments.refunding import Refunding
from payment_service.payments.replays import Replays
from payment_service.webhooks.inbox import Inbox
from shared.auth import Caller, TokenVerifier
from shared.bodies import parse_id
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.idempotency import parse_key
from shared.problems import InternalSignatureInvalid, ValidationFailed
from shared.signing import InternalSigner


@dataclass(frozen=True)
class Parts:
    """Everything that `create_app` has wired."""

    database: Database
    clock: Clock
    flags: Flags
    tokens: TokenVerifier
    signer: InternalSigner
    internal_bearer: SecretStr
    lifecycle: Lifecycle
    refunding: Refunding
    reading: Reading
    replays: Replays
    inbox: Inbox
    nudge_webhooks: Callable[[], None]


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


async def only_reservation_service(request: Request) -> None:
    """Let in only the other service: signatures always, the bearer secret only while the flag is off, never an empty one.

    Raises InternalSignatureInvalid (401).
    """
    parts: Parts = request.app.state.parts
    bearer = parts.internal_bearer.get_secret_value()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if bearer and scheme.lower() == "bearer" and not parts.flags.is_on(SIGNED_INTERNAL_CALLS):
        if secrets.compare_digest(token.encode(), bearer.encode()):
            return
        raise InternalSignatureInvalid
    parts.signer.verify(request.method, str(request.url), dict(request.headers), await request.body())


async def _key(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Required. 1 to 255 visible ASCII characters, bare or quoted."),
    ] = None,
) -> str:
    return parse_key(request.headers.getlist("idempotency-key"))


async def _payment_id(payment_id: str) -> UUID:
    """Read the id in the path; what is no id names nothing."""
    parsed = parse_id(payment_id)
    if parsed is None:
        raise PaymentNotFound
    return parsed


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
TheOperator = Annotated[Caller, Depends(_operator)]
TheViewer = Annotated[Caller, Depends(_viewer)]
TheKey = Annotated[str, Depends(_key)]
ThePaymentId = Annotated[UUID, Depends(_payment_id)]
ThePage = Annotated[Page, Depends(_page)]
