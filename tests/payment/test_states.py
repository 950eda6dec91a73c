"""The tables of what may happen when are complete, and no news can move money backwards."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from payment_service.gateway import wire_objects
from payment_service.gateway.results import IntentSeen
from payment_service.payments import recording
from payment_service.states import CAPTURED, LEGAL_MOVES, OPEN, REFUND_MOVES, SETTLED, RefundStatus, class_of
from payment_service.store.payments import Payment
from payment_service.webhooks.handlers import HANDLERS
from shared.payment_contract import PaymentStatus

SHOWN_BY_STRIPE = (
    PaymentStatus.REQUIRES_PAYMENT,
    PaymentStatus.REQUIRES_ACTION,
    PaymentStatus.PROCESSING,
    PaymentStatus.AUTHORIZED,
    PaymentStatus.CAPTURED,
    PaymentStatus.CANCELED,
)
OURS = [status for status in PaymentStatus if status is not PaymentStatus.EXTERNAL]


def a_payment(status: PaymentStatus) -> Payment:
    now = datetime.now(UTC)
    captured = 4500 if status in CAPTURED else 0
    return Payment(
        id=uuid4(),
        reservation_id=uuid4(),
        generation=1,
        status=status,
        version=3,
        amount=4500,
        currency="EUR",
        capture_method="manual",
        captured=captured,
        refunded=0,
        intent_id="pi_1",
        client_secret="pi_1_secret",
        decline_class=None,
        refusal_code=None,
        trouble=None,
        capture_before=None,
        cancel_requested_at=None,
        question=10,
        created_at=now,
        updated_at=now,
    )


def an_intent(payment: Payment, status: PaymentStatus) -> IntentSeen:
    return IntentSeen(
        id="pi_1",
        status=status,
        amount=4500,
        currency="EUR",
        received=4500 if status is PaymentStatus.CAPTURED else 0,
        client_secret="pi_1_secret",
        payment_id=payment.id,
        decline_class=None,
        capture_before=None,
    )


def test_every_status_has_its_moves() -> None:
    """No status is forgotten in the tables, and nothing moves to itself."""
    assert set(LEGAL_MOVES) == set(PaymentStatus)
    assert set(REFUND_MOVES) == set(RefundStatus)
    assert not [status for status, moves in LEGAL_MOVES.items() if status in moves]


def test_no_legal_move_goes_back_a_class() -> None:
    """Peers B2.30: open < authorized < settled, along every edge."""
    backwards = [(was, now) for was, moves in LEGAL_MOVES.items() for now in moves if class_of(now) < class_of(was)]
    assert backwards == []
    assert {class_of(status) for status in OPEN} == {0}
    assert {class_of(status) for status in SETTLED} == {2}


@pytest.mark.parametrize(("known", "shown"), list(itertools.product(OURS, SHOWN_BY_STRIPE)))
@pytest.mark.parametrize("question", [9, 11])
def test_every_pair_of_known_and_shown_is_decided(known: PaymentStatus, shown: PaymentStatus, question: int) -> None:
    """D1: whatever is known, whatever Stripe shows, from an older or a newer answer: a legal move, or none."""
    payment = a_payment(known)
    seen = an_intent(payment, shown)
    contradiction = recording._contradiction(payment, seen)
    if {known, shown} == {PaymentStatus.CANCELED, PaymentStatus.CAPTURED}:
        assert contradiction == recording.STATUS_CONFLICT
        return
    assert contradiction is None
    moves = recording._is_news(payment, shown, question) and known not in CAPTURED and shown != known
    if known is PaymentStatus.SETUP_FAILED and shown is not PaymentStatus.CANCELED:
        return  # Stripe refused to make it, so it never shows it
    assert not moves or shown in LEGAL_MOVES[known]
    if class_of(shown) < class_of(known):
        assert not moves
    if class_of(shown) == class_of(known) and question < payment.question:
        assert not moves
    if class_of(shown) > class_of(known):
        assert moves


@pytest.mark.parametrize(
    ("changed", "contradiction"),
    [
        ({"id": "pi_2"}, recording.IDENTITY_MISMATCH),
        ({"payment_id": uuid4()}, recording.IDENTITY_MISMATCH),
        ({"payment_id": None}, recording.IDENTITY_MISMATCH),
        ({"amount": 4501}, recording.AMOUNT_MISMATCH),
        ({"currency": "USD"}, recording.AMOUNT_MISMATCH),
        ({"status": PaymentStatus.CAPTURED, "received": 4499}, recording.AMOUNT_MISMATCH),
        ({"status": PaymentStatus.CANCELED, "amount": 1}, None),
    ],
)
def test_an_object_that_is_not_ours_is_noticed(changed: dict[str, object], contradiction: str | None) -> None:
    """S23, W17: identity, amount, currency and what was received; only a cancelled intent may have any amount."""
    payment = a_payment(PaymentStatus.AUTHORIZED)
    seen = replace(an_intent(payment, PaymentStatus.AUTHORIZED), **changed)  # type: ignore[arg-type]
    assert recording._contradiction(payment, seen) == contradiction


# Which event tells of each status that Stripe moves an intent to; the first one is our own doing.
TOLD_BY = {
    "requires_payment_method": {"payment_intent.created", "payment_intent.payment_failed"},
    "requires_confirmation": {"payment_intent.created"},
    "requires_action": {"payment_intent.requires_action"},
    "processing": {"payment_intent.processing"},
    "requires_capture": {"payment_intent.amount_capturable_updated"},
    "succeeded": {"payment_intent.succeeded"},
    "canceled": {"payment_intent.canceled"},
}


def test_every_status_at_stripe_is_told_by_an_event_that_we_handle() -> None:
    """Peers B2.32: a status that is read, and whose event nobody handles, would be pending for ever."""
    assert set(TOLD_BY) == set(wire_objects._INTENT_STATUS)
    assert set().union(*TOLD_BY.values()) <= set(HANDLERS)
