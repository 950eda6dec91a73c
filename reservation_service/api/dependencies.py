"""What every endpoint may ask for besides what `shared.door` gives; nothing is built here, only handed over."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from reservation_service.api.rate_limits import RateLimits
from reservation_service.booking.api_keys import ApiKeys
from reservation_service.booking.availability import SlotWatch
from reservation_service.booking.holds import Holds
from reservation_service.booking.timeline import Timelines
from reservation_service.metrics import Metrics
from reservation_service.saga.calling_off import CallingOff
from reservation_service.saga.desk import SagaDesk
from reservation_service.saga.engine import Engine
from reservation_service.settings import ReservationSettings
from shared.auth import TokenVerifier
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.internal_calls import InternalDoor


@dataclass(frozen=True)
class Parts:
    """Everything that `create_app` has wired."""

    settings: ReservationSettings
    database: Database
    flags: Flags
    metrics: Metrics
    holds: Holds
    watch: SlotWatch
    engine: Engine
    calling_off: CallingOff
    saga_desk: SagaDesk
    timelines: Timelines
    tokens: TokenVerifier
    api_keys: ApiKeys
    rate_limits: RateLimits
    internal: InternalDoor
    clock: Clock


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_parts)]
