"""What may happen when: the statuses of payments, refunds, webhook events and breakers, and the legal moves.

Stripe tells its news late, twice and out of order. Two rules make that harmless: a payment never goes back to an
earlier class (open < authorized < settled), and within a class the newest question to Stripe wins. Imports nothing
of ours but the words both services speak.
"""

from enum import StrEnum

from shared.payment_contract import PaymentStatus as Is

OPEN = frozenset({Is.NONE, Is.SETUP_FAILED, Is.REQUIRES_PAYMENT, Is.REQUIRES_ACTION, Is.PROCESSING})
"""No money is reserved yet; a decline moves around in here."""

CAPTURED = frozenset(
    {
        Is.CAPTURED,
        Is.REFUND_PENDING,
        Is.PARTIALLY_REFUNDED,
        Is.REFUNDED,
        Is.REFUND_FAILED,
        Is.DISPUTED,
        Is.DISPUTE_LOST,
    }
)
"""The money was taken, whatever became of it afterwards."""

SETTLED = CAPTURED | {Is.CANCELED}

UNSETTLED = frozenset(OPEN - {Is.NONE, Is.SETUP_FAILED} | {Is.AUTHORIZED, Is.REFUND_PENDING})
"""What may still change at Stripe without our asking for it."""

_TRYING = frozenset({Is.REQUIRES_PAYMENT, Is.REQUIRES_ACTION, Is.PROCESSING})
_REFUNDS = frozenset({Is.REFUND_PENDING, Is.PARTIALLY_REFUNDED, Is.REFUNDED, Is.REFUND_FAILED})

LEGAL_MOVES: dict[Is, frozenset[Is]] = {
    Is.NONE: _TRYING | {Is.SETUP_FAILED, Is.AUTHORIZED, Is.CAPTURED, Is.CANCELED},
    Is.SETUP_FAILED: frozenset({Is.CANCELED}),
    Is.REQUIRES_PAYMENT: (_TRYING - {Is.REQUIRES_PAYMENT}) | {Is.AUTHORIZED, Is.CAPTURED, Is.CANCELED},
    Is.REQUIRES_ACTION: (_TRYING - {Is.REQUIRES_ACTION}) | {Is.AUTHORIZED, Is.CAPTURED, Is.CANCELED},
    Is.PROCESSING: (_TRYING - {Is.PROCESSING}) | {Is.AUTHORIZED, Is.CAPTURED, Is.CANCELED},
    Is.AUTHORIZED: frozenset({Is.CAPTURED, Is.CANCELED}),
    Is.CAPTURED: _REFUNDS | {Is.DISPUTED},
    # A refund that Stripe cancels leaves the payment as it was before it.
    Is.REFUND_PENDING: (_REFUNDS - {Is.REFUND_PENDING}) | {Is.CAPTURED, Is.DISPUTED},
    Is.PARTIALLY_REFUNDED: frozenset({Is.REFUND_PENDING, Is.REFUNDED, Is.REFUND_FAILED, Is.DISPUTED}),
    # A refund may fail days after it looked done.
    Is.REFUNDED: frozenset({Is.REFUND_FAILED, Is.DISPUTED}),
    Is.REFUND_FAILED: frozenset({Is.REFUND_PENDING, Is.PARTIALLY_REFUNDED, Is.REFUNDED, Is.DISPUTED}),
    Is.DISPUTED: _REFUNDS | {Is.CAPTURED, Is.DISPUTE_LOST},
    Is.DISPUTE_LOST: frozenset(),
    Is.CANCELED: frozenset(),
    # Paid elsewhere: reservation_service's word, no row of ours is ever in it.
    Is.EXTERNAL: frozenset(),
}


def class_of(status: Is) -> int:
    """Return how far a payment has come: 0 open, 1 authorized, 2 settled."""
    return 0 if status in OPEN else 1 if status == Is.AUTHORIZED else 2


class RefundStatus(StrEnum):
    """A refund's state; `requested` means that Stripe has not surely heard of it."""

    REQUESTED = "requested"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


REFUND_MOVES: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.REQUESTED: frozenset(RefundStatus) - {RefundStatus.REQUESTED},
    RefundStatus.PENDING: frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.CANCELED}),
    RefundStatus.SUCCEEDED: frozenset({RefundStatus.FAILED}),
    RefundStatus.FAILED: frozenset(),
    RefundStatus.CANCELED: frozenset(),
}

REFUND_WITHOUT_EFFECT = frozenset({RefundStatus.FAILED, RefundStatus.CANCELED})
"""Refunds that took nothing from the payment, so that their amount may be refunded again."""


class DisputeStatus(StrEnum):
    """A dispute's state; an inquiry takes no money, an open one has taken it for now."""

    INQUIRY = "inquiry"
    INQUIRY_CLOSED = "inquiry_closed"
    OPEN = "open"
    WON = "won"
    LOST = "lost"


_DECIDED = frozenset({DisputeStatus.WON, DisputeStatus.LOST})
DISPUTE_MOVES: dict[DisputeStatus, frozenset[DisputeStatus]] = {
    DisputeStatus.INQUIRY: frozenset({DisputeStatus.INQUIRY_CLOSED, DisputeStatus.OPEN}) | _DECIDED,
    DisputeStatus.INQUIRY_CLOSED: frozenset({DisputeStatus.OPEN}) | _DECIDED,
    DisputeStatus.OPEN: _DECIDED,
    DisputeStatus.WON: frozenset(),
    DisputeStatus.LOST: frozenset(),
}

DISPUTE_HOLDS_MONEY = frozenset({DisputeStatus.OPEN, DisputeStatus.LOST})
"""Disputes whose amount is not ours, for now or for good: it cannot be refunded as well."""


class Account(StrEnum):
    """Where the money of a payment can be, seen from us; `guest` is everything on the other side of the card."""

    GUEST = "guest"
    RESERVED = "reserved"
    BALANCE = "balance"
    REFUNDING = "refunding"
    DISPUTED = "disputed"


class Posting(StrEnum):
    """What the ledger tells: each is one transaction of two entries."""

    AUTHORIZED = "authorized"
    VOIDED = "voided"
    CAPTURED = "captured"
    REFUND_REQUESTED = "refund_requested"
    REFUND_SETTLED = "refund_settled"
    REFUND_FAILED = "refund_failed"
    REFUND_REVERSED = "refund_reversed"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"


POSTINGS: dict[Posting, tuple[Account, Account]] = {
    Posting.AUTHORIZED: (Account.GUEST, Account.RESERVED),
    Posting.VOIDED: (Account.RESERVED, Account.GUEST),
    Posting.CAPTURED: (Account.RESERVED, Account.BALANCE),
    Posting.REFUND_REQUESTED: (Account.BALANCE, Account.REFUNDING),
    Posting.REFUND_SETTLED: (Account.REFUNDING, Account.GUEST),
    Posting.REFUND_FAILED: (Account.REFUNDING, Account.BALANCE),
    # The bank sent it back days after it was done.
    Posting.REFUND_REVERSED: (Account.GUEST, Account.BALANCE),
    Posting.DISPUTE_OPENED: (Account.BALANCE, Account.DISPUTED),
    Posting.DISPUTE_WON: (Account.DISPUTED, Account.BALANCE),
    Posting.DISPUTE_LOST: (Account.DISPUTED, Account.GUEST),
}
"""From which account to which: what leaves one arrives at the other, so every transaction sums to zero."""


class Book(StrEnum):
    """The lists of Stripe's that an audit compares with ours."""

    INTENTS = "payment_intents"
    REFUNDS = "refunds"
    DISPUTES = "disputes"


class BreakerName(StrEnum):
    """Which calls are cut off together: those that guests wait for, or those that nobody waits for."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class BreakerState(StrEnum):
    """Closed lets calls through, open none; half open lets one try."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class EventStatus(StrEnum):
    """Where a webhook event stands; the first two are claimable, the others say why nothing is left to do."""

    RECEIVED = "received"
    PROCESSING = "processing"
    PROCESSED = "processed"
    IGNORED = "ignored"
    DEAD = "dead"


class ReplayStatus(StrEnum):
    """Where a replay of many events stands; only a running one moves."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class ReplayItem(StrEnum):
    """What became of one event of a replay: its turn has not come, it was sent round, or it had moved on by itself."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    SKIPPED = "skipped"


class Pass(StrEnum):
    """What the reconciler compares."""

    EVENTS = "events"
    INTENTS = "intents"


class FindingKind(StrEnum):
    """What the reconciler found at Stripe that no row of ours knew, and what it did about it."""

    ADOPTED = "adopted"
    ORPHAN_CANCELED = "orphan_canceled"
    ORPHAN_CAPTURED = "orphan_captured"
