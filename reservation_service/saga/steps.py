"""The acts of the page: four forward, four back, and one look at how the payment stands."""

from dataclasses import replace
from uuid import UUID

from reservation_service.booking import reservations as booking_moves
from reservation_service.booking.reservations import (
    is_money_missing,
    payment_id,
    payment_status,
    pays_by_card,
    refund_due_minor,
)
from reservation_service.clients.payments import PaymentsClient
from reservation_service.saga.definition import REFUND_FAILED, Event, Result, Verdict
from reservation_service.states import BegunBy, Notice
from reservation_service.store import reservations
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.crashpoints import external_call
from shared.database import Connection
from shared.identifiers import derived_id
from shared.payment_contract import (
    CancelPayment,
    CreatePayment,
    Outcome,
    PaymentAnswer,
    PaymentStatus,
    PaymentView,
    RefundPayment,
)

# Whatever became of it since: what was taken cannot be cancelled, so the way is forward. A dispute never moves a seat.
_MONEY_IS_SECURED = frozenset(
    {
        PaymentStatus.AUTHORIZED,
        PaymentStatus.CAPTURED,
        PaymentStatus.DISPUTED,
        PaymentStatus.DISPUTE_LOST,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUND_PENDING,
        PaymentStatus.REFUND_FAILED,
    }
)
# What payment_service says when the provider's object is not the one we asked for: no retry makes that right.
_CONTRADICTIONS = frozenset({"amount_mismatch", "identity_mismatch", "status_conflict", "refund_mismatch"})
# Of a payment that stands like this nothing is on its way: a refund that was accepted has failed, or was called back; or
# the bank has given the money back itself, and what is still owed only a person can say.
_NO_REFUND_PENDING = frozenset(
    {
        PaymentStatus.REFUND_FAILED,
        PaymentStatus.CAPTURED,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.DISPUTE_LOST,
    }
)
# Refused before anything was begun under its id: the same order may come again.
_PAYMENT_DISPUTED = "payment_disputed"
_EVENTS = {
    Outcome.OK: Event.DONE,
    Outcome.DECLINED: Event.REFUSED,
    Outcome.NOT_SENT: Event.NOT_SENT,
    Outcome.UNKNOWN: Event.UNKNOWN,
    Outcome.TOO_LATE: Event.TOO_LATE,
}


class Steps:
    """What the acts need. Local acts run in the engine's transaction; outside acts run with none open."""

    def __init__(self, payments: PaymentsClient, *, async_payment_max_s: float) -> None:
        self._payments = payments
        self._async_payment_max_s = async_payment_max_s

    # our database

    async def create_hold(self, _tx: Connection, booking: Booking, _saga: SagaRow) -> Booking:
        """Adopt the hold the guest has: converting pinned its seats in the transaction that started this saga."""
        return booking

    async def release_hold(self, tx: Connection, booking: Booking, saga: SagaRow) -> Booking:
        because = saga["unwinding_because"] or "refused"
        asked = because == "asked" or booking["cancel_requested_at"] is not None
        booking = await booking_moves.give_up(tx, booking, asked=asked, reason="asked" if asked else because)
        # Final on a person's word, so that no line of the journal leads to its undo: taken back here at the latest.
        booking = await booking_moves.cancel(tx, booking, reason=because)
        if saga["begun_by"] == BegunBy.LATE_MONEY and booking["confirmed_at"] is None:
            return await reservations.tell_guest(tx, booking["id"], Notice.REFUNDED_LATE) or booking
        return booking

    async def confirm_reservation(self, tx: Connection, booking: Booking, saga: SagaRow) -> Booking:
        booking = await booking_moves.confirm(tx, booking)
        if saga["begun_by"] == BegunBy.LATE_MONEY:
            return await reservations.tell_guest(tx, booking["id"], Notice.REBOOKED) or booking
        return booking

    async def cancel_reservation(self, tx: Connection, booking: Booking, saga: SagaRow) -> Booking:
        return await booking_moves.cancel(tx, booking, reason=saga["unwinding_because"] or "asked")

    # payment service

    async def create_payment_intent(self, booking: Booking) -> Result:
        wanted = CreatePayment(
            payment_id=payment_id(booking),
            reservation_id=booking["id"],
            generation=booking["generation"],
            amount=booking["total_minor"],
            currency=booking["currency"],
            capture_method=booking["capture_method"],
        )
        async with external_call("create_payment_intent"):
            answer = await self._payments.create(wanted)
        return _checked(booking, answer)

    async def cancel_payment_intent(self, booking: Booking, because: str) -> Result:
        """End the payment before any money moves; money that came first goes back when it is late, or was asked for.

        Money that is known to have been taken leaves nothing to cancel.
        """
        if because == "asked" and (booking["payment"] or {}).get("captured"):
            return await self.refund_payment(booking, because) if is_money_missing(booking) else Result(Event.DONE)
        body = CancelPayment(reservation_id=booking["id"], generation=booking["generation"], reason=because)
        async with external_call("cancel_payment_intent"):
            answer = await self._payments.cancel(payment_id(booking), body)
        if answer.outcome is Outcome.TOO_LATE and answer.payment is not None and _is_settled(booking, answer.payment):
            return Result(Event.DONE, answer.payment)  # captured, and what goes back is back: nothing is left to cancel
        if answer.outcome is Outcome.TOO_LATE and because in {"asked", "late"}:
            return await self.refund_payment(booking, because)
        return _result(answer)

    async def ask_payment(self, booking: Booking) -> Result:
        async with external_call("ask_payment"):
            answer = await self._payments.get(payment_id(booking))
        return _checked(booking, answer)

    async def capture_payment(self, booking: Booking) -> Result:
        async with external_call("capture_payment"):
            answer = await self._payments.capture(payment_id(booking))
        result = _checked(booking, answer)
        if result.event is Event.DONE and (answer.payment is None or answer.payment.captured != booking["total_minor"]):
            return Result(Event.STUCK, answer.payment, {"code": "amount_mismatch"})
        return result

    async def refund_payment(self, booking: Booking, because: str) -> Result:
        """Give back what is due of what was captured; when nothing was, there is nothing to give back.

        What was given back before, by whomever, counts. A mere deadline takes no money back from a guest whose seats
        are still there: TOO_LATE, and the saga goes on. It is done when the money is back, not when it is ordered.
        """
        asked = await self.ask_payment(booking)
        if asked.event is not Event.DONE or asked.payment is None:
            return asked
        owed = _owed_minor(booking, asked.payment)
        if because == "deadline" and booking["seats_pinned"] and owed == booking["total_minor"]:
            return Result(Event.TOO_LATE, asked.payment, {"code": "already_captured"})
        if owed <= 0:
            return Result(Event.DONE, asked.payment)
        body = RefundPayment(refund_id=_refund_id(booking), amount=owed)
        async with external_call("refund_payment"):
            answer = await self._payments.refund(payment_id(booking), body)
        if answer.outcome is Outcome.OK:
            return _arrived(booking, answer, asked.payment)
        result = _result(answer)
        if _is_dead(answer, asked.payment):
            return replace(result, detail=result.detail | {"code": REFUND_FAILED, "because": result.detail.get("code")})
        return result

    # the guest's bank

    def payment_authorized(self, booking: Booking) -> Verdict:
        """Judge the wait by what was last told, and by the database's clock."""
        status = payment_status(booking)
        if not pays_by_card(booking) or status in _MONEY_IS_SECURED:
            return Verdict.PASSED
        if self.payment_left_s(booking) <= 0:
            return Verdict.TIME_IS_UP
        return Verdict.LOST if status is PaymentStatus.CANCELED else Verdict.WAITING

    def payment_left_s(self, booking: Booking) -> float:
        """Return how much longer the seats wait: to the end of the window, and longer for money that is on its way."""
        processing = payment_status(booking) is PaymentStatus.PROCESSING
        return float(booking["seconds_left"]) + (self._async_payment_max_s if processing else 0.0)


def _result(answer: PaymentAnswer) -> Result:
    detail = answer.error.model_dump(exclude_none=True) if answer.error else {}
    retry_after_ms = answer.error.retry_after_ms if answer.error else None
    retry_after_s = None if retry_after_ms is None else retry_after_ms / 1000
    return Result(_EVENTS[answer.outcome], answer.payment, detail, retry_after_s, answer.stale)


def _checked(booking: Booking, answer: PaymentAnswer) -> Result:
    """Never go on with a payment of another amount, currency or booking than ours: a person must look at it."""
    if answer.payment is not None and not _is_ours(booking, answer.payment):
        return Result(Event.STUCK, None, {"code": "amount_mismatch"})
    if answer.error is not None and answer.error.code in _CONTRADICTIONS:
        return Result(Event.STUCK, answer.payment, {"code": answer.error.code})
    return _result(answer)


def _arrived(booking: Booking, answer: PaymentAnswer, asked: PaymentView) -> Result:
    """Judge an accepted refund by the newest that is known: a repeated answer may be older than what was asked before."""
    newest = max((asked, answer.payment or asked), key=lambda payment: payment.version)
    if _is_settled(booking, newest):
        return Result(Event.DONE, newest)
    if newest.status in _NO_REFUND_PENDING:
        return Result(Event.REFUSED, newest, {"code": REFUND_FAILED})
    return Result(Event.UNDER_WAY, newest)


def _is_dead(answer: PaymentAnswer, asked: PaymentView) -> bool:
    """Tell whether this order was refused for good, and no other is on its way: what is tried next is another one.

    The provider has refused it, or what is owed is another sum by now, because somebody gave a part back by hand.
    """
    newest = answer.payment or asked
    passes = answer.error is not None and answer.error.code == _PAYMENT_DISPUTED
    return answer.outcome is Outcome.DECLINED and not passes and newest.status in _NO_REFUND_PENDING


def _owed_minor(booking: Booking, payment: PaymentView) -> int:
    return refund_due_minor(booking, captured_minor=payment.captured) - payment.refunded


def _is_settled(booking: Booking, payment: PaymentView) -> bool:
    return payment.captured > 0 and _owed_minor(booking, payment) <= 0


def _refund_id(booking: Booking) -> UUID:
    """Return the id of the refund to order: the same for every try, another one when one has failed for good."""
    attempt = booking["refund_attempt"]
    return derived_id(payment_id(booking), "refund:full" if attempt == 1 else f"refund:{attempt}")


def _is_ours(booking: Booking, payment: PaymentView) -> bool:
    ours = (booking["id"], booking["total_minor"], booking["currency"])
    return ours == (payment.reservation_id, payment.amount, payment.currency)
