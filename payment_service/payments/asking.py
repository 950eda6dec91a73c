"""Asks Stripe how a payment stands and records the answer: the only cure for an unknown outcome."""

from collections.abc import Callable
from uuid import UUID

from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.paced import PacedGateway
from payment_service.payments import recording
from payment_service.store import payments
from payment_service.store.payments import Payment
from shared.crashpoints import external_call
from shared.database import Database


class Asking:
    """`nudge` is called when there may be news for the other service; `provider` may ask at once, or in its turn."""

    def __init__(
        self, database: Database, provider: GuardedGateway | PacedGateway, *, nudge: Callable[[], None]
    ) -> None:
        self._database = database
        self._provider = provider
        self._nudge = nudge

    async def ask(self, payment: Payment, *, deadline: float) -> Payment:
        """Return the payment as Stripe shows it; unchanged when Stripe cannot be asked, or was never told of it."""
        if payment.intent_id is None:
            return payment
        async with self._database.reading() as connection:
            question = await payments.next_question(connection)
        return await self.ask_as(payment.id, payment.intent_id, question, deadline=deadline) or payment

    async def ask_as(self, payment_id: UUID, intent_id: str, question: int, *, deadline: float) -> Payment | None:
        """Ask under a number that was taken before; None when there was no answer."""
        async with external_call("retrieve_payment_intent"):
            result = await self._provider.retrieve_intent(intent_id, deadline=deadline)
        if result.value is None:
            return None
        async with self._database.transaction("record_seen_intent") as tx:
            payment = await payments.lock_existing(tx, payment_id)
            seen = await recording.intent_seen(tx, payment, result.value, question)
        self._nudge()
        return seen
