"""The bodies of the admin API: what operators send, and what only they may see."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from reservation_service.api.schemas import Money, View
from shared.bodies import Currency, Id, Instant, LongText, ShortText, StrictBody


class MoneyBody(StrictBody):
    amount: Annotated[int, Field(ge=0, le=99_999_999)]
    currency: Currency


class TicketTypeBody(StrictBody):
    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    title: ShortText
    price: MoneyBody
    seats: Annotated[int, Field(ge=0, le=100)] = 1


class FreeCancellation(StrictBody):
    """Everything comes back until so many minutes before the start."""

    type: Literal["free"]
    until_minutes_before: Annotated[int, Field(ge=0, le=525_600)] = 0


class RefundTier(StrictBody):
    until_minutes_before: Annotated[int, Field(ge=0, le=525_600)]
    refund_percent: Annotated[int, Field(ge=0, le=100)]


class TieredCancellation(StrictBody):
    """The first tier whose time has not passed says how much comes back."""

    type: Literal["tiers"]
    tiers: Annotated[list[RefundTier], Field(min_length=1, max_length=10)]


class NoCancellation(StrictBody):
    """What is booked stays booked."""

    type: Literal["none"]


CancellationPolicyBody = Annotated[FreeCancellation | TieredCancellation | NoCancellation, Field(discriminator="type")]


class CreateExperienceBody(StrictBody):
    title: ShortText
    description: LongText = ""
    time_zone: ShortText
    currency: Currency
    hold_ttl_seconds: Annotated[int, Field(ge=1, le=1800)] | None = None
    max_party: Annotated[int, Field(ge=1, le=1000)] = 20
    cutoff_minutes: Annotated[int, Field(ge=0, le=525_600)] = 0
    capture_method: Literal["manual", "automatic"] = "manual"
    late_payment_policy: Literal["rebook_or_refund", "refund"] = "rebook_or_refund"
    cancellation_policy: CancellationPolicyBody = FreeCancellation(type="free")
    ticket_types: Annotated[list[TicketTypeBody], Field(min_length=1, max_length=50)]


class CreateTimeSlotBody(StrictBody):
    experience_id: Id
    starts_at: Instant
    ends_at: Instant
    capacity: Annotated[int, Field(ge=0, le=1_000_000)]


class ChangeTimeSlotBody(StrictBody):
    capacity: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    status: Literal["open", "closed"] | None = None
    reason: ShortText


Limit = Annotated[int, Field(ge=1, le=1_000_000_000)]


class PercentageOff(StrictBody):
    type: Literal["percentage"]
    basis_points: Annotated[int, Field(ge=1, le=10_000, description="hundredths of a percent: 1250 is 12.5 %")]


class FixedOff(StrictBody):
    """An amount off the subtotal, at most all of it; only for experiences in its currency."""

    type: Literal["fixed"]
    amount: Annotated[int, Field(ge=1, le=99_999_999)]
    currency: Currency


class CreateDiscountBody(StrictBody):
    """Without an experience, a discount is for all of them."""

    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{2,40}$")]
    off: Annotated[PercentageOff | FixedOff, Field(discriminator="type")]
    experience_id: Id | None = None
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    max_uses: Limit | None = None
    max_uses_per_customer: Limit | None = None


class ChangeDiscountBody(StrictBody):
    """What is left out stays as it is; null takes a date or a limit away."""

    active: bool = True
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    max_uses: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    max_uses_per_customer: Limit | None = None


class DiscountView(View):
    id: Id
    code: str
    experience_id: Id | None
    off: PercentageOff | FixedOff
    valid_from: Instant | None
    valid_until: Instant | None
    max_uses: int | None
    max_uses_per_customer: int | None
    active: bool
    used: int = Field(description="bookings that pin seats with it now")
    created_at: Instant


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
