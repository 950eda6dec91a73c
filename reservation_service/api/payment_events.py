"""The signed internal door: payment_service tells how a payment stands."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from shared.door import TheKey, only_the_other_service
from shared.payment_contract import PaymentEvent, PaymentEventReceipt
from shared.problems import (
    IdempotencyKeyMissing,
    InternalSignatureInvalid,
    MalformedJson,
    ValidationFailed,
    problem_responses,
)

router = APIRouter(tags=["internal"])


@router.post(
    "/internal/v1/payment-events",
    operation_id="receivePaymentEvent",
    response_model=PaymentEventReceipt,
    responses=problem_responses(InternalSignatureInvalid, IdempotencyKeyMissing, MalformedJson, ValidationFailed),
)
async def receive_payment_event(
    parts: TheParts, _caller: Annotated[None, Depends(only_the_other_service)], _key: TheKey, event: PaymentEvent
) -> Response:
    """Take in a payment's full state. Answered after the commit; a repeated or older message is `ignored`."""
    applied = await parts.engine.signal(event)
    result = "applied" if applied else "ignored"
    parts.metrics.signals.labels(result).inc()
    return json_answer(PaymentEventReceipt(result=result, known=parts.engine.heard.say(besides=event.payment_id)))
