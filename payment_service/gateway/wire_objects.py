"""Reads Stripe's objects: an answer is untrusted input, and one that has not the documented form is no answer."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from payment_service.gateway.results import DisputeSeen, EndpointSeen, EventSeen, IntentSeen, Page, RefundSeen
from payment_service.states import DisputeStatus, RefundStatus
from shared.payment_contract import PaymentStatus

T = TypeVar("T")

_WORD = re.compile(r"[A-Za-z0-9_.]{1,255}")
_EVENT_OBJECTS = frozenset({"event", "v2.core.event"})

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,255}$")]
_Minor = Annotated[int, Field(ge=0, le=10**15)]

_INTENT_STATUS = {
    "requires_payment_method": PaymentStatus.REQUIRES_PAYMENT,
    "requires_confirmation": PaymentStatus.REQUIRES_PAYMENT,
    "requires_action": PaymentStatus.REQUIRES_ACTION,
    "processing": PaymentStatus.PROCESSING,
    "requires_capture": PaymentStatus.AUTHORIZED,
    "succeeded": PaymentStatus.CAPTURED,
    "canceled": PaymentStatus.CANCELED,
}
_REFUND_STATUS = {
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.CANCELED,
}
# `prevented`: the guest was refunded instead, so no money was taken by the bank.
_DISPUTE_STATUS = {
    "warning_needs_response": DisputeStatus.INQUIRY,
    "warning_under_review": DisputeStatus.INQUIRY,
    "warning_closed": DisputeStatus.INQUIRY_CLOSED,
    "prevented": DisputeStatus.INQUIRY_CLOSED,
    "needs_response": DisputeStatus.OPEN,
    "under_review": DisputeStatus.OPEN,
    "won": DisputeStatus.WON,
    "lost": DisputeStatus.LOST,
}

# Stripe knows some forty decline codes; a guest can do five things about them.
_DECLINE_CLASSES = {
    "insufficient_funds": "insufficient_funds",
    "withdrawal_count_limit_exceeded": "insufficient_funds",
    "card_velocity_exceeded": "insufficient_funds",
    "expired_card": "expired_card",
    "authentication_required": "authentication_failed",
    "payment_intent_authentication_failure": "authentication_failed",
    "authentication_not_handled": "authentication_failed",
    "processing_error": "processing_error",
    "issuer_not_available": "processing_error",
    "try_again_later": "processing_error",
    "reenter_transaction": "processing_error",
    "incorrect_cvc": "incorrect_card_data",
    "invalid_cvc": "incorrect_card_data",
    "incorrect_number": "incorrect_card_data",
    "invalid_number": "incorrect_card_data",
    "invalid_expiry_month": "incorrect_card_data",
    "invalid_expiry_year": "incorrect_card_data",
    "incorrect_zip": "incorrect_card_data",
}


def decline_class(code: str | None, decline_code: str | None) -> str:
    """Return what a decline means for the guest; a code that is not known is a plain decline."""
    return _DECLINE_CLASSES.get(decline_code or "") or _DECLINE_CLASSES.get(code or "") or "card_declined"


class _Wire(BaseModel):
    """Strict about what is read, silent about the rest: Stripe adds fields at any time."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Card(_Wire):
    capture_before: int | None = None


class _MethodDetails(_Wire):
    card: _Card | None = None


class _Charge(_Wire):
    payment_method_details: _MethodDetails | None = None


class _Error(_Wire):
    code: str | None = None
    decline_code: str | None = None


class _Intent(_Wire):
    id: _Id
    status: str
    amount: _Minor
    amount_received: _Minor = 0
    currency: str = Field(pattern=r"^[a-z]{3}$")
    client_secret: str | None = Field(None, max_length=500)
    metadata: dict[str, str] = {}
    last_payment_error: _Error | None = None
    latest_charge: str | _Charge | None = None
    created: int | None = None


class _Refund(_Wire):
    id: _Id
    status: str
    amount: _Minor
    currency: str = Field(pattern=r"^[a-z]{3}$")
    payment_intent: _Id
    metadata: dict[str, str] = {}
    failure_reason: str | None = None


class _Dispute(_Wire):
    id: _Id
    status: str
    amount: _Minor
    currency: str = Field(pattern=r"^[a-z]{3}$")
    payment_intent: _Id
    reason: str


class _Endpoint(_Wire):
    url: str
    enabled_events: list[str]
    status: str


def read_intent(document: Any) -> IntentSeen:
    """Read a PaymentIntent. Raises ValueError for anything else, and for a status that is not known."""
    wire = _Intent.model_validate(document)
    status = _INTENT_STATUS.get(wire.status)
    if status is None:
        raise ValueError("unknown status of a payment intent")
    open_error = wire.last_payment_error if status == PaymentStatus.REQUIRES_PAYMENT else None
    return IntentSeen(
        id=wire.id,
        status=status,
        amount=wire.amount,
        currency=wire.currency.upper(),
        received=wire.amount_received,
        client_secret=wire.client_secret,
        payment_id=_our_id(wire.metadata, "payment_id"),
        decline_class=decline_class(open_error.code, open_error.decline_code) if open_error else None,
        capture_before=_capture_before(wire),
        system=wire.metadata.get("system"),
        created_at=datetime.fromtimestamp(wire.created, UTC) if wire.created is not None else None,
    )


def read_refund(document: Any) -> RefundSeen:
    """Read a refund. Raises ValueError like `read_intent`."""
    wire = _Refund.model_validate(document)
    status = _REFUND_STATUS.get(wire.status)
    if status is None:
        raise ValueError("unknown status of a refund")
    return RefundSeen(
        id=wire.id,
        status=status,
        amount=wire.amount,
        currency=wire.currency.upper(),
        intent_id=wire.payment_intent,
        refund_id=_our_id(wire.metadata, "refund_id"),
        failure=(wire.failure_reason or "")[:100] or None,
    )


def read_dispute(document: Any) -> DisputeSeen:
    """Read a dispute. Raises ValueError like `read_intent`."""
    wire = _Dispute.model_validate(document)
    status = _DISPUTE_STATUS.get(wire.status)
    if status is None:
        raise ValueError("unknown status of a dispute")
    return DisputeSeen(
        id=wire.id,
        status=status,
        amount=wire.amount,
        currency=wire.currency.upper(),
        intent_id=wire.payment_intent,
        reason=_word(wire.reason)[:100] or "unknown",
    )


def read_endpoint(document: Any) -> EndpointSeen:
    """Read a webhook endpoint. Raises ValueError for anything else."""
    wire = _Endpoint.model_validate(document)
    return EndpointSeen(wire.url, frozenset(wire.enabled_events), wire.status == "enabled")


def read_list(document: Any) -> tuple[list[Any], bool]:
    """Read a list object: its items, and whether there are more. Raises ValueError."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise ValueError("not a list object")  # noqa: TRY004  one kind of error for every malformed answer
    return document["data"], document.get("has_more") is True


def read_id_of(payment_id: UUID, document: Any) -> str:
    """Read nothing of an intent but its id, if it carries this id of ours. Raises ValueError."""
    intent = _dict(document)
    if _dict(intent.get("metadata")).get("payment_id") != str(payment_id):
        raise ValueError("somebody else's")
    return _word(intent.get("id"))


def read_page(read_item: Callable[[Any], T], document: Any) -> Page[T]:
    """Read a page of a list; what has not the documented form is not ours to read, and is left out."""
    items, has_more = read_list(document)
    if not items:
        return Page((), "", has_more=False)
    return Page(tuple(_readable(read_item, items)), _word(_dict(items[-1]).get("id")), has_more)


def _readable(read_item: Callable[[Any], T], items: list[Any]) -> list[T]:
    read = []
    for item in items:
        try:
            read.append(read_item(item))
        except ValueError:
            continue
    return read


def read_event(document: Any) -> EventSeen:
    """Read what an event is about. Raises ValueError for what is no event."""
    if _word(_dict(document).get("object")) not in _EVENT_OBJECTS:
        raise ValueError("not an event")
    event_id, event_type = _word(document.get("id")), _word(document.get("type"))
    if not event_id or not event_type:
        raise ValueError("an event without id or type")
    subject = _dict(_dict(document.get("data")).get("object")) or _dict(document.get("related_object"))
    object_id = _word(subject.get("id"))
    is_intent = subject.get("object") == "payment_intent"
    return EventSeen(
        id=event_id,
        type=event_type,
        object_id=object_id,
        intent_id=object_id if is_intent else _word(subject.get("payment_intent")),
        livemode=document.get("livemode") is True,
    )


def read_told_intent(document: Any) -> IntentSeen | None:
    """Read the PaymentIntent as an event pictures it; None when it is about something else, or is not readable."""
    subject = _dict(_dict(_dict(document).get("data")).get("object"))
    if subject.get("object") != "payment_intent":
        return None
    try:
        return read_intent(subject)
    except ValueError:
        return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """Return an id or a type name; anything else is nothing, so that no odd text is ever stored."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _capture_before(wire: _Intent) -> datetime | None:
    charge = wire.latest_charge
    if not isinstance(charge, _Charge) or not charge.payment_method_details or not charge.payment_method_details.card:
        return None
    at_s = charge.payment_method_details.card.capture_before
    return datetime.fromtimestamp(at_s, UTC) if at_s is not None else None


def _our_id(metadata: dict[str, str], name: str) -> UUID | None:
    """Read an id of ours; metadata can be edited by people, so anything may stand there."""
    try:
        return UUID(metadata[name])
    except (KeyError, ValueError):
        return None
