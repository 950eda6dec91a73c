"""Every feature flag of this service: off changes comfort and recovery time, never whether money is right."""

from shared.flags import Flag
from shared.telling import TELLING

WEBHOOK_INBOX = "webhook_inbox"
SETTLE_AT_THE_DOOR = "settle_at_the_door"
PAYMENT_RETRIES = "payment_retries"
CIRCUIT_BREAKER = "circuit_breaker"
RECONCILIATION = "reconciliation"
SIGNED_INTERNAL_CALLS = "signed_internal_calls"

FLAGS = (
    Flag(
        WEBHOOK_INBOX,
        off_means="events are stored and deduplicated, then processed before the answer; a failure answers 503",
    ),
    Flag(
        SETTLE_AT_THE_DOOR,
        off_means="Stripe is asked about every event, at the pace, before it has its effect; payments are known later",
    ),
    Flag(PAYMENT_RETRIES, off_means="one attempt per call to Stripe; the saga and the queues still ask again later"),
    Flag(CIRCUIT_BREAKER, off_means="Stripe is called however many calls failed; nothing is counted"),
    Flag(
        RECONCILIATION,
        off_means="nobody compares Stripe's book with ours: what no webhook tells is learnt when a guest or saga asks",
    ),
    Flag(SIGNED_INTERNAL_CALLS, off_means="a shared bearer secret is sent, and accepted too; never anonymous"),
    *TELLING,
)
