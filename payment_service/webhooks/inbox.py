"""Takes a webhook in: verified, stored once, committed; only then is it acknowledged."""

from collections.abc import Callable, Sequence

import orjson

from payment_service.errors import WebhookMalformed, WebhookSignatureInvalid
from payment_service.gateway.webhook_signature import verify
from payment_service.gateway.wire_objects import read_event
from payment_service.metrics import Metrics
from payment_service.payments.hints import hint_of
from payment_service.store import webhook_events
from payment_service.store.webhook_events import Accepted, Hint
from payment_service.webhooks.processing import Processing
from shared.clock import Clock
from shared.database import Database
from shared.problems import Problem, ServiceUnavailable


class Inbox:
    """`inline` is asked for each delivery: True when the event is to be processed before the answer."""

    def __init__(
        self,
        database: Database,
        processing: Processing,
        metrics: Metrics,
        *,
        secrets: Sequence[str],
        tolerance_s: int,
        clock: Clock,
        inline: Callable[[], bool],
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._processing = processing
        self._metrics = metrics
        self._secrets = secrets
        self._tolerance_s = tolerance_s
        self._clock = clock
        self._inline = inline
        self._nudge = nudge

    async def accept(self, body: bytes, signature: str | None) -> bool:
        """Store an event; returns whether it had come before.

        Raises WebhookSignatureInvalid or WebhookMalformed (400), and ServiceUnavailable (503) when Stripe must send it
        again.
        """
        hint = self._verified(body, signature)
        async with self._database.transaction("store_event") as tx:
            accepted = await webhook_events.store(tx, hint)
        self._metrics.webhooks_received.labels("duplicate" if accepted.duplicate else "stored").inc()
        if self._inline():
            await self._process_now(accepted)
        elif not accepted.finished:
            self._nudge()
        return accepted.duplicate

    def _verified(self, body: bytes, signature: str | None) -> Hint:
        try:
            verify(
                body,
                signature,
                secrets=self._secrets,
                now_s=self._clock.now().timestamp(),
                tolerance_s=self._tolerance_s,
            )
            return read_hint(body)
        except Problem as refusal:
            kind = "bad_signature" if isinstance(refusal, WebhookSignatureInvalid) else "malformed"
            self._metrics.webhooks_received.labels(kind).inc()
            raise

    async def _process_now(self, accepted: Accepted) -> None:
        if not accepted.finished and not await self._processing.process_now(accepted.id):
            raise ServiceUnavailable("The event is stored, but has not had its effect yet.", retry_after_ms=2000)


def read_hint(body: bytes) -> Hint:
    """Read what an event is about; its picture of the object is left where it is. Raises WebhookMalformed (400)."""
    try:
        seen = read_event(orjson.loads(body))
    except ValueError as error:  # bytes that are no JSON, or JSON that is no event
        raise WebhookMalformed from error
    return hint_of(seen)
