"""The signed internal door: payment_service tells how a payment stands."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import Parts, TheKey, TheParts
from reservation_service.flags import SIGNED_INTERNAL_CALLS
from shared.payment_contract import PaymentEvent, PaymentEventReceipt
from shared.problems import (
    IdempotencyKeyMissing,
    InternalSignatureInvalid,
    MalformedJson,
    ValidationFailed,
    problem_responses,
)

router = APIRouter(tags=["internal"])


async def _signed(request: Request) -> None:
    """Let in only payment_service.

    Signatures are always accepted; the bearer secret only while the flag is off, and never an empty one.
    """
    parts: Parts = request.app.state.parts
    bearer = parts.settings.internal_bearer_secret.get_secret_value()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if bearer and scheme.lower() == "bearer" and not parts.flags.is_on(SIGNED_INTERNAL_CALLS):
        if secrets.compare_digest(token.encode(), bearer.encode()):
            return
        raise InternalSignatureInvalid
    parts.signer.verify(request.method, str(request.url), dict(request.headers), await request.body())


@router.post(
    "/internal/v1/payment-events",
    operation_id="receivePaymentEvent",
    response_model=PaymentEventReceipt,
    responses=problem_responses(InternalSignatureInvalid, IdempotencyKeyMissing, MalformedJson, ValidationFailed),
)
async def receive_payment_event(
    parts: TheParts, _caller: Annotated[None, Depends(_signed)], _key: TheKey, event: PaymentEvent
) -> Response:
    """Take in a payment's full state. Answered after the commit; a repeated or older message is `ignored`."""
    applied = await parts.engine.signal(event)
    result = "applied" if applied else "ignored"
    parts.metrics.signals.labels(result).inc()
    return json_answer(PaymentEventReceipt(result=result))
