"""The internal door: reservation_service moves money here, signed, and with a key on everything that acts."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from payment_service.api.dependencies import Parts, TheParts, ThePaymentId
from payment_service.api.schemas import TimelineView
from payment_service.errors import PaymentIdentityTaken, PaymentNotFound, RefundExceedsPayment
from payment_service.store.idempotency import Keyed
from shared.door import TheKey, only_the_other_service
from shared.idempotency import fingerprint
from shared.payment_contract import CancelPayment, CapturePayment, CreatePayment, PaymentAnswer, RefundPayment
from shared.problems import (
    IdempotencyInProgress,
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    InternalSignatureInvalid,
    MalformedJson,
    ValidationFailed,
    problem_responses,
)

router = APIRouter(prefix="/internal/v1/payments", tags=["internal"], dependencies=[Depends(only_the_other_service)])

_CALLER = (InternalSignatureInvalid,)
_KEY = (IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyInProgress, IdempotencyKeyReused)
_BODY = (MalformedJson, ValidationFailed)


@router.post(
    "", operation_id="createPayment", responses=problem_responses(*_CALLER, *_KEY, *_BODY, PaymentIdentityTaken)
)
async def create_payment(request: Request, parts: TheParts, key: TheKey, body: CreatePayment) -> PaymentAnswer:
    """Set a payment up at the provider, once per payment id."""
    return await _once(request, parts, key, body.payment_id, body, lambda: parts.lifecycle.create(body))


@router.get("/{payment_id}", operation_id="getPayment", responses=problem_responses(*_CALLER, PaymentNotFound))
async def get_payment(parts: TheParts, payment_id: ThePaymentId) -> PaymentAnswer:
    """Say how a payment stands; the provider is asked if our own answer may be old."""
    return await parts.reading.current(payment_id)


@router.post(
    "/{payment_id}/capture",
    operation_id="capturePayment",
    responses=problem_responses(*_CALLER, *_KEY, *_BODY, PaymentNotFound),
)
async def capture_payment(
    request: Request, parts: TheParts, key: TheKey, payment_id: ThePaymentId, body: CapturePayment
) -> PaymentAnswer:
    """Take the full amount that was authorised."""
    return await _once(request, parts, key, payment_id, body, lambda: parts.lifecycle.capture(payment_id))


@router.post(
    "/{payment_id}/cancel",
    operation_id="cancelPayment",
    responses=problem_responses(*_CALLER, *_KEY, *_BODY, PaymentNotFound, PaymentIdentityTaken),
)
async def cancel_payment(
    request: Request, parts: TheParts, key: TheKey, payment_id: ThePaymentId, body: CancelPayment
) -> PaymentAnswer:
    """End a payment without taking money, even one whose create has not arrived yet."""
    return await _once(request, parts, key, payment_id, body, lambda: parts.lifecycle.cancel(payment_id, body))


@router.post(
    "/{payment_id}/refunds",
    operation_id="refundPayment",
    responses=problem_responses(*_CALLER, *_KEY, *_BODY, PaymentNotFound, RefundExceedsPayment),
)
async def refund_payment(
    request: Request, parts: TheParts, key: TheKey, payment_id: ThePaymentId, body: RefundPayment
) -> PaymentAnswer:
    """Give part or all of a captured payment back, once per refund id."""
    return await _once(request, parts, key, payment_id, body, lambda: parts.refunding.refund(payment_id, body))


@router.get(
    "/{payment_id}/timeline",
    operation_id="getPaymentTimeline",
    responses=problem_responses(*_CALLER, PaymentNotFound),
)
async def get_payment_timeline(parts: TheParts, payment_id: ThePaymentId) -> TimelineView:
    """Tell what happened to a payment: one line for each change, call and event, in order."""
    return TimelineView.model_validate({"data": await parts.reading.timeline(payment_id)})


async def _once(
    request: Request,
    parts: Parts,
    key: str,
    payment_id: UUID,
    body: BaseModel,
    act: Callable[[], Awaitable[PaymentAnswer]],
) -> PaymentAnswer:
    """Act under the caller's key; the same key with another body, or on another payment, is refused."""
    mark = fingerprint(request.method, request.url.path, body.model_dump(mode="json"))
    keyed = Keyed(route=request.scope["route"].name, key=key, fingerprint=mark, payment_id=payment_id)
    return await parts.replays.once(keyed, act)
