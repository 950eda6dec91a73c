"""Takes a webhook in: verified, stored once, committed; only then is it acknowledged."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from payment_service.errors import WebhookMalformed, WebhookSignatureInvalid
from payment_service.gateway.webhook_signature import verify
from payment_service.metrics import Metrics
from payment_service.store import webhook_events
from payment_service.store.webhook_events import Accepted, Hint
from payment_service.webhooks.processing import Processing
from shared.clock import Clock
from shared.database import Database
from shared.problems import Problem, ServiceUnavailable

_WORD = re.compile(r"[A-Za-z0-9_.]{1,255}")
_EVENT_OBJECTS = frozenset({"event", "v2.core.event"})


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
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WebhookMalformed from error
    if not isinstance(document, dict) or _word(document.get("object")) not in _EVENT_OBJECTS:
        raise WebhookMalformed
    event_id, event_type = _word(document.get("id")), _word(document.get("type"))
    if not event_id or not event_type:
        raise WebhookMalformed
    subject = _dict(_dict(document.get("data")).get("object")) or _dict(document.get("related_object"))
    object_id = _word(subject.get("id"))
    is_intent = subject.get("object") == "payment_intent"
    return Hint(
        stripe_event_id=event_id,
        type=event_type,
        object_id=object_id,
        intent_id=object_id if is_intent else _word(subject.get("payment_intent")),
        livemode=document.get("livemode") is True,
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """Return an id or a type name; anything else is nothing, so that no odd text is ever stored."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
