"""The table of all that happens without a request: name, interval, batch, function, flag."""

from functools import partial

from reservation_service.booking.expiry import release_expired
from reservation_service.booking.slot_cancellation import SLOTS_AT_ONCE, SlotCancellations
from reservation_service.flags import HOLD_CLEANUP
from reservation_service.metrics import Metrics
from reservation_service.saga.desk import SagaDesk
from reservation_service.saga.engine import Engine
from reservation_service.settings import ReservationSettings
from shared.database import Database
from shared.flags import Flags
from shared.ticker import Job


def jobs(
    settings: ReservationSettings, database: Database, flags: Flags, engine: Engine, desk: SagaDesk, metrics: Metrics
) -> tuple[Job, ...]:
    """Return the jobs of one process; any number of processes may run them beside each other."""
    return (
        # name, every ... s, at most ... rows, what, and only if
        Job(
            "sweep_expired_holds",
            settings.sweep_interval_seconds,
            settings.sweep_batch_size,
            partial(release_expired, database, metrics, batch=settings.sweep_batch_size),
            enabled=partial(flags.is_on, HOLD_CLEANUP),
        ),
        Job("resume_sagas", settings.saga_poll_seconds, settings.saga_batch_size, engine.run_due),
        Job("count_troubled_sagas", settings.saga_count_seconds, 1, desk.count_needing_attention),
        Job(
            "cancel_slots",
            settings.slot_cancellation_poll_seconds,
            SLOTS_AT_ONCE,
            SlotCancellations(database, settings).run_due,
        ),
        Job("refresh_flags", settings.flags_refresh_seconds, 1, partial(flags.refresh, database)),
    )
