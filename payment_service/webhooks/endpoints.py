"""Asks Stripe whether it sends us every type of event that we need: a type nobody subscribed to is missed silently.

Nothing waits for the answer. A service starts and takes events while Stripe is away, or while types are missing.
"""

import structlog

from payment_service.gateway.results import EndpointSeen
from payment_service.gateway.stripe import StripeGateway
from payment_service.metrics import Metrics
from payment_service.webhooks.handlers import HANDLERS
from shared.crashpoints import external_call

log = structlog.get_logger()

REQUIRED_EVENT_TYPES = frozenset(HANDLERS)
_NOT_KNOWN = -1


class EventTypesMissing(Exception):
    """Stripe has no endpoint of ours that asks for these types."""


class EndpointWatch:
    """`our_url` is our endpoint's address at Stripe; empty when every enabled endpoint of the account counts."""

    def __init__(self, gateway: StripeGateway, metrics: Metrics, *, our_url: str) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._our_url = our_url
        self._missing: frozenset[str] = frozenset()

    async def look(self) -> int:
        """Compare what Stripe sends with what we handle; what is not known leaves the last word standing."""
        async with external_call("list_webhook_endpoints"):
            found = await self._gateway.list_webhook_endpoints()
        if found.value is None:
            self._metrics.event_types_missing.set(_NOT_KNOWN)
            log.warning("webhook_endpoints_not_known", code=found.code)
            return 0
        sent = {name for endpoint in found.value if self._is_ours(endpoint) for name in endpoint.types}
        self._missing = frozenset() if "*" in sent else REQUIRED_EVENT_TYPES - sent
        self._metrics.event_types_missing.set(len(self._missing))
        if self._missing:
            log.error("webhook_event_types_missing", types=sorted(self._missing))
        return 0

    def _is_ours(self, endpoint: EndpointSeen) -> bool:
        return endpoint.enabled and self._our_url in {"", endpoint.url}

    async def check(self) -> None:
        """Raise EventTypesMissing if the last look found any: the service is degraded, not down."""
        if self._missing:
            raise EventTypesMissing(", ".join(sorted(self._missing)))
