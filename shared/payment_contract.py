"""The conversation between the two services: additive only, and each side ignores fields it does not know.

The one page of `shared` that speaks of payments, because it is what the two services agree on.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

TO_PAYMENT_SERVICE = "reservation-to-payment"
TO_RESERVATION_SERVICE = "payment-to-reservation"

# What a column can hold: beyond it a request is malformed, not a crash of the database driver.
_AMOUNT_MAX = 10**15
_GENERATION_MAX = 10**6
_NO_NUL = r"^[^\x00]*$"


class PaymentStatus(StrEnum):
    """A payment's state as both services speak of it."""

    NONE = "none"
    SETUP_FAILED = "setup_failed"
    REQUIRES_PAYMENT = "requires_payment"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    REFUND_PENDING = "refund_pending"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    CANCELED = "canceled"
    DISPUTED = "disputed"
    DISPUTE_LOST = "dispute_lost"
    EXTERNAL = "external"


class Outcome(StrEnum):
    """What is known of a call to the provider. UNKNOWN is never failure: only asking makes it known."""

    OK = "ok"
    DECLINED = "declined"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    TOO_LATE = "too_late"


class ContractModel(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CreatePayment(ContractModel):
    """POST /internal/v1/payments. `payment_id` is chosen by the saga, so a retry means the same payment."""

    payment_id: UUID
    reservation_id: UUID
    generation: int = Field(ge=1, le=_GENERATION_MAX)
    amount: int = Field(gt=0, le=_AMOUNT_MAX, description="minor units")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    capture_method: Literal["manual", "automatic"] = "manual"


class CancelPayment(ContractModel):
    """POST .../cancel. Carries the identity too, because a cancel may overtake the create it cancels."""

    reservation_id: UUID
    generation: int = Field(ge=1, le=_GENERATION_MAX)
    reason: str = Field("abandoned", max_length=100, pattern=_NO_NUL)


class CapturePayment(ContractModel):
    """POST .../capture: the full amount that was authorised."""


class RefundPayment(ContractModel):
    """POST .../refunds. `refund_id` is chosen by the caller; the same id is the same refund."""

    refund_id: UUID
    amount: int = Field(gt=0, le=_AMOUNT_MAX, description="minor units")
    reason: str = Field("requested_by_customer", max_length=100, pattern=_NO_NUL)


class PaymentView(ContractModel):
    """A payment as payment_service sees it now. `version` grows with every change."""

    id: UUID
    reservation_id: UUID
    generation: int
    version: int
    status: PaymentStatus
    amount: int
    currency: str
    captured: int = 0
    refunded: int = 0
    client_secret: str | None = None
    publishable_key: str | None = None
    decline_class: str | None = None
    capture_before: datetime | None = None


class CallError(ContractModel):
    """Why a call was not OK, in words that may reach a guest: never a provider's raw message."""

    code: str
    detail: str
    retry_after_ms: int | None = None


class PaymentAnswer(ContractModel):
    """The body of every 200 of the internal payment endpoints."""

    outcome: Outcome
    payment: PaymentView | None = None
    error: CallError | None = None
    stale: bool = Field(False, description="what is stored, and the provider could move on: it was not heard this time")


class PaymentMoment(ContractModel):
    """One thing that happened to a payment: its status changed, a call to the provider was made, an event came."""

    at: datetime
    kind: str
    what: str
    detail: str = ""


class PaymentTimeline(ContractModel):
    """The body of GET .../timeline, oldest first."""

    data: list[PaymentMoment]


class PaymentEvent(ContractModel):
    """POST /internal/v1/payment-events: the full state of a payment, so that order and loss do not matter."""

    payment_id: UUID
    reservation_id: UUID
    generation: int
    version: int
    status: PaymentStatus
    amount: int
    currency: str
    captured: int = 0
    refunded: int = 0
    decline_class: str | None = None
    capture_before: datetime | None = None
    occurred_at: datetime


class KnownVersion(ContractModel):
    """How far a payment is known: this version, and so every older one."""

    payment_id: UUID
    version: int


class PaymentEventReceipt(ContractModel):
    """The answer to a payment event, given after the commit."""

    result: Literal["applied", "ignored"]
    known: tuple[KnownVersion, ...] = Field(
        (), description="other payments, as far as answers to calls have said how they stand: nobody needs to tell that"
    )
