"""Takes a webhook in: verified, stored once, committed; only then is it acknowledged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from payment_service.errors import WebhookMalformed, WebhookSignatureInvalid
from payment_service.gateway.results import IntentSeen
from payment_service.gateway.webhook_signature import verify
from payment_service.gateway.wire_objects import read_event, read_told_intent
from payment_service.metrics import Metrics
from payment_service.payments.hints import hint_of
from payment_service.payments.under_way import CallsUnderWay
from payment_service.states import EventStatus
from payment_service.store import webhook_events
from payment_service.store.webhook_events import Accepted, Hint
from payment_service.webhooks import at_the_door
from payment_service.webhooks.at_the_door import Settled
from payment_service.webhooks.handlers import HANDLERS
from payment_service.webhooks.processing import OTHER, Processing
from shared.clock import Clock
from shared.database import Connection, Database
from shared.problems import Problem, ServiceUnavailable

_ANSWER_WAIT_S = 1.0


@dataclass(frozen=True)
class Delivery:
    """An event as it came in; its picture of the payment lasts as long as the delivery and is not stored."""

    hint: Hint
    told: IntentSeen | None


class Inbox:
    """`at_the_door` and `inline` are asked for each delivery: is it settled here, or processed before the answer?

    `livemode` says which events are ours, `under_way` whose answers may say the same, `nudge` that an event waits,
    `nudge_news` that one had its effect.
    """

    def __init__(
        self,
        database: Database,
        processing: Processing,
        metrics: Metrics,
        *,
        secrets: Sequence[str],
        tolerance_s: int,
        clock: Clock,
        livemode: bool,
        under_way: CallsUnderWay,
        at_the_door: Callable[[], bool],
        inline: Callable[[], bool],
        nudge: Callable[[], None],
        nudge_news: Callable[[], None],
    ) -> None:
        self._database = database
        self._processing = processing
        self._metrics = metrics
        self._secrets = secrets
        self._tolerance_s = tolerance_s
        self._clock = clock
        self._livemode = livemode
        self._under_way = under_way
        self._at_the_door = at_the_door
        self._inline = inline
        self._nudge = nudge
        self._nudge_news = nudge_news

    async def accept(self, body: bytes, signature: str | None) -> bool:
        """Store an event; returns whether it had come before.

        Raises WebhookSignatureInvalid or WebhookMalformed (400), and ServiceUnavailable (503) when Stripe must send it
        again.
        """
        delivery = self._verified(body, signature)
        known = await self._old_news(delivery)
        async with self._database.transaction("store_event", of_one_statement=known is not None) as tx:
            accepted, settled = await self._store(tx, delivery, known)
        self._metrics.webhooks_received.labels("duplicate" if accepted.duplicate else "stored").inc()
        if settled:
            self._had_its_effect(delivery.hint, settled, accepted)
        elif self._inline():
            await self._process_now(accepted)
        elif not accepted.finished:
            self._nudge()
        return accepted.duplicate

    async def _old_news(self, delivery: Delivery) -> Settled | None:
        """Say what an event settles of which nothing is left to do; None when there may be."""
        if not self._may_settle(delivery):
            return None
        if settled := at_the_door.is_nothing_to_us(delivery.hint):
            return settled
        if payment_id := at_the_door.payment_of_our_call(delivery.hint, delivery.told):
            await self._under_way.wait_for(payment_id, at_most_s=_ANSWER_WAIT_S)
        async with self._database.reading() as connection:
            return await at_the_door.old_news(connection, delivery.hint, delivery.told)

    async def _store(
        self, tx: Connection, delivery: Delivery, known: Settled | None
    ) -> tuple[Accepted, Settled | None]:
        if known is None:
            accepted = await webhook_events.store(tx, delivery.hint)
            return accepted, await self._settle(tx, accepted, delivery)
        accepted = await webhook_events.store_settled(
            tx, delivery.hint, known.status, reason=known.reason, payment_id=known.payment_id
        )
        return accepted, known

    async def _settle(self, tx: Connection, accepted: Accepted, delivery: Delivery) -> Settled | None:
        if accepted.finished or not self._may_settle(delivery):
            return None
        settled = await at_the_door.settle(tx, delivery.hint, delivery.told)
        if settled:
            await webhook_events.settle(tx, accepted.id, reason=settled.reason, payment_id=settled.payment_id)
        return settled

    def _may_settle(self, delivery: Delivery) -> bool:
        return delivery.hint.livemode == self._livemode and self._at_the_door()

    def _had_its_effect(self, hint: Hint, settled: Settled, accepted: Accepted) -> None:
        if accepted.duplicate and not settled.changed:
            return  # it was counted before, or is when a worker marks it
        kind = hint.type if hint.type in HANDLERS else OTHER
        self._metrics.webhooks_processed.labels(kind, settled.status).inc()
        if settled.status is EventStatus.PROCESSED:
            self._metrics.webhook_lag.observe(0.0)
        if settled.changed:
            self._nudge_news()

    def _verified(self, body: bytes, signature: str | None) -> Delivery:
        try:
            verify(
                body,
                signature,
                secrets=self._secrets,
                now_s=self._clock.now().timestamp(),
                tolerance_s=self._tolerance_s,
            )
            return read_delivery(body)
        except Problem as refusal:
            kind = "bad_signature" if isinstance(refusal, WebhookSignatureInvalid) else "malformed"
            self._metrics.webhooks_received.labels(kind).inc()
            raise

    async def _process_now(self, accepted: Accepted) -> None:
        if not accepted.finished and not await self._processing.process_now(accepted.id):
            raise ServiceUnavailable("The event is stored, but has not had its effect yet.", retry_after_ms=2000)


def read_delivery(body: bytes) -> Delivery:
    """Read what an event is about, and how it pictures a payment. Raises WebhookMalformed (400)."""
    try:
        document = orjson.loads(body)
        seen = read_event(document)
    except ValueError as error:  # bytes that are no JSON, or JSON that is no event
        raise WebhookMalformed from error
    return Delivery(hint_of(seen), read_told_intent(document))
