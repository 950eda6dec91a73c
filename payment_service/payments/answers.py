"""Words for the other service: how a payment is shown, and what is said when a call was not OK."""

from typing import Any

from payment_service.gateway.results import Result
from payment_service.store.payments import Payment
from shared.payment_contract import CallError, Outcome, PaymentAnswer, PaymentView

PAYMENT_DISPUTED = "payment_disputed"

# Sentences that may reach a guest; Stripe's own never do.
_DETAILS = {
    "payment_canceled": "This payment was cancelled.",
    "payment_not_authorized": "This payment has not been authorised.",
    "payment_processing": "The bank is still working on this payment.",
    "already_captured": "The money was taken before the cancel arrived.",
    PAYMENT_DISPUTED: "The guest's bank has taken this money back for now; it cannot be refunded as well.",
    "amount_too_small": "The amount is below what can be paid by card.",
    "amount_too_large": "The amount is above what can be paid by card.",
    "rate_limited": "The payment provider is busy.",
    "provider_unreachable": "The payment provider cannot be reached.",
    "provider_misconfigured": "The payment provider does not accept our calls; an operator must look.",
    "breaker_open": "The payment provider is not well and is not asked for the moment.",
    "out_of_time": "There was no time left to ask the payment provider.",
    "amount_mismatch": "The payment provider shows another amount than ours; an operator must look.",
}
_BY_OUTCOME = {
    Outcome.DECLINED: "The payment provider refused.",
    Outcome.NOT_SENT: "The payment provider was not asked.",
    Outcome.UNKNOWN: "It is not known yet what the payment provider did.",
    Outcome.TOO_LATE: "That came too late.",
}


class Answers:
    """Builds answers in the contract's words; holds what every view of a payment carries."""

    def __init__(self, publishable_key: str) -> None:
        self._publishable_key = publishable_key

    def ok(self, payment: Payment, *, stale: bool = False) -> PaymentAnswer:
        return PaymentAnswer(outcome=Outcome.OK, payment=self.view(payment), stale=stale)

    def not_ok(
        self, outcome: Outcome, payment: Payment, code: str, retry_after_s: float | None = None
    ) -> PaymentAnswer:
        return PaymentAnswer(
            outcome=outcome, payment=self.view(payment), error=call_error(outcome, code, retry_after_s)
        )

    def of_call(self, result: Result[Any], payment: Payment) -> PaymentAnswer:
        """Say how a call to Stripe ended; the payment tells where that leaves us."""
        if result.outcome is Outcome.OK:
            return self.ok(payment)
        return self.not_ok(result.outcome, payment, result.code, result.retry_after_s)

    def view(self, payment: Payment) -> PaymentView:
        return PaymentView(
            id=payment.id,
            reservation_id=payment.reservation_id,
            generation=payment.generation,
            version=payment.version,
            status=payment.status,
            amount=payment.amount,
            currency=payment.currency,
            captured=payment.captured,
            refunded=payment.refunded,
            client_secret=payment.client_secret,
            publishable_key=self._publishable_key if payment.client_secret else None,
            decline_class=payment.decline_class,
            capture_before=payment.capture_before,
        )


def call_error(outcome: Outcome, code: str, retry_after_s: float | None = None) -> CallError:
    """Put a code into a sentence."""
    wait_ms = int(retry_after_s * 1000) if retry_after_s is not None else None
    detail = _DETAILS.get(code) or _BY_OUTCOME.get(outcome, "That did not work.")
    return CallError(code=code or str(outcome), detail=detail, retry_after_ms=wait_ms)
