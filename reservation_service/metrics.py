"""Every metric of this service: its name, its labels, and the question it answers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.process_metrics import CALL_BUCKETS_S, ProcessMetrics

_GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LOCK_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)


class Metrics(ProcessMetrics):
    """Declared on a registry of its own, so that two apps in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._watch_admission(registry)
        self.holds = Counter(
            "reservation_holds",
            "How do requests for a hold end?",
            ["outcome"],
            registry=registry,
        )
        self.holds_expired = Counter(
            "reservation_holds_expired", "How many holds did the sweeper tidy up?", registry=registry
        )
        self._count_locks(registry)

    def _count_locks(self, registry: CollectorRegistry) -> None:
        self.slot_lock_wait = Histogram(
            "reservation_slot_lock_wait_seconds",
            "How long does a group of holds wait for its slots' locks: acquired, contended (goes on without), unavailable?",
            ["outcome"],
            buckets=_LOCK_BUCKETS_S,
            registry=registry,
        )
        self.slot_locks_contended = Counter(
            "reservation_slot_locks_contended", "How often did somebody else have a slot's lock?", registry=registry
        )
        self.slot_locks_lost = Counter(
            "reservation_slot_locks_lost",
            "How often was a lock gone before its holder had finished (expired, flushed, failed over)?",
            registry=registry,
        )
        self.slot_lock_failures = Counter(
            "reservation_slot_lock_failures",
            "How does Redis fail the lock: no answer in time, unreachable, read only, out of memory, other?",
            ["doing", "kind"],
            registry=registry,
        )
        self.rate_limit_counts = Counter(
            "reservation_rate_limit_counts",
            "Who counts requests: Redis, this process, or this process because Redis gave no answer (fallback)?",
            ["counted_by"],
            registry=registry,
        )
        self.rate_limited = Counter(
            "reservation_rate_limited", "Which limit turns requests away?", ["policy"], registry=registry
        )
        self._count_bookings(registry)
        self._declare_streams(registry)

    def _count_bookings(self, registry: CollectorRegistry) -> None:
        self.conversions = Counter(
            "reservation_conversions", "What do convert calls answer?", ["outcome"], registry=registry
        )
        self.bookings = Counter(
            "reservation_bookings", "Which statuses do bookings reach?", ["status"], registry=registry
        )
        self.cancellations = Counter(
            "reservation_cancellations", "Who has bookings cancelled: guests, or operators?", ["by"], registry=registry
        )
        self.refunds_outstanding = Gauge(
            "reservation_refunds_outstanding",
            "How many ended bookings still wait for money to come back? Every process counts all of them.",
            registry=registry,
        )
        self.saga_steps = Histogram(
            "reservation_saga_step_duration_seconds",
            "How long do the saga's outside steps take, and how do they end?",
            ["step", "direction", "outcome"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.sagas_needing_attention = Gauge(
            "reservation_sagas_needing_attention",
            "How many sagas wait for a person, and why? Every process counts all of them: alert on the maximum above 0.",
            ["reason"],
            registry=registry,
        )
        self.sagas_live = Gauge("reservation_sagas_live", "How many sagas run in this process?", registry=registry)
        self.signals = Counter(
            "reservation_payment_signals", "What became of payment_service's messages?", ["result"], registry=registry
        )
        self.late_money = Counter(
            "reservation_late_money",
            "What becomes of money that comes when its booking is over: rebooked, or returned for which reason?",
            ["notice"],
            registry=registry,
        )

    def _declare_streams(self, registry: CollectorRegistry) -> None:
        self.stream_listeners = Gauge(
            "reservation_stream_listeners", "How many availability streams are open?", registry=registry
        )
        self.stream_listeners_cut = Counter(
            "reservation_stream_listeners_cut", "How many could not follow and were cut off?", registry=registry
        )
        self.stream_looks = Counter(
            "reservation_stream_looks", "How often was the database asked for changed slots?", registry=registry
        )

    def _watch_admission(self, registry: CollectorRegistry) -> None:
        self.holds_displaced = Counter(
            "reservation_holds_displaced",
            "How many lapsed holds gave way to somebody who wanted their seats before the sweeper came?",
            registry=registry,
        )
        self.keys_forgotten = Counter(
            "reservation_keys_forgotten", "How many old idempotency keys were deleted?", registry=registry
        )
        self.admission_waiting = Gauge(
            "reservation_admission_waiting",
            "How many callers wait to be admitted right now, in line, in a group or for a lock?",
            registry=registry,
        )
        self.admission_left = Counter(
            "reservation_admission_left",
            "How many callers hung up while they waited to be admitted, and were dropped?",
            registry=registry,
        )
        self.admission_wait = Histogram(
            "reservation_admission_wait_seconds",
            "How long does a caller wait for the statement that takes seats, the line before it included?",
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.admission_group_size = Histogram(
            "reservation_admission_group_size",
            "How many holds share one transaction?",
            buckets=_GROUP_BUCKETS,
            registry=registry,
        )
        self.admission_groups = Counter(
            "reservation_admission_groups",
            "How do groups end: written, blocked by a lock, or settled_alone after an error or a cut commit?",
            ["outcome"],
            registry=registry,
        )
