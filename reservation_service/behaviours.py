"""Makes every behaviour of this service of what it needs, each once: the order in which they are made follows from that."""

from dataclasses import dataclass
from functools import cached_property, partial

from reservation_service.booking.api_keys import ApiKeys
from reservation_service.booking.availability import SlotWatch
from reservation_service.booking.catalogue import Offers
from reservation_service.booking.group_admission import GroupAdmission, Patience
from reservation_service.booking.holds import Holds
from reservation_service.booking.slot_cancellation import SlotCancellations
from reservation_service.booking.tidying import KeyBroom
from reservation_service.booking.timeline import Timelines
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.payments import PaymentsClient
from reservation_service.clients.slot_lock import SlotLocks
from reservation_service.flags import DISTRIBUTED_LOCK
from reservation_service.metrics import Metrics
from reservation_service.saga.calling_off import CallingOff
from reservation_service.saga.definition import Saga
from reservation_service.saga.desk import SagaDesk
from reservation_service.saga.engine import Engine
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.settings import ReservationSettings
from reservation_service.store import audit
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.invariant_watch import InvariantWatch


@dataclass(frozen=True)
class Ground:
    """What all behaviours stand on."""

    settings: ReservationSettings
    database: Database
    clock: Clock
    flags: Flags
    metrics: Metrics
    redis: FastRedis
    payments: PaymentsClient


class Behaviours:
    """All that this service does, for one process."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    @cached_property
    def invariant_watch(self) -> InvariantWatch:
        return InvariantWatch(self.ground.database, audit.INVARIANTS, self.ground.metrics)

    # seats

    @cached_property
    def group(self) -> GroupAdmission:
        ground, settings = self.ground, self.ground.settings
        locks = SlotLocks(
            ground.redis,
            ground.metrics,
            ground.clock,
            ttl_ms=settings.slot_lock_ttl_ms,
            enabled=partial(ground.flags.is_on, DISTRIBUTED_LOCK),
        )
        patience = Patience(settings.admission_queue_max, settings.admission_deadline_s, settings.admission_group_s)
        return GroupAdmission(ground.database, ground.clock, locks, ground.metrics, patience)

    @cached_property
    def holds(self) -> Holds:
        ground = self.ground
        offers = Offers(ground.database, ground.clock)
        return Holds(ground.database, ground.settings, offers, self.group, ground.metrics)

    @cached_property
    def watch(self) -> SlotWatch:
        ground = self.ground
        return SlotWatch(ground.database, ground.settings, ground.metrics, ground.clock)

    @cached_property
    def slot_cancellations(self) -> SlotCancellations:
        return SlotCancellations(self.ground.database, self.ground.settings, self.ground.metrics)

    @cached_property
    def key_broom(self) -> KeyBroom:
        ground = self.ground
        return KeyBroom(ground.database, ground.metrics, keep_days=ground.settings.idempotency_keep_days)

    # callers

    @cached_property
    def api_keys(self) -> ApiKeys:
        return ApiKeys(self.ground.database, self.ground.clock)

    # bookings

    @cached_property
    def saga(self) -> Saga:
        patience_s = self.ground.settings.async_payment_max_seconds
        return reservation_saga(Steps(self.ground.payments, async_payment_max_s=patience_s))

    @cached_property
    def engine(self) -> Engine:
        ground = self.ground
        return Engine(ground.database, self.saga, ground.settings, ground.metrics, ground.clock)

    @cached_property
    def calling_off(self) -> CallingOff:
        return CallingOff(self.ground.database, self.engine, self.ground.metrics)

    @cached_property
    def saga_desk(self) -> SagaDesk:
        return SagaDesk(self.ground.database, self.saga, self.engine, self.ground.metrics)

    @cached_property
    def timelines(self) -> Timelines:
        patience_s = self.ground.settings.timeline_patience_s
        return Timelines(self.ground.database, self.ground.payments, patience_s=patience_s)
