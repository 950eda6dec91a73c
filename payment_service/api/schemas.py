"""What operators are shown; the bodies between the services are in `shared.payment_contract`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Strict

from payment_service.states import BreakerName, BreakerState, EventStatus, ReplayStatus
from shared.bodies import ShortText, StrictBody
from shared.payment_contract import PaymentStatus


class View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class PaymentRowView(View):
    """A payment with what guests do not see, and without what only the guest may have."""

    id: UUID
    reservation_id: UUID
    generation: int
    version: int
    status: PaymentStatus
    amount: int
    currency: str
    captured: int
    refunded: int
    decline_class: str | None
    refusal_code: str | None
    trouble: str | None
    cancel_requested_at: datetime | None
    intent_id: str | None
    capture_before: datetime | None
    created_at: datetime
    updated_at: datetime


class WebhookEventView(View):
    """One of Stripe's events."""

    id: UUID
    stripe_event_id: str
    type: str
    status: EventStatus
    reason: str | None
    attempts: int
    deliveries: int
    last_error: str | None
    payment_id: UUID | None
    received_at: datetime
    processed_at: datetime | None
    replayed_by: str | None = None
    replayed_at: datetime | None = None


class DeadGroupView(View):
    """Dead events of one kind: the same type, reason and class of error."""

    fingerprint: str
    type: str
    reason: str | None
    last_error: str | None
    count: int
    first_at: datetime
    last_at: datetime
    example_ids: list[UUID]


class DeadGroupList(View):
    data: list[DeadGroupView]


class ReplayView(View):
    """A replay of many events, and how far it has come. `skipped` ones had moved on before their turn."""

    id: UUID
    status: ReplayStatus
    total: int
    replayed: int
    processed: int
    dead_again: int
    skipped: int
    reason: str | None
    planned_by: str
    planned_at: datetime
    expires_at: datetime
    confirmed_by: str | None
    cancelled_by: str | None
    finished_at: datetime | None


class ReplayPlanView(ReplayView):
    """A plan: how many events match, and a few of those that it is about."""

    matching: int
    sample: list[UUID]


class TimelineLineView(View):
    """One thing that happened to a payment."""

    at: datetime
    kind: str
    what: str
    detail: str


class TimelineView(View):
    data: list[TimelineLineView]


class BreakerAction(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    AUTO = "auto"


class TurnBreakerBody(StrictBody):
    """POST /admin/v1/breaker/{name}."""

    action: Annotated[BreakerAction, Strict(strict=False)]
    reason: ShortText


class BreakerView(View):
    """A breaker; `calls` and `failures` are those of the window of the process that answers."""

    name: BreakerName
    state: BreakerState
    since: datetime
    retry_after_ms: int | None
    calls: int
    failures: int
    reason: str
    forced: BreakerState | None
    forced_by: str | None


class BreakerList(View):
    data: list[BreakerView]
