"""Gives money back: never more than was taken, each refund once, whoever asks how often."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from payment_service.errors import RefundExceedsPayment
from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import RefundSeen, Result
from payment_service.payments import recording
from payment_service.payments.answers import PAYMENT_DISPUTED, Answers
from payment_service.payments.recording import key_for, refund_metadata, refund_step
from payment_service.states import RefundStatus
from payment_service.store import calls, disputes, payments
from payment_service.store.calls import Call, Earlier
from payment_service.store.payments import Payment, Refund
from shared.crashpoints import external_call
from shared.database import Database
from shared.payment_contract import Outcome, PaymentAnswer, RefundPayment
from shared.problems import IdempotencyKeyReused


@dataclass(frozen=True)
class _Intended:
    """A refund that has been written down and still has to reach Stripe."""

    payment: Payment
    refund: Refund
    earlier: Earlier
    question: int


class Refunding:
    """A refund is not naturally idempotent, so its key is trusted only as long as Stripe surely keeps it."""

    def __init__(
        self,
        database: Database,
        provider: GuardedGateway,
        answers: Answers,
        *,
        key_trusted_h: float,
        budget_s: float,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._answers = answers
        self._key_trusted_s = key_trusted_h * 3600
        self._budget_s = budget_s
        self._nudge = nudge

    async def refund(self, payment_id: UUID, order: RefundPayment) -> PaymentAnswer:
        """Refund part or all of a captured payment.

        Raises PaymentNotFound (404), RefundExceedsPayment (409), IdempotencyKeyReused (422: the refund id is another's).
        """
        intended = await self._intend(payment_id, order)
        self._nudge()
        if isinstance(intended, PaymentAnswer):
            return intended
        payment, result = await self._send(intended)
        self._nudge()
        if result.value is not None and result.value.status is RefundStatus.FAILED:
            return self._answers.not_ok(Outcome.DECLINED, payment, "refund_failed")
        if result.outcome is Outcome.OK and payment.trouble:
            return self._answers.not_ok(Outcome.UNKNOWN, payment, payment.trouble)
        return self._answers.of_call(result, payment)

    async def _intend(self, payment_id: UUID, order: RefundPayment) -> _Intended | PaymentAnswer:
        """Do the sum and write the intent down, with the payment locked: parallel refunds take turns here."""
        async with self._database.transaction("intend_refund") as tx:
            payment = await payments.lock_existing(tx, payment_id)
            refund = await payments.find_refund(tx, order.refund_id)
            if refund is None:
                others = await payments.refunds_of(tx, payment.id)
                claimed = recording.claimed(others) + order.amount
                if claimed > payment.captured:
                    raise RefundExceedsPayment
                if claimed + await disputes.held_of(tx, payment.id) > payment.captured:
                    return self._answers.not_ok(Outcome.DECLINED, payment, PAYMENT_DISPUTED)
                refund = await payments.insert_refund(tx, payment.id, order)
                payment = await recording.sum_up(tx, payment)
            elif (refund.payment_id, refund.amount) != (payment.id, order.amount):
                raise IdempotencyKeyReused
            if answer := self._known(payment, refund):
                return answer
            earlier = await calls.earlier(tx, payment.id, refund_step(refund.id))
            return _Intended(payment, refund, earlier, await payments.next_question(tx))

    def _known(self, payment: Payment, refund: Refund) -> PaymentAnswer | None:
        if refund.status in {RefundStatus.FAILED, RefundStatus.CANCELED}:
            return self._answers.not_ok(Outcome.DECLINED, payment, "refund_failed")
        return None if refund.status is RefundStatus.REQUESTED else self._answers.ok(payment)

    async def _send(self, intended: _Intended) -> tuple[Payment, Result[RefundSeen]]:
        deadline = self._provider.budget(self._budget_s)
        payment, refund, earlier = intended.payment, intended.refund, intended.earlier
        unsure, number = earlier.may_have_happened, max(earlier.key_number, 1)
        if unsure and (earlier.key_is_spent or earlier.first_age_s > self._key_trusted_s):
            listed = await self._find(payment, refund, deadline)
            if listed.value is not None:
                return await self._record(intended, None, listed), listed
            if listed.outcome is not Outcome.OK:
                return payment, replace(listed, outcome=Outcome.UNKNOWN)
            unsure, number = False, number + 1
        async with self._database.transaction("plan_refund") as tx:
            payment = await payments.lock_existing(tx, payment.id)
            now = await payments.find_refund(tx, refund.id) or refund
            if since := self._known(payment, now):  # done meanwhile by somebody else, or overtaken
                return payment, Result(since.outcome, code=since.error.code if since.error else "")
            call = await calls.begin(tx, payment.id, refund_step(refund.id), key_number=number)
        async with external_call("create_refund"):
            result = await self._provider.create_refund(
                intent_id=payment.intent_id or "",
                amount=refund.amount,
                metadata=refund_metadata(payment, refund.id),
                key=key_for(payment, refund_step(refund.id), number),
                deadline=deadline,
            )
        payment = await self._record(intended, call, result)
        if unsure and result.outcome is Outcome.NOT_SENT:
            result = replace(result, outcome=Outcome.UNKNOWN)
        return payment, result

    async def _find(self, payment: Payment, refund: Refund, deadline: float) -> Result[RefundSeen]:
        """Look for our refund among those of the payment; OK without a value proves that there is none."""
        async with external_call("find_refund"):
            listed = await self._provider.list_refunds(payment.intent_id or "", deadline=deadline)
        ours = [seen for seen in listed.value or () if seen.refund_id == refund.id]
        return Result(listed.outcome, ours[0] if ours else None, code=listed.code)

    async def _record(self, intended: _Intended, call: Call | None, result: Result[RefundSeen]) -> Payment:
        async with self._database.transaction("record_refund") as tx:
            payment = await payments.lock_existing(tx, intended.payment.id)
            if call:
                await calls.end(tx, call, result.outcome, result.code, key_is_spent=result.key_is_spent)
            if result.value is not None:
                question = call.question if call else intended.question
                return await recording.refund_seen(tx, payment, result.value, question)
            refund = await payments.find_refund(tx, intended.refund.id)
            if result.outcome is Outcome.DECLINED and refund and refund.status is RefundStatus.REQUESTED:
                await payments.change_refund(tx, refund.id, status=RefundStatus.FAILED, failure=result.code[:100])
                return await recording.sum_up(tx, payment)
            return payment
