"""What a call to the provider may end in, in words that know no provider."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from payment_service.states import DisputeStatus, RefundStatus
from shared.payment_contract import Outcome, PaymentStatus

T = TypeVar("T")


@dataclass(frozen=True)
class IntentSeen:
    """A PaymentIntent as an answer showed it; amounts in minor units, the ids of ours are from its metadata."""

    id: str
    status: PaymentStatus
    amount: int
    currency: str
    received: int
    client_secret: str | None
    payment_id: UUID | None
    decline_class: str | None
    capture_before: datetime | None
    system: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class RefundSeen:
    """A refund as an answer showed it."""

    id: str
    status: RefundStatus
    amount: int
    currency: str
    intent_id: str
    refund_id: UUID | None
    failure: str | None


@dataclass(frozen=True)
class DisputeSeen:
    """A dispute as an answer showed it."""

    id: str
    status: DisputeStatus
    amount: int
    currency: str
    intent_id: str
    reason: str


@dataclass(frozen=True)
class EndpointSeen:
    """A webhook endpoint as the provider has it; the type `*` stands for all."""

    url: str
    types: frozenset[str]
    enabled: bool


@dataclass(frozen=True)
class EventSeen:
    """What an event is about; its picture of the object is left at the provider."""

    id: str
    type: str
    object_id: str
    intent_id: str
    livemode: bool


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a list, newest first; `last_id` leads to the next one."""

    items: tuple[T, ...]
    last_id: str
    has_more: bool


@dataclass(frozen=True)
class Result(Generic[T]):
    """How one call ended. UNKNOWN is never failure: the provider may have done it.

    `code` is a stable word for programs, never a provider's sentence. `again` says whether the same call may help
    when it is made again at once; `key_is_spent` that its idempotency key can only repeat a stored failure; `sick` that
    the provider, or the way to it, was not well, whoever's call it was: that is what a breaker counts.
    """

    outcome: Outcome
    value: T | None = None
    code: str = ""
    decline_class: str | None = None
    retry_after_s: float | None = None
    again: bool = False
    key_is_spent: bool = False
    sick: bool = False


def done(value: T) -> Result[T]:
    return Result(Outcome.OK, value)
