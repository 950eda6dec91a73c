"""All that happens in this service without a request: name, interval, batch, function, flag."""

from collections.abc import Awaitable, Callable
from functools import partial

from payment_service.behaviours import Behaviours
from payment_service.flags import RECONCILIATION
from payment_service.nudges import BREAKERS, NEWS, WEBHOOKS
from payment_service.payments.ledger import POST_BATCH
from payment_service.states import Pass
from payment_service.store import dead_letters, idempotency, outbox, reconciliation, webhook_events
from shared import heap
from shared.ticker import Job

_FORGET_BATCH = 500
_FORGET_INTERVAL_S = 3600.0
_WATCH_S = 15.0
_NAP_INTERVAL_S = 0.25
_POST_INTERVAL_S = 30.0


def jobs(work: Behaviours) -> tuple[Job, ...]:
    """Return the table; every line is also all there is to recovery after a crash."""
    settings, database, flags, metrics = (
        work.ground.settings,
        work.ground.database,
        work.ground.flags,
        work.ground.metrics,
    )
    return (
        Job(
            WEBHOOKS,
            settings.webhook_poll_seconds,
            settings.webhook_batch_size,
            work.processing.process_due,  # whatever the flag says: what was acknowledged must have its effect
        ),
        Job(NEWS, settings.outbox_poll_seconds, settings.outbox_batch_size, work.notifying.deliver_due),
        Job(BREAKERS, settings.breaker_share_seconds, 1, work.switchboard.share),
        # Its pace is in the rows, so that more processes do not make it faster: it never asks for the next batch at once.
        Job("replay_webhooks", settings.webhook_replay_poll_seconds, 1, work.replaying.replay_due),
        Job("check_event_types", settings.webhook_types_check_seconds, 1, work.endpoints.look),
        Job(
            "compare_with_stripe",
            settings.reconcile_interval_seconds / 4,
            1,
            work.reconciliation.compare_due,
            enabled=partial(flags.is_on, RECONCILIATION),
        ),
        Job(
            "ask_unsettled",
            settings.reconcile_interval_seconds / 4,
            settings.reconcile_batch_size,
            work.reconciliation.ask_unsettled,
            enabled=partial(flags.is_on, RECONCILIATION),
        ),
        Job("post_missing", _POST_INTERVAL_S, POST_BATCH, work.ledger_keeping.post_missing),
        Job("check_invariants", settings.invariants_check_seconds, 1, work.invariant_watch.check),
        Job("refresh_flags", settings.flags_refresh_seconds, 1, partial(flags.refresh, database)),
        Job("count_backlogs", settings.gauges_refresh_seconds, 1, _counting_backlogs(work)),
        Job("watch_loop", _NAP_INTERVAL_S, 1, metrics.watch_loop),
        Job("watch_transactions", _WATCH_S, 1, partial(metrics.watch_transactions, database)),
        Job("tidy_heap", heap.LOOK_S, 1, heap.HeapBroom(work.ground.clock).sweep),
        *_brooms(work),
    )


def _counting_backlogs(work: Behaviours) -> Callable[[], Awaitable[int]]:
    """Return what measures all that waits here, for whoever it waits."""
    database, metrics, clock = work.ground.database, work.ground.metrics, work.ground.clock
    began_s = clock.monotonic()

    async def count_backlogs() -> int:
        async with database.reading() as connection:
            waiting = await webhook_events.waiting(connection)
            dead = await dead_letters.by_reason(connection)
            news = await outbox.backlog(connection)
            compared = await reconciliation.state(connection)
        metrics.webhooks_waiting.set(waiting)
        metrics.count_dead_letters(dead)
        metrics.news_waiting.set(news)
        ages = {row["name"]: row["age_s"] for row in compared}
        for name in Pass:
            # Never is as long as we know of, and not 0, which would look as good as just now.
            age_s = clock.monotonic() - began_s if ages.get(name) is None else ages[name]
            metrics.reconciliation_age.labels(name).set(age_s)
        return 0

    return count_backlogs


def _brooms(work: Behaviours) -> tuple[Job, ...]:
    """Return what forgets rows that only answered questions about lately (decision 0023)."""
    settings, database, metrics = work.ground.settings, work.ground.database, work.ground.metrics

    async def forget_old_answers() -> int:
        async with database.transaction("forget_answers") as tx:
            return await idempotency.forget(tx, older_than_days=settings.idempotency_keep_days, limit=_FORGET_BATCH)

    async def forget_old_events() -> int:
        async with database.transaction("forget_events") as tx:
            gone = await webhook_events.forget(tx, older_than_days=settings.webhook_keep_days, limit=_FORGET_BATCH)
        metrics.webhooks_forgotten.inc(gone)
        return gone

    return (
        Job("forget_old_answers", _FORGET_INTERVAL_S, _FORGET_BATCH, forget_old_answers),
        Job("forget_old_events", _FORGET_INTERVAL_S, _FORGET_BATCH, forget_old_events),
    )
