"""What operators are shown; the bodies between the services are in `shared.payment_contract`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from payment_service.states import EventStatus, RefundStatus
from shared.bodies import ShortText, StrictBody
from shared.payment_contract import PaymentStatus

Item = TypeVar("Item", bound=BaseModel)


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class FlagChangeBody(StrictBody):
    """PUT /admin/v1/flags/{name}."""

    enabled: bool
    percentage: int = Field(100, ge=0, le=100)
    reason: ShortText


class ListView(_View, Generic[Item]):
    """Every list of this service."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None


class PaymentRowView(_View):
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


class WebhookEventView(_View):
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


class TimelineLineView(_View):
    """One thing that happened to a payment."""

    at: datetime
    kind: str
    what: str
    detail: str


class TimelineView(_View):
    data: list[TimelineLineView]


class AuditRefundView(_View):
    id: UUID
    amount: int
    status: RefundStatus
    stripe_refund_id: str | None


class AuditPaymentView(_View):
    """A payment for the three-way audit; rows younger than a minute may still be on their way."""

    id: UUID
    reservation_id: UUID
    generation: int
    version: int
    status: PaymentStatus
    amount: int
    currency: str
    captured: int
    refunded: int
    stripe_payment_intent_id: str | None
    updated_at: datetime
    unchanged_s: float
    refunds: list[AuditRefundView]


class CheckView(_View):
    id: str
    title: str
    violations: int
    examples: list[str]


class InvariantsView(_View):
    ok: bool
    checked_at: datetime
    checks: list[CheckView]


class FlagView(_View):
    name: str
    enabled: bool
    percentage: int
    overridden: bool
    default: bool
    since: str
    off_means: str


class FlagsView(_View):
    data: list[FlagView]


def list_of(view: type[Item], rows: Sequence[Any], limit: int) -> ListView[Item]:
    """Return a list's envelope; callers ask the store for `limit + 1` rows to learn whether there are more."""
    shown = [view.model_validate(dict(row) if isinstance(row, Mapping) else row) for row in rows[:limit]]
    has_more = len(rows) > limit
    cursor = str(shown[-1].id) if has_more else None  # type: ignore[attr-defined]
    return ListView[view](data=shown, has_more=has_more, next_cursor=cursor)  # type: ignore[valid-type]
