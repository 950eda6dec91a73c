"""Makes sure that a payment's intent exists at Stripe, exactly once, however often and after whatever it is tried."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import IntentSeen, Result
from payment_service.payments import recording
from payment_service.payments.recording import intent_metadata, key_for
from payment_service.store import calls, payments
from payment_service.store.calls import CREATE, FIRST_KEY, Call, Earlier
from payment_service.store.payments import Payment
from shared.crashpoints import external_call
from shared.database import Database
from shared.payment_contract import Outcome, PaymentStatus

_THEIR_CLOCK = timedelta(minutes=5)
"""How far Stripe's clock may be from our database's; the longest call is well within it, too."""


class Establishing:
    """Repeats a create under its key; a key that Stripe may have forgotten, or that is spent, is not trusted.

    `key_trusted_h`: Stripe keeps keys for 24 hours, and a forgotten one would make a second intent. `key_is_spent`:
    Stripe stored a failure under it and will only repeat that. In both cases the intent is looked for first. All that is
    learnt here is in an answer, which has `answer_wait_s` to arrive before it is told as news.
    """

    def __init__(
        self, database: Database, provider: GuardedGateway, *, key_trusted_h: float, answer_wait_s: float
    ) -> None:
        self._database = database
        self._provider = provider
        self._key_trusted_s = key_trusted_h * 3600
        self._answer_wait_s = answer_wait_s

    async def establish(self, payment: Payment, *, deadline: float) -> tuple[Payment, Result[Any]]:
        """Return the payment as it then is, and what is known now: UNKNOWN as long as any call may have happened."""
        async with self._database.reading() as connection:
            earlier = await calls.earlier(connection, payment.id, CREATE)
            question = await payments.next_question(connection)
        unsure, number = earlier.may_have_happened, max(earlier.key_number, FIRST_KEY)
        if unsure and (earlier.key_is_spent or earlier.first_age_s > self._key_trusted_s):
            found = await self._look(payment, earlier, deadline)
            if found.value is not None:
                return await self._adopt(payment, found.value, question), found
            if found.outcome is not Outcome.OK:
                return payment, replace(found, outcome=Outcome.UNKNOWN)
            unsure, number = False, number + 1  # proven: the old key has made nothing
        payment, result = await self._create_again(payment, number, deadline)
        if unsure and result.outcome is Outcome.NOT_SENT:
            result = replace(result, outcome=Outcome.UNKNOWN)
        return payment, result

    async def _create_again(self, payment: Payment, number: int, deadline: float) -> tuple[Payment, Result[IntentSeen]]:
        async with self._database.transaction("intend_create") as tx:
            payment = await payments.lock_existing(tx, payment.id)
            if payment.status is PaymentStatus.CANCELED:
                # A cancel found nothing sent and ended the payment on the spot: nothing may be sent after that.
                return payment, Result(Outcome.DECLINED, code="payment_canceled")
            call = await calls.begin(tx, payment.id, CREATE, key_number=number)
        return await self.create(payment, call, deadline=deadline)

    async def create(self, payment: Payment, call: Call, *, deadline: float) -> tuple[Payment, Result[IntentSeen]]:
        """Make a call that has been written down, and record how it ended."""
        async with external_call("create_payment_intent"):
            result = await self._provider.create_intent(
                amount=payment.amount,
                currency=payment.currency,
                capture_method=payment.capture_method,
                metadata=intent_metadata(payment),
                key=key_for(payment, CREATE, call.key_number),
                deadline=deadline,
            )
        return await self._record(payment, call, result), result

    async def _look(self, payment: Payment, earlier: Earlier, deadline: float) -> Result[IntentSeen | None]:
        """Look among what was made around the calls that may have made it: a few minutes, however many intents there are."""
        since = (earlier.first_at or payment.created_at) - _THEIR_CLOCK
        until = (earlier.last_at or payment.created_at) + _THEIR_CLOCK
        async with external_call("find_payment_intent"):
            return await self._provider.find_intent(payment.id, since=since, until=until, deadline=deadline)

    async def _adopt(self, payment: Payment, found: IntentSeen, question: int) -> Payment:
        async with self._database.transaction("record_found_intent") as tx:
            locked = await payments.lock_existing(tx, payment.id)
            return await recording.intent_seen(tx, locked, found, question, told_in_s=self._answer_wait_s)

    async def _record(self, payment: Payment, call: Call, result: Result[IntentSeen]) -> Payment:
        async with self._database.transaction("record_create") as tx:
            payment = await payments.lock_existing(tx, payment.id)
            await calls.end(tx, call, result.outcome, result.code, key_is_spent=result.key_is_spent)
            if result.value is not None:
                return await recording.intent_seen(
                    tx, payment, result.value, call.question, told_in_s=self._answer_wait_s
                )
            if result.outcome is Outcome.DECLINED and payment.status is PaymentStatus.NONE:
                refusal = {"decline_class": result.decline_class, "refusal_code": result.code}
                status, wait_s = PaymentStatus.SETUP_FAILED, self._answer_wait_s
                return await recording.change(tx, payment, told_in_s=wait_s, status=status, **refusal)
            return payment
