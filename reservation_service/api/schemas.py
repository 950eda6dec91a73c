"""The bodies of the public API: strict on the way in, one canonical form on the way out. Only ever grows."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.bodies import Id, Instant, ShortText, StrictBody, free_text

EmailAddress = Annotated[
    str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254), AfterValidator(free_text)
]


class View(BaseModel):
    """An answer; serialised by one serialiser with the fields in this order, so that replays are equal byte for byte."""

    model_config = ConfigDict(frozen=True)


class Money(View):
    """Integer minor units (JPY has no decimals, KWD three) and an ISO 4217 code."""

    amount: int
    currency: str


class TicketTypeView(View):
    id: Id
    code: str
    title: str
    price: Money
    seats: int


class ExperienceView(View):
    id: Id
    title: str
    description: str
    time_zone: str
    currency: str
    ticket_types: list[TicketTypeView]
    cancellation_policy: dict[str, Any]
    hold_ttl_seconds: int
    max_party: int
    cutoff_minutes: int


class TimeSlotView(View):
    id: Id
    experience_id: Id
    starts_at: Instant
    local_start: str = Field(description="the same instant in the experience's time zone, with its offset")
    ends_at: Instant
    time_zone: str
    capacity: int
    available: int
    status: Literal["open", "closed", "cancelled"]
    prices: list[TicketTypeView]


class DaySlotView(View):
    id: Id
    starts_at: Instant
    local_start: str = Field(description="the same instant in the experience's time zone, with its offset")
    available: int
    status: Literal["open", "closed", "cancelled"]


class CalendarDayView(View):
    date: date
    status: Literal["available", "limited", "sold_out", "closed"] = Field(
        description="`limited`: at most a quarter of the day's seats are left; `closed`: nothing is for sale"
    )
    vacancies: int = Field(description="free seats of the slots that can take the party")
    price_from: Money | None = Field(description="the cheapest ticket that takes a seat; null when none is sold")
    slots: list[DaySlotView] | None = Field(None, description="when asked for")


class CalendarView(View):
    experience_id: Id
    time_zone: str
    days: list[CalendarDayView]


class HoldItem(StrictBody):
    ticket_type_id: Id
    quantity: Annotated[int, Field(ge=1, le=1000)]


class CreateHoldBody(StrictBody):
    time_slot_id: Id
    items: Annotated[list[HoldItem], Field(min_length=1, max_length=50)]
    ttl_seconds: Annotated[int, Field(ge=1, le=1800)] | None = None
    discount_code: ShortText | None = None
    client_reference: ShortText | None = None
    metadata: Annotated[dict[ShortText, ShortText], Field(max_length=20)] | None = None


class ExtendHoldBody(StrictBody):
    seconds: Annotated[int, Field(ge=1, le=1800)] | None = None


class ItemView(View):
    ticket_type_id: Id
    quantity: int


class PriceLine(View):
    ticket_type_id: Id
    code: str
    title: str
    quantity: int
    unit: Money
    amount: Money


class Price(View):
    subtotal: Money
    discount: Money
    total: Money
    currency: str
    lines: list[PriceLine]
    discount_code: str | None = None


class HoldView(View):
    id: Id
    status: Literal["active", "expired", "released", "converted"]
    time_slot_id: Id
    items: list[ItemView]
    seats: int
    price: Price
    expires_at: Instant
    extendable: bool
    supersedes: Id | None = None
    client_reference: str | None = None
    metadata: dict[str, str] | None = None


class CustomerBody(StrictBody):
    name: ShortText
    email: EmailAddress
    phone: Annotated[str, StringConstraints(pattern=r"^\+?[0-9 ()/.-]{3,40}$")] | None = None


class PaymentChoice(StrictBody):
    mode: Literal["stripe", "external"]


class ConvertBody(StrictBody):
    customer: CustomerBody
    payment: PaymentChoice


class CustomerView(View):
    name: str
    email: str
    phone: str | None = None


class PaymentErrorView(View):
    code: str
    detail: str


class ReservationPayment(View):
    status: str
    amount: Money
    captured: Money
    refunded: Money
    client_secret: str | None = None
    publishable_key: str | None = None
    last_error: PaymentErrorView | None = None


class Succeeded(View):
    type: Literal["succeeded"] = "succeeded"


class ActionRequired(View):
    type: Literal["action_required"] = "action_required"
    action: Literal["confirm_payment"] = "confirm_payment"
    client_secret: str
    publishable_key: str | None


class PaymentDeclined(View):
    type: Literal["payment_declined"] = "payment_declined"
    decline_class: str
    client_secret: str
    publishable_key: str | None


class Processing(View):
    type: Literal["processing"] = "processing"
    poll_after_ms: int = 800


class PaymentSetupFailed(View):
    type: Literal["payment_setup_failed"] = "payment_setup_failed"
    retryable: bool = True
    retry_after_ms: int = 2000
    error: dict[str, Any]


class Closed(View):
    type: Literal["closed"] = "closed"
    status: Literal["cancelled", "failed", "needs_attention"]


Outcome = Annotated[
    Succeeded | ActionRequired | PaymentDeclined | Processing | PaymentSetupFailed | Closed,
    Field(discriminator="type"),
]


class CancelBody(StrictBody):
    reason: ShortText | None = None


RefundKind = Literal["full", "partial", "nothing", "void", "external", "not_cancellable"]


class CancellationQuoteView(View):
    """What cancelling now would give back; the ETag is the reservation's, for `If-Match` on the cancel."""

    reservation_id: Id
    cancellable: bool
    kind: RefundKind = Field(
        description="`void`: nothing was paid; `external`: paid elsewhere, and given back there; `nothing`: all is kept"
    )
    refund: Money
    policy: str = Field(description="the terms it was booked on, in one line")
    expires_at: Instant | None = Field(description="when less comes back than this; null: not by the clock")


class CancellationView(View):
    """Who called a booking off, and what goes back in all; `payment.refunded` says how much of it is back."""

    by: Literal["guest", "operator"]
    requested_at: Instant
    cancelled_at: Instant | None
    refund: Money
    policy: str


class ReservationView(View):
    id: Id
    reference: str
    status: Literal["pending", "confirmed", "failed", "cancelled", "needs_attention"]
    time_slot_id: Id
    items: list[ItemView]
    seats: int
    price: Price
    customer: CustomerView
    payment: ReservationPayment
    notices: list[str]
    expires_at: Instant | None
    version: int
    outcome: Outcome
    cancellation: CancellationView | None = None


class GuestSessionView(View):
    token: str
    expires_at: Instant


class LookupBody(StrictBody):
    """What stands on a guest's confirmation; upper and lower case count as the same."""

    reference: ShortText
    email: EmailAddress


class LookupView(View):
    """A token for one booking: to read it, to ask what cancelling gives back, and to cancel."""

    token: str
    reservation_id: Id
    expires_at: Instant
