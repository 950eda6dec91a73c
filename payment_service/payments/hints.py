"""Turns an event of Stripe's, delivered at our door or found in its list, into the hint that is stored."""

from payment_service.gateway.results import EventSeen
from payment_service.store.webhook_events import Hint


def hint_of(seen: EventSeen) -> Hint:
    return Hint(seen.id, seen.type, seen.object_id, seen.intent_id, seen.livemode)
