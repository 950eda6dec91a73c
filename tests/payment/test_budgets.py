"""The numbers that were decided, and that each wait ends before the one that waits for it."""

from types import SimpleNamespace
from typing import cast

from payment_service.gateway.guarded import Patience
from payment_service.gateway.stripe import StripeGateway
from payment_service.gateway.ways import breaker_policy, ways_to_stripe
from payment_service.gateway.window import Policy
from payment_service.settings import PaymentSettings
from payment_service.states import BreakerName
from reservation_service.settings import ReservationSettings
from shared.clock import SystemClock
from tests.payment.breaker_bench import HandClock, Notes, a_breaker

PAYMENT = SimpleNamespace(**{name: field.default for name, field in PaymentSettings.model_fields.items()})
RESERVATION = SimpleNamespace(**{name: field.default for name, field in ReservationSettings.model_fields.items()})


def test_a_call_has_the_patience_that_was_decided() -> None:
    """Five seconds an attempt, three attempts, waits of one to ten seconds, for what guests wait for and for all else."""
    breakers = {name: a_breaker(HandClock()) for name in BreakerName}
    ways = ways_to_stripe(
        PAYMENT,  # type: ignore[arg-type]
        cast("StripeGateway", None),  # nothing is sent here
        breakers,
        clock=SystemClock(),
        retries_enabled=lambda: True,
        watch=Notes(),  # type: ignore[arg-type]
    )
    for way in (ways.interactive, ways.background):
        assert way._patience == Patience(attempt_s=5, max_attempts=3, first_wait_s=1, max_wait_s=10)


def test_breakers_open_as_decided() -> None:
    """Half of at least ten calls in thirty seconds; thirty seconds of rest; a prober is replaced after fifteen."""
    decided = Policy(error_rate=0.5, min_calls=10, window_s=10, rest_s=30, probe_lease_s=15, ramp_s=5)
    assert breaker_policy(PAYMENT) == decided  # type: ignore[arg-type]


def test_each_wait_ends_before_the_one_around_it() -> None:
    """Attempt, gateway, internal call, convert: who asks is still there when the answer comes; leases outlive the work."""
    waits_s = (
        PAYMENT.stripe_connect_timeout_s,
        PAYMENT.stripe_timeout_s,
        PAYMENT.gateway_budget_s,
        RESERVATION.internal_call_timeout_s,
        RESERVATION.convert_budget_s,
        RESERVATION.saga_lease_seconds,
    )
    assert waits_s == (2, 5, 9, 10, 11, 45)
    assert PAYMENT.background_budget_s == 30
    assert PAYMENT.webhook_lease_seconds > PAYMENT.background_budget_s
    assert PAYMENT.breaker_probe_lease_s > PAYMENT.stripe_timeout_s
    assert PAYMENT.idempotency_lease_s > RESERVATION.internal_call_timeout_s
    assert PAYMENT.stripe_key_trusted_h == 23
