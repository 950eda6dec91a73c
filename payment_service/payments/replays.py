"""One effect per Idempotency-Key: a final answer is kept, everything else leaves the key free for the same call.

OK, DECLINED and TOO_LATE are final, but for a refusal that passes with what it was for: a dispute that is won. A kept
answer is given with the payment as it is now, because what was true then may have moved on.
"""

from collections.abc import Awaitable, Callable

from payment_service.metrics import Metrics
from payment_service.payments.answers import PAYMENT_DISPUTED, Answers
from payment_service.store import idempotency, payments
from payment_service.store.idempotency import Keyed
from shared.database import Database
from shared.payment_contract import CallError, Outcome, PaymentAnswer
from shared.problems import IdempotencyInProgress, IdempotencyKeyReused

_FINAL = frozenset({Outcome.OK, Outcome.DECLINED, Outcome.TOO_LATE})
# Refused before anything was begun, and only for now: when it is over, less may be owed than was asked for.
_PASSES = frozenset({PAYMENT_DISPUTED})


class Replays:
    """Runs a behaviour at most once at a time under a key."""

    def __init__(self, database: Database, answers: Answers, metrics: Metrics, *, lease_s: float) -> None:
        self._database = database
        self._answers = answers
        self._metrics = metrics
        self._lease_s = lease_s

    async def once(self, request: Keyed, act: Callable[[], Awaitable[PaymentAnswer]]) -> PaymentAnswer:
        """Return the kept answer, or act and keep what is final.

        Raises IdempotencyKeyReused (422) for another body and IdempotencyInProgress (409) while the first one runs.
        """
        async with self._database.transaction("claim_key", of_one_statement=True) as tx:
            claimed = await idempotency.claim(tx, request, lease_s=self._lease_s)
        if not claimed:
            return await self._replay(request)
        try:
            answer = await act()
        except Exception:
            # A process that is killed here leaves the marker to its lease.
            async with self._database.transaction("let_key_go", of_one_statement=True) as tx:
                await idempotency.let_go(tx, request)
            raise
        await self._settle(request, answer)
        self._metrics.outcomes.labels(request.route, str(answer.outcome)).inc()
        return answer

    async def _replay(self, request: Keyed) -> PaymentAnswer:
        async with self._database.reading() as connection:
            stored = await idempotency.kept(connection, request)
            payment = await payments.read(connection, request.payment_id)
        if stored is not None and not stored.same_request:
            raise IdempotencyKeyReused
        if stored is None or stored.outcome is None:
            raise IdempotencyInProgress(retry_after_ms=1000)
        error = CallError.model_validate(stored.error) if stored.error else None
        view = self._answers.view(payment) if payment else None
        return PaymentAnswer(outcome=stored.outcome, payment=view, error=error)

    async def _settle(self, request: Keyed, answer: PaymentAnswer) -> None:
        async with self._database.transaction("settle_key", of_one_statement=True) as tx:
            if answer.error is not None and answer.error.code in _PASSES:
                await idempotency.take_back(tx, request)
            elif answer.outcome in _FINAL:
                error = answer.error.model_dump(mode="json") if answer.error else None
                await idempotency.keep(tx, request, answer.outcome, error)
            else:
                await idempotency.let_go(tx, request)
