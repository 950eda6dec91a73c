"""Compares Stripe's book with ours, so that a booking ends right even if no webhook ever comes.

Some events are never generated, some are never delivered, and a database may come back from an older copy. Three
comparisons find what that left behind: events that no delivery brought, payments that moved without our hearing of
it, and PaymentIntents that no payment knows. What is found is drift, and counted.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import EventSeen, IntentSeen, Page, Result
from payment_service.metrics import Metrics
from payment_service.payments import recording
from payment_service.payments.asking import Asking
from payment_service.payments.hints import hint_of
from payment_service.states import SETTLED, FindingKind, Pass, RefundStatus
from payment_service.store import calls, payments, reconciliation, webhook_events
from payment_service.store.payments import Payment
from payment_service.store.reconciliation import Window
from shared.crashpoints import external_call
from shared.database import Connection, Database
from shared.payment_contract import PaymentStatus

log = structlog.get_logger()

_PAGES_PER_TURN = 20
_RETRY_S = 5.0


@dataclass(frozen=True)
class ReconciliationRules:
    """How often, how far back and how many; seconds."""

    interval_s: float
    lease_s: float
    budget_s: float
    overlap_s: float
    events_settle_s: float
    orphan_after_s: float
    batch: int
    key_trusted_s: float
    event_types: Sequence[str]


class Reconciliation:
    """`nudge_webhooks` wakes the handling of stored events."""

    def __init__(
        self,
        database: Database,
        provider: GuardedGateway,
        asking: Asking,
        metrics: Metrics,
        rules: ReconciliationRules,
        *,
        nudge_webhooks: Callable[[], None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._asking = asking
        self._metrics = metrics
        self._rules = rules
        self._nudge_webhooks = nudge_webhooks
        self._settle_s = {Pass.EVENTS: rules.events_settle_s, Pass.INTENTS: rules.orphan_after_s}

    async def compare_due(self) -> int:
        """Read on in Stripe's lists of events and of intents; returns how many comparisons were due."""
        async with self._database.transaction("claim_passes") as tx:
            windows = await reconciliation.claim(
                tx, lease_s=self._rules.lease_s, settle_s=self._settle_s, overlap_s=self._rules.overlap_s
            )
        for window in windows:
            await self._read_on(window)
        return 0  # a comparison is a matter of minutes: the next turn need not follow at once

    async def _read_on(self, window: Window) -> None:
        deadline = self._provider.budget(self._rules.budget_s)
        cursor = window.cursor
        for _page in range(_PAGES_PER_TURN):
            page = await self._page(window, cursor, deadline)
            if page.value is None:
                await self._interrupt(window, page.code)
                return
            if not await self._settle_orphans(page.value):
                await self._interrupt(window, "orphan not settled")  # the same page is read again
                return
            if not await self._take_in(window, page.value):
                return  # another worker has taken over
            cursor = page.value.last_id
            if not page.value.has_more:
                async with self._database.transaction("complete_pass") as tx:
                    await reconciliation.complete(tx, window, next_in_s=self._rules.interval_s)
                return
        await self._interrupt(window, "more to read")

    async def _interrupt(self, window: Window, why: str) -> None:
        async with self._database.transaction("interrupt_pass") as tx:
            await reconciliation.interrupt(tx, window, why, next_in_s=min(_RETRY_S, self._rules.interval_s))

    async def _page(
        self, window: Window, after: str | None, deadline: float
    ) -> Result[Page[EventSeen]] | Result[Page[IntentSeen]]:
        stretch = {"since": window.since, "until": window.until}
        async with external_call("list_at_stripe"):
            if window.name is Pass.EVENTS:
                return await self._provider.list_events(
                    self._rules.event_types, **stretch, after=after, deadline=deadline
                )
            return await self._provider.list_intents(**stretch, after=after, deadline=deadline)

    async def _take_in(self, window: Window, page: Page[EventSeen] | Page[IntentSeen]) -> bool:
        """Store what a page showed and where the next one begins, all or nothing."""
        events = [item for item in page.items if isinstance(item, EventSeen)]
        intents = [item for item in page.items if isinstance(item, IntentSeen)]
        async with self._database.transaction("take_in_page") as tx:
            if not await reconciliation.still_mine(tx, window, lease_s=self._rules.lease_s):
                return False
            missing = await webhook_events.store_missing(tx, [hint_of(seen) for seen in events])
            adopted = [await self._adopt(tx, seen) for seen in intents]
            found = missing + sum(adopted)
            await reconciliation.note_page(tx, window, cursor=page.last_id, looked=len(page.items), found=found)
        self._count("event", missing)
        self._count("intent", sum(adopted))
        if missing:
            self._nudge_webhooks()
        return True

    async def _adopt(self, tx: Connection, seen: IntentSeen) -> bool:
        """Bind an intent to its payment, when the answer that named it was lost; False when there was nothing to do."""
        payment = await payments.lock(tx, seen.payment_id) if seen.payment_id else None
        if payment is None or payment.intent_id is not None or _is_unwanted(seen, payment):
            return False
        question = await payments.next_question(tx)
        await recording.intent_seen(tx, payment, seen, question)
        return await self._note(tx, FindingKind.ADOPTED, seen)

    async def _settle_orphans(self, page: Page[EventSeen] | Page[IntentSeen]) -> bool:
        """Deal with the intents that no payment knows; False when Stripe did not let us finish."""
        orphans = await self._orphans([item for item in page.items if isinstance(item, IntentSeen)])
        return all([await self._settle_orphan(orphan) for orphan in orphans])

    async def _orphans(self, intents: Sequence[IntentSeen]) -> list[IntentSeen]:
        """Return the intents of ours that no payment wants: unknown ones, and those of a payment that has ended here.

        The latter are left by a cancel that found nothing to cancel, because the rows that knew better were lost.
        """
        if not intents:
            return []
        async with self._database.reading() as connection:
            rows = await payments.by_stripe_or_our_id(
                connection, [seen.id for seen in intents], [seen.payment_id for seen in intents if seen.payment_id]
            )
            settled = await reconciliation.settled_orphans(connection, [seen.id for seen in intents])
        payment_of: dict[object, Payment] = {row.intent_id or row.id: row for row in rows}
        unsettled = [seen for seen in intents if seen.id not in settled]
        return [
            seen for seen in unsettled if _is_unwanted(seen, payment_of.get(seen.id) or payment_of.get(seen.payment_id))
        ]

    async def _settle_orphan(self, seen: IntentSeen) -> bool:
        """Give an authorisation back that nobody here will ever use; captured money is a person's matter."""
        status: PaymentStatus | None = seen.status
        if status not in SETTLED:
            status = await self._cancel(seen)
        if status is None:
            return False
        kind = FindingKind.ORPHAN_CANCELED if status is PaymentStatus.CANCELED else FindingKind.ORPHAN_CAPTURED
        log.error("orphan_at_stripe", stripe_id=seen.id, payment_id=str(seen.payment_id), what=str(kind))
        async with self._database.transaction("note_orphan") as tx:
            is_new = await self._note(tx, kind, seen)
        self._count("orphan", int(is_new))
        return True

    async def _cancel(self, seen: IntentSeen) -> PaymentStatus | None:
        """Return what became of an intent; None when Stripe did not say."""
        deadline = self._provider.budget(self._rules.budget_s)
        async with external_call("cancel_orphan"):
            result = await self._provider.cancel_intent(seen.id, key=f"orphan:{seen.id}:cancel", deadline=deadline)
        return result.value.status if result.value else None

    async def _note(self, tx: Connection, kind: FindingKind, seen: IntentSeen) -> bool:
        return await reconciliation.add_finding(
            tx, kind, stripe_id=seen.id, payment_id=seen.payment_id, amount=seen.amount, currency=seen.currency
        )

    async def ask_unsettled(self) -> int:
        """Ask about a batch of payments that Stripe may have moved; returns how many there were."""
        async with self._database.transaction("claim_unsettled") as tx:
            claimed = await payments.claim_unsettled(tx, limit=self._rules.batch, interval_s=self._rules.interval_s)
        async with asyncio.TaskGroup() as group:
            for payment, question in claimed:
                group.create_task(self._ask(payment, question))
        return len(claimed)

    async def _ask(self, payment: Payment, question: int) -> None:
        deadline = self._provider.budget(self._rules.budget_s)
        if payment.status is PaymentStatus.REFUND_PENDING:
            seen = await self._ask_refunds(payment.id, payment.intent_id or "", question, deadline)
        else:
            seen = await self._asking.ask_as(payment.id, payment.intent_id or "", question, deadline=deadline)
        if seen is not None and seen.version > payment.version:
            log.warning("payment_drifted", payment_id=str(payment.id), was=payment.status, now=seen.status)
            self._count("payment", 1)

    async def _ask_refunds(self, payment_id: UUID, intent_id: str, question: int, deadline: float) -> Payment | None:
        async with external_call("list_refunds"):
            listed = await self._provider.list_refunds(intent_id, deadline=deadline)
        if listed.value is None:
            return None
        async with self._database.transaction("record_seen_refunds") as tx:
            payment = await payments.lock_existing(tx, payment_id)
            for refund in reversed(listed.value):
                payment = await recording.refund_seen(tx, payment, refund, question)
            return await self._withdraw_overtaken(tx, payment)

    async def _withdraw_overtaken(self, tx: Connection, payment: Payment) -> Payment:
        """Let go of an order of unknown fate once Stripe, which has just shown all, surely never had it.

        While somebody still asks for it, its fate gets known that way. But whoever asked may be content with what a
        person gave back by hand since then, and then the payment would wait for ever.
        """
        known = await payments.refunds_of(tx, payment.id)
        for place, refund in enumerate(known):
            overtaken = any(later.reason == recording.BY_HAND for later in known[place + 1 :])
            if refund.status is RefundStatus.REQUESTED and overtaken:
                earlier = await calls.earlier(tx, payment.id, recording.refund_step(refund.id))
                if earlier.last_age_s > self._rules.key_trusted_s:
                    failed = {"status": RefundStatus.FAILED, "failure": recording.OVERTAKEN}
                    await payments.change_refund(tx, refund.id, **failed)
                    payment = await recording.sum_up(tx, payment)
        return payment

    def _count(self, kind: str, found: int) -> None:
        if found:
            self._metrics.drift.labels(kind).inc(found)


def _is_unwanted(seen: IntentSeen, payment: Payment | None) -> bool:
    return payment is None or (payment.status is PaymentStatus.CANCELED and seen.status not in SETTLED)
