"""The bodies of the sagas' admin endpoints: a saga as operators see it, and what they say when they take one in hand."""

from typing import Any, Literal

from reservation_service.api.schemas import Money, View
from shared.bodies import Id, Instant, ShortText, StrictBody


class SagaStepView(View):
    step: str
    direction: Literal["do", "undo"]
    event: str
    at: Instant
    detail: dict[str, Any] | None = None
    epoch: int


class SagaView(View):
    id: Id
    reservation_id: Id
    status: str
    steps: list[SagaStepView]
    reason: str | None = None
    attempts: int
    lease_until: Instant | None
    due_at: Instant | None
    created_at: Instant
    generation: int
    unwinding_because: str | None
    lease_epoch: int
    operator_can: list[Literal["retry", "unwind", "resolve"]]


class SagaBookingView(View):
    """The line of a saga's booking, as far as a person needs it to judge the saga."""

    reference: str
    status: str
    seats: int
    seats_pinned: bool
    total: Money
    payment_status: str
    pay_until: Instant | None
    failure_reason: str | None


class ExplainedSagaView(SagaView):
    """A saga with what it waits for; `now` is the database's clock, by which all of it is judged."""

    now: Instant
    waits_for: str
    booking: SagaBookingView


class SagaVerbBody(StrictBody):
    reason: ShortText


class ResolveSagaBody(StrictBody):
    outcome: Literal["confirmed", "cancelled", "failed"]
    reason: ShortText
