"""What each Stripe event makes us look at; the names on the left are Stripe's, so that one can grep from its docs.

An event says that something happened, not what is true: each handler asks Stripe for the object as it is now.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from payment_service.gateway.paced import PacedGateway
from payment_service.gateway.results import DisputeSeen, IntentSeen, RefundSeen, Result, done
from payment_service.store.webhook_events import Hint
from shared.crashpoints import external_call


@dataclass(frozen=True)
class Findings:
    """What Stripe showed: the payment, and the refunds or the dispute that the event was about."""

    intent: IntentSeen
    refunds: tuple[RefundSeen, ...] = ()
    dispute: DisputeSeen | None = None


Handler = Callable[[PacedGateway, Hint, float], Awaitable[Result[Findings]]]


async def look_at_intent(provider: PacedGateway, hint: Hint, deadline: float) -> Result[Findings]:
    """Fetch the PaymentIntent as it is now."""
    async with external_call("fetch_hinted_intent"):
        seen = await provider.retrieve_intent(hint.intent_id, deadline=deadline)
    return done(Findings(seen.value)) if seen.value else _failed(seen)


async def look_at_refund(provider: PacedGateway, hint: Hint, deadline: float) -> Result[Findings]:
    """Fetch one refund, and the PaymentIntent that it belongs to."""
    async with external_call("fetch_hinted_refund"):
        refund = await provider.retrieve_refund(hint.object_id, deadline=deadline)
    if refund.value is None:
        return _failed(refund)
    found = await look_at_intent(provider, replace(hint, intent_id=refund.value.intent_id), deadline)
    return done(replace(found.value, refunds=(refund.value,))) if found.value else found


async def look_at_all_refunds(provider: PacedGateway, hint: Hint, deadline: float) -> Result[Findings]:
    """Fetch the PaymentIntent and all its refunds; a charge's event does not say which one it was."""
    found = await look_at_intent(provider, hint, deadline)
    return await _with_all_refunds(provider, found.value, deadline) if found.value else found


async def look_at_refund_among_all(provider: PacedGateway, hint: Hint, deadline: float) -> Result[Findings]:
    """Fetch one refund once more, and all others of its PaymentIntent: one of these may have come back unheard."""
    found = await look_at_refund(provider, hint, deadline)
    return await _with_all_refunds(provider, found.value, deadline) if found.value else found


async def _with_all_refunds(provider: PacedGateway, found: Findings, deadline: float) -> Result[Findings]:
    """Add all refunds of the intent to what was found, the oldest first, and what was found itself last."""
    async with external_call("fetch_hinted_refunds"):
        refunds = await provider.list_refunds(found.intent.id, deadline=deadline)
    if refunds.value is None:
        return _failed(refunds)
    known = {refund.id for refund in found.refunds}
    others = [refund for refund in reversed(refunds.value) if refund.id not in known]
    return done(replace(found, refunds=(*others, *found.refunds)))


async def look_at_dispute(provider: PacedGateway, hint: Hint, deadline: float) -> Result[Findings]:
    """Fetch a dispute, and the PaymentIntent whose money it is about."""
    async with external_call("fetch_hinted_dispute"):
        dispute = await provider.retrieve_dispute(hint.object_id, deadline=deadline)
    if dispute.value is None:
        return _failed(dispute)
    found = await look_at_intent(provider, replace(hint, intent_id=dispute.value.intent_id), deadline)
    return done(replace(found.value, dispute=dispute.value)) if found.value else found


def _failed(result: Result[Any]) -> Result[Findings]:
    return Result(result.outcome, code=result.code, retry_after_s=result.retry_after_s)


HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "payment_intent.created": look_at_intent,
        "payment_intent.requires_action": look_at_intent,
        "payment_intent.processing": look_at_intent,
        "payment_intent.amount_capturable_updated": look_at_intent,
        "payment_intent.succeeded": look_at_intent,
        "payment_intent.payment_failed": look_at_intent,
        "payment_intent.canceled": look_at_intent,
        "charge.refunded": look_at_all_refunds,
        "refund.created": look_at_refund,
        "refund.updated": look_at_refund,
        "refund.failed": look_at_refund,
        "charge.dispute.created": look_at_dispute,
        "charge.dispute.updated": look_at_dispute,
        "charge.dispute.closed": look_at_dispute,
        "charge.dispute.funds_withdrawn": look_at_dispute,
        "charge.dispute.funds_reinstated": look_at_dispute,
    }
)
"""Every other type is stored and ignored."""

ONCE_MORE: Mapping[Handler, Handler] = MappingProxyType({look_at_refund: look_at_refund_among_all})
"""What looks in a handler's stead when an event has been tried before."""

UNHANDLED_TYPE = "unhandled-type"
"""The reason why."""

OWN_OBJECT = frozenset({look_at_refund, look_at_dispute})
"""Handlers that fetch the very object an event names: events about two objects need two looks."""
