"""Gives stored events their effect: claim, look at Stripe, record and mark as processed in one transaction, or bury.

A worker that is killed anywhere in here leaves a lease that runs out, and the event is claimed again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from payment_service.gateway.guarded import GuardedGateway
from payment_service.metrics import Metrics
from payment_service.payments import recording
from payment_service.states import EventStatus
from payment_service.store import payments, webhook_events
from payment_service.store.webhook_events import Claimed
from payment_service.webhooks.handlers import HANDLERS, Findings
from shared.database import Connection, Database
from shared.payment_contract import Outcome
from shared.problems import Weather

log = structlog.get_logger()


@dataclass(frozen=True)
class ProcessingLimits:
    """How long and how often an event is tried."""

    batch: int
    lease_s: float
    budget_s: float
    max_attempts: int
    weather_max_age_s: float
    livemode: bool


class _Postponed(Exception):
    """The event cannot have its effect now. `weather`: nothing is wrong with the event itself."""

    def __init__(self, reason: str, error: str, *, weather: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
        self.weather = weather
        self.retry_after_s = retry_after_s


class _Hopeless(Exception):
    """No later try would end differently."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


class Processing:
    """`backoff` gives the wait in seconds after the n-th failed attempt."""

    def __init__(
        self,
        database: Database,
        provider: GuardedGateway,
        metrics: Metrics,
        limits: ProcessingLimits,
        *,
        backoff: Callable[[int], float],
        nudge_news: Callable[[], None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._metrics = metrics
        self._limits = limits
        self._backoff = backoff
        self._nudge_news = nudge_news

    async def process_due(self) -> int:
        """Handle one batch of due events at the same time; returns how many there were."""
        async with self._database.transaction("claim_events") as tx:
            events = await webhook_events.claim(tx, limit=self._limits.batch, lease_s=self._limits.lease_s)
        async with asyncio.TaskGroup() as group:
            for event in events:
                group.create_task(self._process(event))
        return len(events)

    async def process_now(self, event_id: UUID) -> bool:
        """Handle one stored event before its delivery is answered; False when it must be sent again."""
        async with self._database.transaction("claim_event") as tx:
            event = await webhook_events.claim_one(tx, event_id, lease_s=self._limits.lease_s)
        return event is not None and await self._process(event)

    async def _process(self, event: Claimed) -> bool:
        try:
            result = await self._have_effect(event)
        except _Hopeless as trouble:
            result = await self._bury(event, trouble.reason, trouble.error)
        except _Postponed as trouble:
            result = await self._postpone(event, trouble)
        except Weather as weather:
            result = await self._postpone(event, _Postponed("database-away", type(weather).__name__, weather=True))
        except Exception as error:
            # Whatever a handler trips over must not stop the other events.
            log.exception("webhook_handler_failed", event_type=event.hint.type, error=type(error).__name__)
            result = await self._postpone(event, _Postponed("handler-failed", type(error).__name__))
        kind = event.hint.type if event.hint.type in HANDLERS else "other"
        self._metrics.webhooks_processed.labels(kind, result).inc()
        return result != "postponed"

    async def _have_effect(self, event: Claimed) -> str:
        if reason := self._reason_to_ignore(event):
            return await self._finish(event, EventStatus.IGNORED, reason)
        if event.attempts > self._limits.max_attempts:
            raise _Hopeless("worker-died", "the process ended each time")
        deadline = self._provider.budget(self._limits.budget_s)
        async with self._database.reading() as connection:
            question = await payments.next_question(connection)
        found = await HANDLERS[event.hint.type](self._provider, event.hint, deadline)
        if found.value is None:
            if found.outcome is Outcome.DECLINED:
                raise _Hopeless("object-missing", found.code)
            raise _Postponed("provider-away", found.code, weather=True, retry_after_s=found.retry_after_s or 0.0)
        return await self._apply(event, found.value, question)

    def _reason_to_ignore(self, event: Claimed) -> str | None:
        if event.hint.type not in HANDLERS:
            return "unhandled-type"
        if event.hint.livemode != self._limits.livemode:
            log.error("webhook_of_other_mode", stripe_event_id=event.hint.stripe_event_id)
            return "livemode-mismatch"
        # A refund of a charge that was made without a PaymentIntent is not one of ours.
        return None if event.hint.intent_id else "foreign"

    async def _apply(self, event: Claimed, found: Findings, question: int) -> str:
        """Record what was seen, write the news and mark the event, all or nothing."""
        async with self._database.transaction("apply_event") as tx:
            if not await webhook_events.still_mine(tx, event, lease_s=self._limits.lease_s):
                return "overtaken"
            payment = await payments.lock_by_intent(tx, found.intent.id, found.intent.payment_id)
            if payment is None:
                if found.intent.payment_id is None:
                    return await self._mark(tx, event, EventStatus.IGNORED, "foreign")
                raise _Postponed("unknown-object", "no payment row yet")
            before = payment.version
            payment = await recording.intent_seen(tx, payment, found.intent, question)
            for refund in found.refunds:
                payment = await recording.refund_seen(tx, payment, refund, question)
            if payment.trouble == recording.REFUND_MISMATCH and event.attempts < self._limits.max_attempts:
                raise _Postponed("refund-mismatch", "another refund may still be on its way")
            if payment.trouble:
                self._metrics.contradictions.inc()
                return await self._mark(tx, event, EventStatus.DEAD, payment.trouble, payment.id)
            reason = None if payment.version > before else "nothing-new"
            result = await self._mark(tx, event, EventStatus.PROCESSED, reason, payment.id)
        self._nudge_news()
        self._metrics.webhook_lag.observe(event.age_s)
        return result

    async def _mark(
        self,
        tx: Connection,
        event: Claimed,
        status: EventStatus,
        reason: str | None,
        payment_id: UUID | None = None,
    ) -> str:
        await webhook_events.finish(tx, event, status, reason=reason, payment_id=payment_id)
        return str(status)

    async def _finish(self, event: Claimed, status: EventStatus, reason: str) -> str:
        async with self._database.transaction("finish_event") as tx:
            return await self._mark(tx, event, status, reason)

    async def _postpone(self, event: Claimed, trouble: _Postponed) -> str:
        tried_enough = event.attempts >= self._limits.max_attempts
        if trouble.weather:
            # Nothing is wrong with the event, so the number of tries says nothing; its age does.
            tried_enough = event.age_s > self._limits.weather_max_age_s
        if tried_enough:
            return await self._bury(event, trouble.reason, trouble.error)
        wait_s = max(self._backoff(event.attempts), trouble.retry_after_s)
        # Weather uses up at most half of the tries, so that the other half still tells of workers that die.
        attempts = min(event.attempts, self._limits.max_attempts // 2) if trouble.weather else event.attempts
        async with self._database.transaction("put_event_back") as tx:
            await webhook_events.put_back(
                tx, event, reason=trouble.reason, error=trouble.error, due_in_s=wait_s, attempts=attempts
            )
        return "postponed"

    async def _bury(self, event: Claimed, reason: str, error: str) -> str:
        log.error("webhook_dead", stripe_event_id=event.hint.stripe_event_id, reason=reason, error=error)
        async with self._database.transaction("bury_event") as tx:
            await webhook_events.bury(tx, event, reason=reason, error=error)
        return str(EventStatus.DEAD)
