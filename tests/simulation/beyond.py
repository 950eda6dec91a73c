"""What no world reaches, and why: every other legal move, and every other crash point, must be reached by 5,000 of them.

A reason says what reaches it instead, or why nothing can. New moves and points are demanded from the day they are there.
"""

from __future__ import annotations

from tests.architecture.crash_points import CrashPlace, crash_places

_NOT_SIMULATED = {
    "payment_service.api": "an operator's door of payment_service; the worlds' operators are those of bookings",
    "payment_service.background": "forgets answers after 30 days: no world is that long",
    "payment_service.payments.exporting": "the audit of a running system reads, and moves nothing",
    "payment_service.payments.ledger": "posts what an older release left unposted",
    "payment_service.webhooks.endpoints": "looks at how Stripe is set up, and moves nothing",
    "payment_service.webhooks.replaying": "an operator's door of payment_service",
    "reservation_service.api": "rate limits stand before the behaviours, which are what is simulated",
    "reservation_service.booking.api_keys": "the callers of a world have no keys",
    "reservation_service.booking.catalogue": "what is on sale is there before a world begins",
    "reservation_service.booking.discounts": "no discounts",
    "reservation_service.booking.group_admission": "holds are admitted one by one: groups speak to asyncpg itself",
    "reservation_service.booking.slow_lane": "no discounts, and nobody replaces an older hold",
    "reservation_service.booking.timeline": "reads, and moves nothing",
    "shared.flags": "flags stay as the seed has them",
    "shared.signing_keys": "signatures have tests of their own",
}
_POINTS = {
    "add_time_slot": "what is on sale is there before a world begins",
    "force_breaker": "an operator's door of payment_service",
    "note_orphan": "needs a database that has lost rows: tests/faults/test_failover.py",
    "forget_keys": "a month is longer than a world",
    "bury_event": "needs a worker that dies at every try, or an object that Stripe denies to know",
    "find_refund": "needs a refund whose key is spent on a stored failure, and whose answer was lost: tests/payment/test_refunds.py",
    "cancel_orphan": "needs a database that has lost rows: tests/faults/test_failover.py",
}


def _reason(place: CrashPlace) -> str | None:
    room = place.module.name
    reasons = [reason for part, reason in _NOT_SIMULATED.items() if room == part or room.startswith(f"{part}.")]
    return next(iter(reasons), _POINTS.get(place.name or ""))


POINTS_NOT_PASSED = {point: reason for place in crash_places() if (reason := _reason(place)) for point in place.points}

_SECRET = (
    "the guest pays with a secret that is stored, and told, together with the first status after `none`:"
    " only a database that has lost rows sees more than that at first"
)
_RARE = "two rare things must meet in one world: some of 5,000 have seen it, and the code's next change may miss it"

_FIRST_LOOK = ("tests.payment.test_first_looks", "test_a_payment_that_is_far_along_when_it_is_first_seen")
_REFUND_UNDER_WAY = ("tests.payment.test_disputes", "test_a_dispute_begins_and_ends_while_a_refund_is_under_way")
_REFUND_UNHEARD = ("tests.payment.test_disputes", "test_a_refund_fails_unheard_and_its_money_is_disputed")
_ON_A_PERSONS_WORD = ("tests.reservation.test_saga_verbs", "test_nobody_s_word_makes_money")

TAKEN_BY: dict[tuple[str, str, str], tuple[str, str]] = {
    **{("payment", "none", far): _FIRST_LOOK for far in ("authorized", "captured", "processing", "requires_action")},
    ("payment", "refund_pending", "disputed"): _REFUND_UNDER_WAY,
    ("payment", "disputed", "refund_pending"): _REFUND_UNDER_WAY,
    ("payment", "refunded", "disputed"): _REFUND_UNHEARD,
    ("payment", "disputed", "refunded"): _REFUND_UNHEARD,
    ("booking", "needs_attention", "confirmed"): _ON_A_PERSONS_WORD,
    ("booking", "needs_attention", "failed"): (
        "tests.reservation.test_saga_verbs",
        "test_resolving_ends_it_on_a_person_s_word",
    ),
    ("saga", "needs_attention", "completed"): _ON_A_PERSONS_WORD,
    ("saga", "compensated", "unwinding"): (
        "tests.reservation.test_money_back",
        "test_a_refund_that_is_called_back_is_not_forgotten",
    ),
}
"""The ordinary test that makes such a move; its mark says so, and its fixture looks whether that is true."""


MOVES_NOT_MADE = {move: _SECRET if move[:2] == ("payment", "none") else _RARE for move in TAKEN_BY}
