"""Writes down what was seen at Stripe: never backwards, newest answer wins, every change told exactly as it is stored.

All functions run in their caller's transaction, on a payment that the caller has locked.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from payment_service.gateway.results import DisputeSeen, IntentSeen, RefundSeen
from payment_service.payments import ledger
from payment_service.states import (
    CAPTURED,
    DISPUTE_MOVES,
    LEGAL_MOVES,
    OPEN,
    REFUND_MOVES,
    REFUND_WITHOUT_EFFECT,
    DisputeStatus,
    RefundStatus,
    class_of,
)
from payment_service.store import calls, disputes, outbox, payments
from payment_service.store.calls import REFUND
from payment_service.store.payments import Payment, Refund
from shared.database import Connection
from shared.identifiers import derived_id
from shared.payment_contract import PaymentEvent, PaymentStatus, RefundPayment

log = structlog.get_logger()

IDENTITY_MISMATCH = "identity_mismatch"
AMOUNT_MISMATCH = "amount_mismatch"
STATUS_CONFLICT = "status_conflict"
REFUND_MISMATCH = "refund_mismatch"
DISPUTE_MISMATCH = "dispute_mismatch"
OVERTAKEN = "overtaken"
BY_HAND = "made_at_stripe"


async def change(tx: Connection, payment: Payment, *, told_in_s: float = 0.0, **values: Any) -> Payment:
    """Change a payment, post what that means for its money, and write the news of it, in one breath.

    `told_in_s` gives the answer to a call, which says the same, the time to arrive.
    """
    changed = await payments.change(tx, payment.id, **values)
    if not {payment.status, changed.status} <= OPEN | {PaymentStatus.CANCELED}:
        await ledger.follow(tx, changed)
    event = PaymentEvent(
        payment_id=changed.id,
        reservation_id=changed.reservation_id,
        generation=changed.generation,
        version=changed.version,
        status=changed.status,
        amount=changed.amount,
        currency=changed.currency,
        captured=changed.captured,
        refunded=changed.refunded,
        decline_class=changed.decline_class,
        capture_before=changed.capture_before,
        occurred_at=datetime.now(UTC),
    )
    await outbox.append(
        tx, changed.id, changed.version, changed.status, event.model_dump(mode="json"), due_in_s=told_in_s
    )
    return changed


async def intent_seen(
    tx: Connection, payment: Payment, seen: IntentSeen, question: int, *, told_in_s: float = 0.0
) -> Payment:
    """Bring a payment to what Stripe showed in answer to `question`, unless more is known already."""
    identity = {"intent_id": seen.id, "client_secret": seen.client_secret or payment.client_secret}
    if contradiction := _contradiction(payment, seen):
        log.error("payment_contradicted", payment_id=str(payment.id), contradiction=contradiction)
        if contradiction == IDENTITY_MISMATCH:
            return replace(payment, trouble=contradiction)  # the stranger's trouble, not this row's
        # Even an intent with a wrong amount must be known, or it could not be cancelled.
        known = identity if contradiction == AMOUNT_MISMATCH else {}
        return await payments.note(tx, payment.id, trouble=contradiction, **known)
    if not _is_news(payment, seen.status, question):
        return await _fill_in(tx, payment, identity)
    news = identity if payment.status in CAPTURED else identity | _state(seen)
    # A refund or dispute that does not fit is not made to fit by a payment that does.
    trouble = payment.trouble if payment.trouble in {REFUND_MISMATCH, DISPUTE_MISMATCH} else None
    if all(getattr(payment, name) == value for name, value in news.items()):
        return await payments.note(tx, payment.id, question=question, trouble=trouble)
    return await change(tx, payment, told_in_s=told_in_s, question=question, trouble=trouble, **news)


def _state(seen: IntentSeen) -> dict[str, Any]:
    return {
        "status": seen.status,
        "captured": seen.received if seen.status == PaymentStatus.CAPTURED else 0,
        "decline_class": seen.decline_class,
        "capture_before": seen.capture_before,
    }


def _contradiction(payment: Payment, seen: IntentSeen) -> str | None:
    """Say what makes this intent not ours: nothing that contradicts a row of money may change it."""
    if payment.intent_id not in {None, seen.id} or seen.payment_id != payment.id:
        return IDENTITY_MISMATCH
    if {payment.status, seen.status} == {PaymentStatus.CANCELED, PaymentStatus.CAPTURED}:
        return STATUS_CONFLICT
    if seen.status == PaymentStatus.CANCELED:
        return None  # whatever its amount was, it takes nothing
    if (seen.amount, seen.currency) != (payment.amount, payment.currency):
        return AMOUNT_MISMATCH
    if seen.status == PaymentStatus.CAPTURED and seen.received != payment.amount:
        return AMOUNT_MISMATCH
    return None


def _is_news(payment: Payment, status: PaymentStatus, question: int) -> bool:
    known, shown = class_of(payment.status), class_of(status)
    if shown != known:
        return shown > known
    return question > payment.question


async def _fill_in(tx: Connection, payment: Payment, identity: dict[str, Any]) -> Payment:
    """Keep Stripe's id even from an old answer: without it no later event finds the payment."""
    return payment if payment.intent_id else await payments.note(tx, payment.id, **identity)


async def refund_seen(tx: Connection, payment: Payment, seen: RefundSeen, question: int) -> Payment:
    """Bring a refund, and with it the payment, to what Stripe showed; refunds made by hand at Stripe are adopted."""
    if seen.currency != payment.currency:
        log.error("payment_contradicted", payment_id=str(payment.id), contradiction=AMOUNT_MISMATCH)
        return await payments.note(tx, payment.id, trouble=AMOUNT_MISMATCH)
    known = await payments.refunds_of(tx, payment.id)
    refund = _refund_of(known, seen)
    if refund is None:
        refund = await _adopt(tx, payment, known, seen)
    if refund is None or refund.amount != seen.amount:
        log.error("payment_contradicted", payment_id=str(payment.id), contradiction=REFUND_MISMATCH)
        return await payments.note(tx, payment.id, trouble=REFUND_MISMATCH)
    moves = seen.status == refund.status or seen.status in REFUND_MOVES[refund.status]
    if question > refund.question and moves:
        await payments.change_refund(
            tx, refund.id, status=seen.status, stripe_refund_id=seen.id, failure=seen.failure, question=question
        )
    if payment.trouble == REFUND_MISMATCH:
        payment = await payments.note(tx, payment.id, trouble=None)
    return await sum_up(tx, payment)


def _refund_of(known: list[Refund], seen: RefundSeen) -> Refund | None:
    by_their_id = [refund for refund in known if refund.stripe_refund_id == seen.id]
    by_our_id = [refund for refund in known if refund.id == seen.refund_id and refund.status is RefundStatus.REQUESTED]
    return next(iter(by_their_id + by_our_id), None)


async def _adopt(tx: Connection, payment: Payment, known: list[Refund], seen: RefundSeen) -> Refund | None:
    """Take over a refund that somebody made in Stripe's dashboard; None when it cannot be.

    One that carries an id of ours is ours, and its row was lost: under that id the caller will ask for it again.
    """
    if seen.status not in REFUND_WITHOUT_EFFECT:
        if seen.refund_id is None:
            await _withdraw_unsent(tx, payment, known)
        if not await _has_room(tx, payment, known, seen.amount):
            return None
    refund_id = seen.refund_id
    if refund_id is None or await payments.find_refund(tx, refund_id):
        refund_id = derived_id(payment.id, f"stripe:{seen.id}")
    order = RefundPayment(refund_id=refund_id, amount=seen.amount, reason=BY_HAND)
    return await payments.insert_refund(tx, payment.id, order)


async def _withdraw_unsent(tx: Connection, payment: Payment, known: list[Refund]) -> None:
    """Let go of what was asked for and has never left the house, when somebody gives money back by hand meanwhile.

    Whoever asked may be content with that and never ask again; the payment would wait for ever. It has failed, and whoever
    is not content orders what is still missing.
    """
    for refund in known:
        if refund.status is RefundStatus.REQUESTED:
            earlier = await calls.earlier(tx, payment.id, refund_step(refund.id))
            if not earlier.may_have_happened:
                await payments.change_refund(tx, refund.id, status=RefundStatus.FAILED, failure=OVERTAKEN)


async def _has_room(tx: Connection, payment: Payment, known: list[Refund], amount: int) -> bool:
    """Tell whether so much more can have gone back.

    Stripe gives back no more than it took. What we have only asked for, and what does not fit beside what Stripe shows,
    has therefore not happened there; left as it is, each would wait for the other for ever. It has failed.
    """
    sure = claimed([refund for refund in known if refund.status is not RefundStatus.REQUESTED]) + amount
    for refund in known:
        if refund.status is RefundStatus.REQUESTED and sure <= payment.captured < sure + refund.amount:
            await payments.change_refund(tx, refund.id, status=RefundStatus.FAILED, failure=OVERTAKEN)
    return claimed(await payments.refunds_of(tx, payment.id)) + amount <= payment.captured


async def dispute_seen(tx: Connection, payment: Payment, seen: DisputeSeen, question: int) -> Payment:
    """Bring a dispute, and with it the payment, to what Stripe showed. Money moves; the booking and its seats never."""
    known = {dispute.stripe_dispute_id: dispute for dispute in await disputes.of_payment(tx, payment.id)}.get(seen.id)
    fits = seen.currency == payment.currency and seen.amount <= payment.captured
    moves = known is None or seen.status == known.status or seen.status in DISPUTE_MOVES[known.status]
    if known and question <= known.question:
        return payment
    if not fits or not moves or (known and known.amount != seen.amount):
        log.error("payment_contradicted", payment_id=str(payment.id), contradiction=DISPUTE_MISMATCH)
        return await payments.note(tx, payment.id, trouble=DISPUTE_MISMATCH)
    await disputes.write(
        tx,
        derived_id(payment.id, f"stripe:{seen.id}"),
        payment_id=payment.id,
        stripe_dispute_id=seen.id,
        amount=seen.amount,
        status=seen.status,
        reason=seen.reason,
        question=question,
    )
    if payment.trouble == DISPUTE_MISMATCH:
        payment = await payments.note(tx, payment.id, trouble=None)
    return await sum_up(tx, payment)


def claimed(refunds: list[Refund]) -> int:
    """Return how much of a payment its refunds have taken or may take, in minor units."""
    return sum(refund.amount for refund in refunds if refund.status not in REFUND_WITHOUT_EFFECT)


async def sum_up(tx: Connection, payment: Payment) -> Payment:
    """Derive the payment's status and refunded amount from its refunds and disputes."""
    refunds = await payments.refunds_of(tx, payment.id)
    refunded = sum(refund.amount for refund in refunds if refund.status == RefundStatus.SUCCEEDED)
    disputed = {dispute.status for dispute in await disputes.of_payment(tx, payment.id)}
    status = _status_with(payment, refunds, refunded, disputed)
    if status == PaymentStatus.DISPUTE_LOST and payment.status not in {status, PaymentStatus.DISPUTED}:
        payment = await change(tx, payment, status=PaymentStatus.DISPUTED)  # its beginning was never told
    if status != payment.status and status not in LEGAL_MOVES[payment.status]:
        status = payment.status
    if (status, refunded) == (payment.status, payment.refunded):
        await ledger.follow(tx, payment)  # a refund has moved, if not the sum of them
        return payment
    return await change(tx, payment, status=status, refunded=refunded)


def _status_with(payment: Payment, refunds: list[Refund], refunded: int, disputed: set[DisputeStatus]) -> PaymentStatus:
    if DisputeStatus.LOST in disputed:
        return PaymentStatus.DISPUTE_LOST
    if DisputeStatus.OPEN in disputed:
        return PaymentStatus.DISPUTED
    if any(refund.status in {RefundStatus.REQUESTED, RefundStatus.PENDING} for refund in refunds):
        return PaymentStatus.REFUND_PENDING
    effective = [refund for refund in refunds if refund.status != RefundStatus.CANCELED]
    if effective and effective[-1].status == RefundStatus.FAILED:
        return PaymentStatus.REFUND_FAILED
    if refunded and refunded == payment.captured:
        return PaymentStatus.REFUNDED
    if payment.status is PaymentStatus.REFUNDED:
        return PaymentStatus.REFUND_FAILED  # one that was done has come back, if not the last one
    return PaymentStatus.PARTIALLY_REFUNDED if refunded else PaymentStatus.CAPTURED


def key_for(payment: Payment, step: str, number: int) -> str:
    """Return Stripe's idempotency key: a function of the booking, the step and how often a key was used up."""
    return f"{payment.reservation_id}:{payment.generation}:{step}:{number}"


def intent_metadata(payment: Payment) -> dict[str, str]:
    """Return what ties Stripe's object to ours, whatever else gets lost."""
    return {
        "payment_id": str(payment.id),
        "reservation_id": str(payment.reservation_id),
        "generation": str(payment.generation),
    }


def refund_step(refund_id: UUID) -> str:
    """Return the step under which the calls of one refund are written down."""
    return f"{REFUND}:{refund_id}"


def refund_metadata(payment: Payment, refund_id: UUID) -> dict[str, str]:
    return {"refund_id": str(refund_id), "payment_id": str(payment.id)}
