"""The two ways to Stripe: one for what guests wait for, one for all else, so that an outage of one leaves the other open.

They share the connections and differ in their breaker. Writes that a guest waits for go the interactive way; reads,
refunds, and whatever webhooks and other jobs ask go the background way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from payment_service.gateway.breaker import Breaker
from payment_service.gateway.guarded import CallWatch, GuardedGateway, Patience
from payment_service.gateway.stripe import StripeGateway
from payment_service.gateway.window import Policy
from payment_service.settings import PaymentSettings
from payment_service.states import BreakerName
from shared.clock import Clock


@dataclass(frozen=True)
class Ways:
    interactive: GuardedGateway
    background: GuardedGateway


def ways_to_stripe(
    settings: PaymentSettings,
    gateway: StripeGateway,
    breakers: Mapping[BreakerName, Breaker],
    *,
    clock: Clock,
    retries_enabled: Callable[[], bool],
    watch: CallWatch,
) -> Ways:
    """Put patience and a breaker before the gateway, twice."""
    patience = Patience(
        attempt_s=settings.stripe_timeout_s,
        max_attempts=settings.retry_max_attempts,
        first_wait_s=settings.retry_first_wait_s,
        max_wait_s=settings.retry_max_wait_s,
    )

    def way(name: BreakerName) -> GuardedGateway:
        return GuardedGateway(
            gateway, patience, breakers[name], clock=clock, retries_enabled=retries_enabled, watch=watch
        )

    return Ways(way(BreakerName.INTERACTIVE), way(BreakerName.BACKGROUND))


def breaker_policy(settings: PaymentSettings) -> Policy:
    """Return when breakers open and how they heal."""
    return Policy(
        error_rate=settings.breaker_error_rate,
        min_calls=settings.breaker_min_calls,
        window_s=settings.breaker_window_s,
        rest_s=settings.breaker_rest_s,
        probe_lease_s=settings.breaker_probe_lease_s,
        ramp_s=settings.breaker_ramp_s,
    )
