"""What every endpoint may ask for besides what `shared.door` gives; nothing is built here, only handed over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from payment_service.errors import PaymentNotFound
from payment_service.payments.exporting import Exporting
from payment_service.payments.lifecycle import Lifecycle
from payment_service.payments.reading import Reading
from payment_service.payments.refunding import Refunding
from payment_service.payments.replays import Replays
from payment_service.payments.switchboard import Switchboard
from payment_service.webhooks.inbox import Inbox
from payment_service.webhooks.replaying import Replaying
from shared.auth import TokenVerifier
from shared.bodies import parse_id
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.internal_calls import InternalDoor


@dataclass(frozen=True)
class Parts:
    """Everything that `create_app` has wired."""

    database: Database
    clock: Clock
    flags: Flags
    tokens: TokenVerifier
    internal: InternalDoor
    lifecycle: Lifecycle
    refunding: Refunding
    reading: Reading
    exporting: Exporting
    replays: Replays
    inbox: Inbox
    switchboard: Switchboard
    event_replays: Replaying
    nudge_webhooks: Callable[[], None]


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _payment_id(payment_id: str) -> UUID:
    """Read the id in the path; what is no id names nothing."""
    parsed = parse_id(payment_id)
    if parsed is None:
        raise PaymentNotFound
    return parsed


TheParts = Annotated[Parts, Depends(_parts)]
ThePaymentId = Annotated[UUID, Depends(_payment_id)]
