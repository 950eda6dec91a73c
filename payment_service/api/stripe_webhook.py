"""Stripe's door: raw bytes in, and 200 only once the event is stored for good."""

from fastapi import APIRouter, Request

from payment_service.api.dependencies import TheParts
from payment_service.errors import WebhookMalformed, WebhookSignatureInvalid
from shared.problems import PayloadTooLarge, ServiceUnavailable, problem_responses

PATH = "/webhooks/stripe"
BODY_LIMIT_BYTES = 1024 * 1024

router = APIRouter(tags=["webhooks"])


@router.post(
    PATH,
    operation_id="receiveStripeEvent",
    responses=problem_responses(WebhookSignatureInvalid, WebhookMalformed, PayloadTooLarge, ServiceUnavailable),
)
async def receive_stripe_event(request: Request, parts: TheParts) -> dict[str, bool]:
    """Take one event of Stripe's in. Answered after the commit; a repeated one is a `duplicate`."""
    body = await request.body()
    signatures = request.headers.getlist("stripe-signature")
    duplicate = await parts.inbox.accept(body, signatures[0] if len(signatures) == 1 else None)
    return {"received": True, "duplicate": duplicate}
