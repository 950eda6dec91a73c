"""Shows a payment: as it is now, and as its history tells it."""

from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from payment_service.errors import PaymentNotFound
from payment_service.gateway.guarded import GuardedGateway
from payment_service.payments.answers import Answers
from payment_service.payments.asking import Asking
from payment_service.states import SETTLED
from payment_service.store import calls, outbox, payments, webhook_events
from shared.database import Database
from shared.payment_contract import Outcome, PaymentAnswer


class Reading:
    """Reads from our own table; asks Stripe at most once per `interval_s` and payment, over all processes."""

    def __init__(
        self,
        database: Database,
        provider: GuardedGateway,
        answers: Answers,
        asking: Asking,
        *,
        interval_s: float,
        budget_s: float,
    ) -> None:
        self._database = database
        self._provider = provider
        self._answers = answers
        self._asking = asking
        self._interval_s = interval_s
        self._budget_s = budget_s

    async def current(self, payment_id: UUID) -> PaymentAnswer:
        """Return the payment; an unsettled one is refreshed from Stripe, and if that fails, what is stored is shown.

        Then it is marked as stale, and so it is when somebody else asked a moment ago. Raises PaymentNotFound (404).
        """
        async with self._database.reading() as connection:
            payment = await payments.read(connection, payment_id)
            if payment is None:
                raise PaymentNotFound
            question, stale = None, bool(payment.intent_id) and payment.status not in SETTLED
            if stale:
                question = await payments.claim_refresh(connection, payment.id, interval_s=self._interval_s)
        if question and payment.intent_id:
            deadline = self._provider.budget(self._budget_s)
            seen = await self._asking.ask_as(payment.id, payment.intent_id, question, deadline=deadline)
            payment, stale = seen or payment, seen is None
        if payment.trouble:
            return self._answers.not_ok(Outcome.UNKNOWN, payment, payment.trouble)
        return self._answers.ok(payment, stale=stale)

    async def timeline(self, payment_id: UUID) -> list[dict[str, Any]]:
        """Return one line for each thing that happened to a payment, in order. Raises PaymentNotFound (404)."""
        async with self._database.reading() as connection:
            if await payments.read(connection, payment_id) is None:
                raise PaymentNotFound
            changes = await outbox.history(connection, payment_id)
            journal = await calls.journal(connection, payment_id)
            events = await webhook_events.of_payment(connection, payment_id)
        lines = [
            *(_line(row["created_at"], "status", row["status"], f"version {row['version']}") for row in changes),
            *(
                _line(row["asked_at"], "call", row["step"].partition(":")[0], row["outcome"] or "open")
                for row in journal
            ),
            *(_line(row["received_at"], "webhook", row["type"], row["reason"] or row["status"]) for row in events),
        ]
        return sorted(lines, key=itemgetter("at"))


def _line(at: datetime, kind: str, what: str, detail: str) -> dict[str, Any]:
    return {"at": at, "kind": kind, "what": what, "detail": detail}
