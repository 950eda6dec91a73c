"""The table of all that happens without a request: name, interval, batch, function, flag."""

from functools import partial

from reservation_service.behaviours import Behaviours
from reservation_service.booking.expiry import release_expired
from reservation_service.booking.slot_cancellation import SLOTS_AT_ONCE
from reservation_service.booking.tidying import KEYS_AT_ONCE
from reservation_service.flags import HOLD_CLEANUP
from shared import heap
from shared.ticker import Job

_WATCH_S = 15.0
_NAP_INTERVAL_S = 0.25


def jobs(work: Behaviours) -> tuple[Job, ...]:
    """Return the jobs of one process; any number of processes may run them beside each other."""
    settings, database, flags, metrics = (
        work.ground.settings,
        work.ground.database,
        work.ground.flags,
        work.ground.metrics,
    )
    return (
        # name, every ... s, at most ... rows, what, and only if
        Job(
            "sweep_expired_holds",
            settings.sweep_interval_seconds,
            settings.sweep_batch_size,
            partial(release_expired, database, metrics, batch=settings.sweep_batch_size),
            enabled=partial(flags.is_on, HOLD_CLEANUP),
        ),
        Job("resume_sagas", settings.saga_poll_seconds, settings.saga_batch_size, work.engine.run_due),
        Job("count_troubled_sagas", settings.saga_count_seconds, 1, work.saga_desk.count_needing_attention),
        Job(
            "cancel_slots",
            settings.slot_cancellation_poll_seconds,
            SLOTS_AT_ONCE,
            work.slot_cancellations.run_due,
        ),
        Job("refresh_api_keys", settings.api_keys_refresh_seconds, 1, work.api_keys.refresh),
        Job("check_invariants", settings.invariants_check_seconds, 1, work.invariant_watch.check),
        Job("refresh_flags", settings.flags_refresh_seconds, 1, partial(flags.refresh, database)),
        Job("watch_loop", _NAP_INTERVAL_S, 1, metrics.watch_loop),
        Job("forget_old_keys", settings.forget_keys_poll_seconds, KEYS_AT_ONCE, work.key_broom.sweep),
        Job("watch_transactions", _WATCH_S, 1, partial(metrics.watch_transactions, database)),
        Job("tidy_heap", heap.LOOK_S, 1, heap.HeapBroom(work.ground.clock).sweep),
    )
