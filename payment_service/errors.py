"""Every refusal of this service: its status, its code, and what to do about it.

    Problem
    ├── WebhookSignatureInvalid, WebhookMalformed                          400
    ├── PaymentNotFound, WebhookEventNotFound, WebhookReplayNotFound       404
    ├── BreakerNotFound                                                    404
    ├── RefundExceedsPayment, PaymentIdentityTaken, EventAlreadyProcessed  409
    ├── WebhookReplayClosed                                                409
    ├── CursorUnknown                                                      422
    ├── ProviderAway                                                       503
    └── (from shared) the Idempotency-Key, tokens, signatures, bodies

What Stripe refuses is no problem document: it is the outcome `declined` of a 200 answer.
"""

from shared.problems import NotFound, Problem


class WebhookSignatureInvalid(Problem):
    status, code, title = 400, "WEBHOOK_SIGNATURE_INVALID", "The signature does not fit these bytes and this time"


class WebhookMalformed(Problem):
    status, code, title = 400, "MALFORMED_JSON", "The body is not an event object"


class PaymentNotFound(NotFound):
    code, title = "PAYMENT_NOT_FOUND", "There is no such payment"


class WebhookEventNotFound(NotFound):
    code, title = "WEBHOOK_EVENT_NOT_FOUND", "There is no such webhook event"


class BreakerNotFound(NotFound):
    code, title = "BREAKER_NOT_FOUND", "There is no such breaker"


class WebhookReplayNotFound(NotFound):
    code, title = "WEBHOOK_REPLAY_NOT_FOUND", "There is no such replay"


class WebhookReplayClosed(Problem):
    status, code, title = 409, "WEBHOOK_REPLAY_CLOSED", "This replay has ended, or its plan is too old; plan a new one"


class PaymentIdentityTaken(Problem):
    status, code, title = (
        409,
        "PAYMENT_IDENTITY_TAKEN",
        "This payment, or its reservation and generation, is another one",
    )


class RefundExceedsPayment(Problem):
    status, code, title = 409, "REFUND_EXCEEDS_PAYMENT", "More than what was captured cannot go back"


class CursorUnknown(Problem):
    status, code, title = 422, "CURSOR_UNKNOWN", "Stripe knows no such object; begin again without a cursor"


class ProviderAway(Problem):
    status, code, title = 503, "PROVIDER_AWAY", "Stripe cannot be asked right now; the same call again is safe"
    retryable = True


class EventAlreadyProcessed(Problem):
    status, code, title = 409, "EVENT_ALREADY_PROCESSED", "This event has had its effect; nothing is left to replay"
