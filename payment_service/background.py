"""All that happens in this service without a request: name, interval, batch, function, flag."""

from functools import partial

from payment_service.metrics import Metrics
from payment_service.payments.notifying import Notifying
from payment_service.payments.switchboard import Switchboard
from payment_service.settings import PaymentSettings
from payment_service.store import idempotency, outbox, webhook_events
from payment_service.webhooks.processing import Processing
from shared.database import Database
from shared.flags import Flags
from shared.ticker import Background, Job

_WEBHOOKS = "process_webhooks"
_NEWS = "deliver_news"
_BREAKERS = "share_breakers"
_FORGET_BATCH = 500


class Nudges:
    """Wakes jobs early: what was just stored need not wait for the next tick. A lost nudge costs one interval."""

    def __init__(self) -> None:
        self._background: Background | None = None

    def connect(self, background: Background) -> None:
        """Behaviours are made before the jobs that run them, so the wire is laid last."""
        self._background = background

    def webhooks(self) -> None:
        self._nudge(_WEBHOOKS)

    def news(self) -> None:
        self._nudge(_NEWS)

    def breakers(self) -> None:
        self._nudge(_BREAKERS)

    def _nudge(self, name: str) -> None:
        if self._background:
            self._background.nudge(name)


def jobs(
    settings: PaymentSettings,
    database: Database,
    flags: Flags,
    metrics: Metrics,
    processing: Processing,
    notifying: Notifying,
    switchboard: Switchboard,
) -> tuple[Job, ...]:
    """Return the table; every line is also all there is to recovery after a crash."""

    async def count_backlogs() -> int:
        async with database.reading() as connection:
            waiting, dead = await webhook_events.backlog(connection)
            news = await outbox.backlog(connection)
        metrics.webhooks_waiting.set(waiting)
        metrics.dead_letters.set(dead)
        metrics.news_waiting.set(news)
        return 0

    async def forget_old_answers() -> int:
        async with database.transaction("forget_answers") as tx:
            return await idempotency.forget(tx, older_than_days=settings.idempotency_keep_days, limit=_FORGET_BATCH)

    return (
        Job(
            _WEBHOOKS,
            settings.webhook_poll_seconds,
            settings.webhook_batch_size,
            processing.process_due,  # whatever the flag says: what was acknowledged must have its effect
        ),
        Job(_NEWS, settings.outbox_poll_seconds, settings.outbox_batch_size, notifying.deliver_due),
        Job(_BREAKERS, settings.breaker_share_seconds, 1, switchboard.share),
        Job("refresh_flags", settings.flags_refresh_seconds, 1, partial(flags.refresh, database)),
        Job("count_backlogs", settings.gauges_refresh_seconds, 1, count_backlogs),
        Job("forget_old_answers", 3600.0, _FORGET_BATCH, forget_old_answers),
    )
