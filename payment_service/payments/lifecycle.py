"""Create, capture and cancel a payment: record the intent, call Stripe, record the outcome.

Each verb is safe to repeat for ever: it first looks at what is known, and from UNKNOWN it only asks. Nothing here
holds a connection while it waits, and no call is made that has not been written down.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from payment_service.errors import PaymentIdentityTaken, PaymentNotFound
from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import IntentSeen, Result
from payment_service.payments import recording
from payment_service.payments.answers import Answers
from payment_service.payments.asking import Asking
from payment_service.payments.establishing import Establishing
from payment_service.payments.recording import key_for
from payment_service.payments.under_way import CallsUnderWay
from payment_service.states import CAPTURED, OPEN, SETTLED
from payment_service.store import calls, payments
from payment_service.store.calls import CANCEL, CAPTURE, CREATE, FIRST_KEY, Call, Earlier
from payment_service.store.payments import NO_CURRENCY, Payment
from shared.crashpoints import external_call
from shared.database import Connection, Database
from shared.payment_contract import CancelPayment, CreatePayment, Outcome, PaymentAnswer, PaymentStatus


@dataclass(frozen=True)
class _Planned:
    """A call that has been written down and may now be made."""

    payment_id: UUID
    intent_id: str
    call: Call
    key: str


class _LookFirst(Exception):
    """Nothing may be done to this payment before somebody has asked how it stands."""

    def __init__(self, payment: Payment) -> None:
        super().__init__(payment.status)
        self.payment = payment


class Lifecycle:
    """The three verbs of a payment; `nudge` is called when there is news for the other service.

    What a call to Stripe has shown is no such news: the answer says it, and has `answer_wait_s` to arrive.
    """

    def __init__(
        self,
        database: Database,
        provider: GuardedGateway,
        answers: Answers,
        *,
        establishing: Establishing,
        asking: Asking,
        under_way: CallsUnderWay,
        budget_s: float,
        answer_wait_s: float,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._answers = answers
        self._establishing = establishing
        self._asking = asking
        self._under_way = under_way
        self._budget_s = budget_s
        self._answer_wait_s = answer_wait_s
        self._nudge = nudge

    async def create(self, order: CreatePayment) -> PaymentAnswer:
        """Set a payment up at Stripe. Raises PaymentIdentityTaken (409) if the id means something else already."""
        payment, call = await self._admit(order)
        if answer := self._known_create(payment):
            return answer
        deadline = self._provider.budget(self._budget_s)
        with self._under_way.about(payment.id):
            if call:
                payment, result = await self._establishing.create(payment, call, deadline=deadline)
            else:
                payment, result = await self._establishing.establish(payment, deadline=deadline)
        if payment.status is PaymentStatus.CANCELED:
            return self._answers.not_ok(Outcome.DECLINED, payment, "payment_canceled")
        return self._answers.of_call(_unless_done(result, payment) if payment.trouble else result, payment)

    async def _admit(self, order: CreatePayment) -> tuple[Payment, Call | None]:
        """Return the payment; for a new one also the call that this transaction has written down: there is no earlier one."""
        async with self._database.transaction("admit_payment") as tx:
            payment = await payments.insert_new(tx, order)
            if payment is not None:
                return payment, await calls.begin(tx, payment.id, CREATE, key_number=FIRST_KEY)
            payment = await payments.lock(tx, order.payment_id)
            if payment is not None and payment.currency == NO_CURRENCY:
                # The cancel came first and knew neither amount nor currency.
                payment = await payments.learn_order(tx, order)
        if payment is None or not payment.is_the_one_of(order):
            raise PaymentIdentityTaken
        return payment, None

    def _known_create(self, payment: Payment) -> PaymentAnswer | None:
        if payment.status is PaymentStatus.CANCELED or payment.cancel_requested_at:
            return self._answers.not_ok(Outcome.DECLINED, payment, "payment_canceled")
        if payment.status is PaymentStatus.SETUP_FAILED:
            return self._answers.not_ok(Outcome.DECLINED, payment, payment.refusal_code or "refused")
        if payment.intent_id is None:
            return None
        if payment.trouble:
            return self._answers.not_ok(Outcome.UNKNOWN, payment, payment.trouble)
        return self._answers.ok(payment)

    async def capture(self, payment_id: UUID) -> PaymentAnswer:
        """Take the money that was authorised. Raises PaymentNotFound (404)."""
        deadline = self._provider.budget(self._budget_s)
        try:
            planned = await self._plan_capture(payment_id)
        except _LookFirst as unsure:
            await self._asking.ask(unsure.payment, deadline=deadline)
            planned = await self._plan_capture(payment_id, looked=True)
        if isinstance(planned, PaymentAnswer):
            return planned
        with self._under_way.about(payment_id):
            async with external_call("capture_payment_intent"):
                result = await self._provider.capture_intent(planned.intent_id, key=planned.key, deadline=deadline)
            payment = await self._conclude(planned, result, deadline)
        if result.outcome is Outcome.DECLINED and payment.question <= planned.call.question:
            # Stripe also refuses what an earlier call has done; nobody has seen since which of the two this is.
            result = replace(result, outcome=Outcome.UNKNOWN)
        return self._known_capture(payment) or self._answers.of_call(_unless_done(result, payment), payment)

    async def _plan_capture(self, payment_id: UUID, *, looked: bool = False) -> _Planned | PaymentAnswer:
        """Write down that the call is about to be made, or say why it is not. Raises _LookFirst."""
        async with self._database.transaction("intend_capture") as tx:
            payment = await payments.lock_existing(tx, payment_id)
            earlier = await calls.earlier(tx, payment.id, CAPTURE)
            if not looked and _must_look(payment, earlier, CAPTURE):
                raise _LookFirst(payment)
            if answer := self._known_capture(payment):
                return answer
            if payment.status in OPEN:
                if payment.decline_class:
                    return self._answers.not_ok(Outcome.DECLINED, payment, "card_declined")
                processing = payment.status is PaymentStatus.PROCESSING
                code = "payment_processing" if processing else "payment_not_authorized"
                return self._answers.not_ok(Outcome.NOT_SENT, payment, code)
            return await _plan(tx, payment, CAPTURE, earlier)

    def _known_capture(self, payment: Payment) -> PaymentAnswer | None:
        if payment.trouble:
            return self._answers.not_ok(Outcome.UNKNOWN, payment, payment.trouble)
        if payment.status in CAPTURED:
            return self._answers.ok(payment)
        if payment.status is PaymentStatus.CANCELED:
            return self._answers.not_ok(Outcome.DECLINED, payment, "payment_canceled")
        return None

    async def cancel(self, payment_id: UUID, order: CancelPayment) -> PaymentAnswer:
        """End a payment without taking money; an id that was never heard of is cancelled in advance.

        A refusal of Stripe's that leaves the payment alive (it is processing, say) is no final word: NOT_SENT.
        """
        deadline = self._provider.budget(self._budget_s)
        payment = await self._wish_cancelled(payment_id, order)
        if payment.status in OPEN and payment.intent_id is None:
            # A create may have happened without our knowing; only its key can tell.
            payment, result = await self._establishing.establish(payment, deadline=deadline)
            if payment.intent_id is None and result.outcome is not Outcome.DECLINED:
                return self._answers.of_call(_unless_done(result, payment), payment)
        await self._look_first(payment_id, deadline)
        planned = await self._plan_cancel(payment_id)
        self._nudge()
        if isinstance(planned, PaymentAnswer):
            return planned
        with self._under_way.about(payment_id):
            async with external_call("cancel_payment_intent"):
                result = await self._provider.cancel_intent(planned.intent_id, key=planned.key, deadline=deadline)
            payment = await self._conclude(planned, result, deadline)
        if result.outcome is Outcome.DECLINED:
            result = replace(result, outcome=Outcome.NOT_SENT)
        return self._known_cancel(payment) or self._answers.of_call(_unless_done(result, payment), payment)

    async def _wish_cancelled(self, payment_id: UUID, order: CancelPayment) -> Payment:
        """Write the wish down, so that no create starts after it; what was never sent is cancelled right here."""
        async with self._database.transaction("intend_cancel") as tx:
            await payments.insert_cancelled_first(tx, payment_id, order)
            payment = await payments.lock(tx, payment_id)
            if payment is None:
                raise PaymentIdentityTaken
            if payment.status is PaymentStatus.CANCELED:
                return payment if payment.version else await recording.change(tx, payment)
            earlier = await calls.earlier(tx, payment.id, CREATE)
            if payment.intent_id is None and not earlier.may_have_happened:
                return await recording.change(tx, payment, status=PaymentStatus.CANCELED)
            return payment if payment.cancel_requested_at else await payments.wish_cancelled(tx, payment.id)

    async def _plan_cancel(self, payment_id: UUID) -> _Planned | PaymentAnswer:
        async with self._database.transaction("plan_cancel") as tx:
            payment = await payments.lock_existing(tx, payment_id)
            if payment.intent_id is None and payment.status is PaymentStatus.SETUP_FAILED:
                payment = await recording.change(tx, payment, status=PaymentStatus.CANCELED)
            if answer := self._known_cancel(payment):
                return answer
            return await _plan(tx, payment, CANCEL, await calls.earlier(tx, payment.id, CANCEL))

    def _known_cancel(self, payment: Payment) -> PaymentAnswer | None:
        if payment.trouble == recording.STATUS_CONFLICT:
            return self._answers.not_ok(Outcome.UNKNOWN, payment, payment.trouble)
        if payment.status is PaymentStatus.CANCELED:
            return self._answers.ok(payment)
        if payment.status in CAPTURED:
            return self._answers.not_ok(Outcome.TOO_LATE, payment, "already_captured")
        return None

    async def _look_first(self, payment_id: UUID, deadline: float) -> None:
        """Ask before cancelling if that may have happened before, or if what we know forbids it."""
        async with self._database.reading() as connection:
            payment = await payments.read(connection, payment_id)
            earlier = await calls.earlier(connection, payment_id, CANCEL)
        if payment is None:
            raise PaymentNotFound
        if _must_look(payment, earlier, CANCEL):
            await self._asking.ask(payment, deadline=deadline)

    async def _conclude(self, planned: _Planned, result: Result[IntentSeen], deadline: float) -> Payment:
        """Record how a call ended; if it did not simply work, ask where that leaves the payment."""
        async with self._database.transaction("record_outcome") as tx:
            payment = await payments.lock_existing(tx, planned.payment_id)
            await calls.end(tx, planned.call, result.outcome, result.code, key_is_spent=result.key_is_spent)
            if result.value is not None:
                question, wait_s = planned.call.question, self._answer_wait_s
                payment = await recording.intent_seen(tx, payment, result.value, question, told_in_s=wait_s)
        if result.outcome in {Outcome.DECLINED, Outcome.UNKNOWN}:
            return await self._asking.ask(payment, deadline=deadline)
        return payment


def _must_look(payment: Payment, earlier: Earlier, step: str) -> bool:
    """Tell whether to ask first: an earlier call of this step may have happened, or what we know forbids it."""
    too_early = step == CAPTURE and payment.status in OPEN
    return payment.status not in SETTLED and (earlier.may_have_happened or too_early or bool(payment.trouble))


async def _plan(tx: Connection, payment: Payment, step: str, earlier: Earlier) -> _Planned:
    """Write down that a step is about to be taken.

    Stripe repeats what it stored for a key, refusals included. So after a concluded call, when the state has been asked
    for, a new key is used: neither capture nor cancel can happen twice to one intent.
    """
    number = earlier.key_number + 1 if earlier.last_concluded else max(earlier.key_number, FIRST_KEY)
    call = await calls.begin(tx, payment.id, step, key_number=number)
    return _Planned(payment.id, payment.intent_id or "", call, key_for(payment, step, number))


def _unless_done(result: Result[Any], payment: Payment) -> Result[Any]:
    """Stripe's OK counts only once the payment shows it; until then nothing is known."""
    if result.outcome is Outcome.OK:
        return Result(Outcome.UNKNOWN, code=payment.trouble or "not_visible_yet")
    return result
