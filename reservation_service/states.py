"""What may happen when: the statuses of a booking and of a saga, their legal moves, and who owns each status.

One booking has one row and one id from hold to refund. Exactly one party makes the next move of each status, so the
sweeper can never free a seat that is being paid for. Imports nothing of ours.
"""

from enum import StrEnum


class BookingStatus(StrEnum):
    """The status of the row that is a hold first and a reservation later."""

    HELD = "held"
    EXPIRED = "expired"
    RELEASED = "released"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_ATTENTION = "needs_attention"


OWNERS: dict[BookingStatus, str] = {
    BookingStatus.HELD: "the guest, else the sweeper",
    BookingStatus.EXPIRED: "nobody",
    BookingStatus.RELEASED: "nobody",
    BookingStatus.PENDING: "its saga",
    BookingStatus.CONFIRMED: "the guest or an operator (cancel)",
    BookingStatus.FAILED: "nobody (late money may rebook)",
    BookingStatus.CANCELLED: "nobody",
    BookingStatus.NEEDS_ATTENTION: "an operator",
}

LEGAL_MOVES: dict[BookingStatus, frozenset[BookingStatus]] = {
    BookingStatus.HELD: frozenset({BookingStatus.PENDING, BookingStatus.EXPIRED, BookingStatus.RELEASED}),
    BookingStatus.EXPIRED: frozenset(),
    BookingStatus.RELEASED: frozenset(),
    BookingStatus.PENDING: frozenset(
        {BookingStatus.CONFIRMED, BookingStatus.CANCELLED, BookingStatus.FAILED, BookingStatus.NEEDS_ATTENTION}
    ),
    BookingStatus.CONFIRMED: frozenset({BookingStatus.CANCELLED}),
    BookingStatus.FAILED: frozenset({BookingStatus.PENDING}),
    BookingStatus.CANCELLED: frozenset(),
    BookingStatus.NEEDS_ATTENTION: frozenset(
        {BookingStatus.PENDING, BookingStatus.CONFIRMED, BookingStatus.CANCELLED, BookingStatus.FAILED}
    ),
}

PINNED = frozenset({BookingStatus.HELD, BookingStatus.PENDING, BookingStatus.CONFIRMED})
"""Statuses whose seats are always in the slot's `taken`; `needs_attention` is as `seats_pinned` says."""

CONVERTED = frozenset(BookingStatus) - {BookingStatus.HELD, BookingStatus.EXPIRED, BookingStatus.RELEASED}
"""Statuses of a booking that is a reservation; before them, GET of the reservation answers 404."""


class ReleasedBy(StrEnum):
    """Who gave a hold back; only what a guest gave back stays given back under the same idempotency key."""

    GUEST = "guest"
    SYSTEM = "system"
    OPERATOR = "operator"


class Notice(StrEnum):
    """What a guest must be told of a booking beside its status; the words for it are the frontend's."""

    REBOOKED = "rebooked"
    REFUNDED_RESOLD = "refunded_resold"
    REFUNDED_CLOSED = "refunded_closed"
    REFUNDED_NEWER_BOOKING = "refunded_newer_booking"
    REFUNDED_CANCELLED = "refunded_cancelled"
    REFUNDED_OLDER_PAYMENT = "refunded_older_payment"
    REFUNDED_LATE = "refunded_late"
    REFUNDED_BY_HAND = "refunded_by_hand"
    PAYMENT_DISPUTED = "payment_disputed"
    DISPUTE_LOST = "dispute_lost"


NOTICES: dict[Notice, str] = {
    Notice.REBOOKED: "The payment came late; the seats were still free and are booked after all.",
    Notice.REFUNDED_RESOLD: "The payment came late and the seats were sold meanwhile; all of it goes back.",
    Notice.REFUNDED_CLOSED: "The payment came late and the departure is not sold any more; all of it goes back.",
    Notice.REFUNDED_NEWER_BOOKING: "The payment came late and there is a newer booking of it; all of it goes back.",
    Notice.REFUNDED_CANCELLED: "The payment came after the booking had been cancelled; all of it goes back.",
    Notice.REFUNDED_OLDER_PAYMENT: "An earlier payment of this booking was made too; that one goes back.",
    Notice.REFUNDED_LATE: "The payment came late; all of it goes back.",
    Notice.REFUNDED_BY_HAND: "All of the money was given back by hand; the booking stands until it is cancelled.",
    Notice.PAYMENT_DISPUTED: "The payment is disputed at the bank; the booking stands meanwhile.",
    Notice.DISPUTE_LOST: "The dispute was decided for the cardholder; the booking stands until it is cancelled.",
}


class LatePaymentPolicy(StrEnum):
    """What an experience does with money that comes after its seats went back."""

    REBOOK_OR_REFUND = "rebook_or_refund"
    REFUND = "refund"


class BegunBy(StrEnum):
    """What a saga was begun by: a guest who converts, or money that came when the booking was over."""

    CONVERT = "convert"
    LATE_MONEY = "late_money"


class CancelledBy(StrEnum):
    """Who asked for the end of a booking; only an operator may waive its terms."""

    GUEST = "guest"
    OPERATOR = "operator"


class SlotStatus(StrEnum):
    """Whether a time slot sells."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class CancellationStatus(StrEnum):
    """How far the cancellation of a slot has come; `awaiting_refund`: only money, or cases for a person, are left."""

    RUNNING = "running"
    AWAITING_REFUND = "awaiting_refund"
    FINISHED = "finished"


class SagaStatus(StrEnum):
    """Where a saga stands; `running`, `waiting` and `unwinding` are live."""

    RUNNING = "running"
    WAITING = "waiting"
    UNWINDING = "unwinding"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    NEEDS_ATTENTION = "needs_attention"


LIVE_SAGA = frozenset({SagaStatus.RUNNING, SagaStatus.WAITING, SagaStatus.UNWINDING})

LEGAL_SAGA_MOVES: dict[SagaStatus, frozenset[SagaStatus]] = {
    SagaStatus.RUNNING: frozenset(
        {SagaStatus.WAITING, SagaStatus.UNWINDING, SagaStatus.COMPLETED, SagaStatus.NEEDS_ATTENTION}
    ),
    SagaStatus.WAITING: frozenset({SagaStatus.RUNNING, SagaStatus.UNWINDING}),
    SagaStatus.UNWINDING: frozenset({SagaStatus.COMPENSATED, SagaStatus.RUNNING, SagaStatus.NEEDS_ATTENTION}),
    SagaStatus.COMPLETED: frozenset({SagaStatus.UNWINDING}),
    # Money that turns out not to be back, or that comes after all, opens a saga again.
    SagaStatus.COMPENSATED: frozenset({SagaStatus.UNWINDING, SagaStatus.NEEDS_ATTENTION}),
    SagaStatus.NEEDS_ATTENTION: frozenset(
        {SagaStatus.RUNNING, SagaStatus.UNWINDING, SagaStatus.COMPLETED, SagaStatus.COMPENSATED}
    ),
}
