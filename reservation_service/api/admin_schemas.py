"""The bodies of the admin API: what operators send, and what only they may see."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reservation_service.api.schemas import (
    CancellationView,
    CustomerView,
    HoldView,
    ItemView,
    Price,
    RefundKind,
    ReservationPayment,
    TicketTypeView,
    View,
)
from shared.bodies import Currency, Id, Instant, LongText, ShortText, StrictBody, free_text

# Why something is changed that can be changed back: kept with who changed it.
Why = Annotated[str, StringConstraints(max_length=200), AfterValidator(free_text)]


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
    """Of the tiers whose time has not passed the best one says how much comes back; when all have, nothing can be done."""

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


class ChangeExperienceBody(StrictBody):
    """What is left out stays as it is; `hold_ttl_seconds: null` is the service's own default again."""

    title: ShortText | None = None
    description: LongText | None = None
    hold_ttl_seconds: Annotated[int, Field(ge=1, le=1800)] | None = None
    max_party: Annotated[int, Field(ge=1, le=1000)] | None = None
    cutoff_minutes: Annotated[int, Field(ge=0, le=525_600)] | None = None
    late_payment_policy: Literal["rebook_or_refund", "refund"] | None = None
    cancellation_policy: CancellationPolicyBody | None = Field(None, description="for what is converted from now on")
    time_zone: ShortText | None = Field(None, description="until the experience has its first time slot")
    currency: Currency | None = Field(None, description="until the experience has its first time slot")
    reason: Why = ""

    def changes(self) -> dict[str, Any]:
        """Return what is to be changed."""
        sent = self.model_dump(exclude_unset=True, exclude={"reason"})
        if self.cancellation_policy is not None:
            sent["cancellation_policy"] = self.cancellation_policy.model_dump()
        return {name: value for name, value in sent.items() if value is not None or name == "hold_ttl_seconds"}


class ChangeTicketTypeBody(StrictBody):
    """What is left out stays as it is; holds keep the price they were made at."""

    title: ShortText | None = None
    price: MoneyBody | None = None
    active: bool | None = Field(None, description="whether it is sold")
    reason: Why = ""


class CreateTimeSlotBody(StrictBody):
    experience_id: Id
    starts_at: Instant
    ends_at: Instant
    capacity: Annotated[int, Field(ge=0, le=1_000_000)]


class ChangeTimeSlotBody(StrictBody):
    capacity: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    status: Literal["open", "closed", "cancelled"] | None = Field(None, description="`cancelled` is for good")
    reason: ShortText


class ReleaseHoldBody(StrictBody):
    reason: ShortText


class CancelForGuestBody(StrictBody):
    reason: ShortText
    waive_policy: bool = Field(False, description="give everything back, whatever the terms and the time")


class AdminTicketTypeView(TicketTypeView):
    active: bool


class AdminExperienceView(View):
    id: Id
    title: str
    description: str
    time_zone: str
    currency: str
    ticket_types: list[AdminTicketTypeView]
    cancellation_policy: dict[str, Any]
    hold_ttl_seconds: int
    max_party: int
    cutoff_minutes: int
    capture_method: str
    late_payment_policy: str
    created_at: Instant


class AdminTimeSlotView(View):
    id: Id
    experience_id: Id
    starts_at: Instant
    local_start: str
    ends_at: Instant
    sells_until: Instant
    time_zone: str
    capacity: int
    taken: int
    available: int
    status: Literal["open", "closed", "cancelled"]
    version: int
    created_at: Instant


class SlotCancellationView(View):
    """How far the cancellation of a slot has come; `awaiting_refund`: only money, or cases for a person, are left."""

    time_slot_id: Id
    status: Literal["running", "awaiting_refund", "finished"]
    held_released: int
    held_remaining: int
    pending_unwound: int
    pending_remaining: int
    confirmed_remaining: int
    needs_attention: int
    started_at: Instant
    finished_at: Instant | None
    confirmed_cancelled: int = Field(description="bookings that were final, and are cancelled")
    refunds_outstanding: int = Field(description="bookings that have ended and whose money is still on its way back")
    refunds_failed: int = Field(description="bookings that have ended and whose money a person has to see to")


class AdminHoldView(HoldView):
    caller: str
    created_at: Instant
    released_by: str | None
    extensions: int


class AdminCancellationView(CancellationView):
    who: str
    reason: str | None
    kind: RefundKind = Field(description="as it was judged when it was asked for")


class AdminReservationView(View):
    id: Id
    reference: str
    status: Literal["pending", "confirmed", "failed", "cancelled", "needs_attention"]
    time_slot_id: Id
    items: list[ItemView]
    seats: int
    price: Price
    customer: CustomerView
    payment_mode: str
    payment: ReservationPayment
    caller: str
    expires_at: Instant | None
    failure_reason: str | None
    created_at: Instant
    confirmed_at: Instant | None
    cancel_requested_at: Instant | None
    version: int
    cancellation: AdminCancellationView | None = None
