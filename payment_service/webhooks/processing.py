"""Gives stored events their effect: claim, look at Stripe, record and mark as processed in one transaction, or bury.

A worker that is killed anywhere in here leaves a lease that runs out, and the event is claimed again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import structlog

from payment_service.gateway.paced import PacedGateway
from payment_service.metrics import Metrics
from payment_service.payments import recording
from payment_service.settings import PaymentSettings
from payment_service.states import EventStatus
from payment_service.store import payments, webhook_events
from payment_service.store.webhook_events import Claimed
from payment_service.webhooks.handlers import HANDLERS, ONCE_MORE, OWN_OBJECT, UNHANDLED_TYPE, Findings
from shared.database import Connection, Database
from shared.payment_contract import Outcome
from shared.problems import Weather

log = structlog.get_logger()

Flight: TypeAlias = tuple[Claimed, ...]
"""Events that one look at Stripe serves, the oldest first; never empty."""

OTHER = "other"
"""What types that we do nothing about are counted as."""
_POSTPONED = "postponed"
_SEEN_WITH_ANOTHER = "seen-with-another"


@dataclass(frozen=True)
class ProcessingLimits:
    """How long and how often an event is tried."""

    batch: int
    lease_s: float
    budget_s: float
    max_attempts: int
    weather_max_age_s: float
    livemode: bool

    @classmethod
    def of(cls, settings: PaymentSettings) -> "ProcessingLimits":
        return cls(
            batch=settings.webhook_batch_size,
            lease_s=settings.webhook_lease_seconds,
            budget_s=settings.background_budget_s,
            max_attempts=settings.webhook_max_attempts,
            weather_max_age_s=settings.webhook_weather_max_age_h * 3600,
            livemode=settings.livemode,
        )


@dataclass(frozen=True)
class _Verdict:
    """What came of the events of a flight, told of the oldest one."""

    status: EventStatus
    reason: str | None
    payment_id: UUID | None = None


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
        provider: PacedGateway,
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
        deadline = self._provider.budget(self._limits.budget_s)
        room = asyncio.Semaphore(self._limits.batch)
        async with asyncio.TaskGroup() as group:
            for flight in self._flights(events):
                group.create_task(self._process_in(room, flight, deadline))
        return len(events)

    async def process_now(self, event_id: UUID) -> bool:
        """Handle one stored event before its delivery is answered; False when it must be sent again."""
        async with self._database.transaction("claim_event") as tx:
            event = await webhook_events.claim_one(tx, event_id, lease_s=self._limits.lease_s)
        if event is None:
            return False
        return await self._process((event,), self._provider.budget(self._limits.budget_s)) != _POSTPONED

    async def _process_in(self, room: asyncio.Semaphore, flight: Flight, deadline: float) -> None:
        async with room:
            await self._process(flight, deadline)

    async def _process(self, flight: Flight, deadline: float) -> str:
        """Give the events of a flight their effect; returns what became of the oldest one."""
        try:
            result = await self._have_effect(flight, deadline)
        except _Hopeless as trouble:
            result = await self._bury(flight, trouble.reason, trouble.error)
        except _Postponed as trouble:
            result = await self._postpone(flight, trouble)
        except Weather as weather:
            result = await self._postpone(flight, _Postponed("database-away", type(weather).__name__, weather=True))
        except Exception as error:
            # Whatever a handler trips over must not stop the other events.
            log.exception("webhook_handler_failed", event_type=flight[0].hint.type, error=type(error).__name__)
            result = await self._postpone(flight, _Postponed("handler-failed", type(error).__name__))
        for event in flight:
            kind = event.hint.type if event.hint.type in HANDLERS else OTHER
            self._metrics.webhooks_processed.labels(kind, result).inc()
        return result

    async def _have_effect(self, flight: Flight, deadline: float) -> str:
        if reason := self._reason_to_ignore(flight[0]):
            return await self._ignore(flight, reason)
        if flight[0].attempts > self._limits.max_attempts:
            raise _Hopeless("worker-died", "the process ended each time")
        # Numbered after the events were stored and before anybody is asked: the answer is news to all of them.
        async with self._database.reading() as connection:
            question = await payments.next_question(connection)
        hint = flight[0].hint
        look = HANDLERS[hint.type]
        if flight[0].attempts > 1:
            look = ONCE_MORE.get(look, look)
        found = await look(self._provider, hint, deadline)
        if found.value is None:
            if found.outcome is Outcome.DECLINED:
                raise _Hopeless("object-missing", found.code)
            raise _Postponed("provider-away", found.code, weather=True, retry_after_s=found.retry_after_s or 0.0)
        return await self._apply(flight, found.value, question)

    def _reason_to_ignore(self, event: Claimed) -> str | None:
        if event.hint.type not in HANDLERS:
            return UNHANDLED_TYPE
        if event.hint.livemode != self._limits.livemode:
            log.error("webhook_of_other_mode", stripe_event_id=event.hint.stripe_event_id)
            return "livemode-mismatch"
        # A refund of a charge that was made without a PaymentIntent is not one of ours.
        return None if event.hint.intent_id else "foreign"

    async def _ignore(self, flight: Flight, reason: str) -> str:
        async with self._database.transaction("finish_event") as tx:
            await webhook_events.finish(tx, flight, EventStatus.IGNORED, reason=reason)
        return str(EventStatus.IGNORED)

    async def _apply(self, flight: Flight, found: Findings, question: int) -> str:
        """Record what was seen, write the news and mark the events, all or nothing."""
        async with self._database.transaction("apply_event") as tx:
            mine = await webhook_events.still_mine(tx, flight, lease_s=self._limits.lease_s)
            if not mine:
                return "overtaken"
            verdict = await self._record(tx, mine, found, question)
            first, others = mine[:1], mine[1:]
            of_others = _SEEN_WITH_ANOTHER if verdict.status == EventStatus.PROCESSED else verdict.reason
            for events, reason in ((first, verdict.reason), (others, of_others)):
                if events:
                    await webhook_events.finish(
                        tx, events, verdict.status, reason=reason, payment_id=verdict.payment_id
                    )
        if verdict.status == EventStatus.PROCESSED:
            self._nudge_news()
            for event in mine:
                self._metrics.webhook_lag.observe(event.age_s)
        return str(verdict.status)

    async def _record(self, tx: Connection, flight: Sequence[Claimed], found: Findings, question: int) -> _Verdict:
        payment = await payments.lock_by_intent(tx, found.intent.id, found.intent.payment_id)
        if payment is None:
            if found.intent.payment_id is None:
                return _Verdict(EventStatus.IGNORED, "foreign")
            raise _Postponed("unknown-object", "no payment row yet")
        before = payment.version
        payment = await recording.intent_seen(tx, payment, found.intent, question)
        for refund in found.refunds:
            payment = await recording.refund_seen(tx, payment, refund, question)
        if found.dispute:
            payment = await recording.dispute_seen(tx, payment, found.dispute, question)
        fewest_attempts = min(event.attempts for event in flight)
        if payment.trouble == recording.REFUND_MISMATCH and fewest_attempts < self._limits.max_attempts:
            raise _Postponed("refund-mismatch", "another refund may still be on its way")
        if payment.trouble:
            self._metrics.contradictions.inc()
            return _Verdict(EventStatus.DEAD, payment.trouble, payment.id)
        return _Verdict(EventStatus.PROCESSED, None if payment.version > before else "nothing-new", payment.id)

    async def _postpone(self, flight: Flight, trouble: _Postponed) -> str:
        worn_out = [event for event in flight if self._has_tried_enough(event, trouble)]
        if worn_out:
            await self._bury(worn_out, trouble.reason, trouble.error)
        waiting = [event for event in flight if event not in worn_out]
        if not waiting:
            return str(EventStatus.DEAD)
        async with self._database.transaction("put_event_back") as tx:
            for event in waiting:
                await self._put_back(tx, event, trouble)
        return _POSTPONED

    def _has_tried_enough(self, event: Claimed, trouble: _Postponed) -> bool:
        if trouble.weather:
            # Nothing is wrong with the event, so the number of tries says nothing; its age does.
            return event.age_s > self._limits.weather_max_age_s
        return event.attempts >= self._limits.max_attempts

    async def _put_back(self, tx: Connection, event: Claimed, trouble: _Postponed) -> None:
        # Weather uses up at most half of the tries, so that the other half still tells of workers that die.
        attempts = min(event.attempts, self._limits.max_attempts // 2) if trouble.weather else event.attempts
        wait_s = max(self._backoff(event.attempts), trouble.retry_after_s)
        await webhook_events.put_back(
            tx, event, reason=trouble.reason, error=trouble.error, due_in_s=wait_s, attempts=attempts
        )

    async def _bury(self, events: Sequence[Claimed], reason: str, error: str) -> str:
        for event in events:
            log.error("webhook_dead", stripe_event_id=event.hint.stripe_event_id, reason=reason, error=error)
        async with self._database.transaction("bury_event") as tx:
            await webhook_events.finish(tx, events, EventStatus.DEAD, reason=reason, error=error)
        return str(EventStatus.DEAD)

    def _flights(self, events: Iterable[Claimed]) -> list[Flight]:
        """Put together what one look serves: the same question about the same object.

        Events that ask differently stay apart, so that one that trips its handler takes no other with it. So does one
        that has failed more often than weather explains: it may be what kills its workers.
        """
        found: dict[tuple[object, ...], list[Claimed]] = {}
        for event in events:
            hint, handler = event.hint, HANDLERS.get(event.hint.type)
            its_own = hint.object_id if handler in OWN_OBJECT else None
            alone = event.id if event.attempts > self._limits.max_attempts // 2 + 1 else None
            found.setdefault((handler, hint.intent_id, its_own, hint.livemode, alone), []).append(event)
        return [tuple(flight) for flight in found.values()]
