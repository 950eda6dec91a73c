"""Every metric of this service: its name, its labels, and the question it answers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.process_metrics import CALL_BUCKETS_S, ProcessMetrics


class Metrics(ProcessMetrics):
    """Declared on a registry of its own, so that two apps in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.holds = Counter(
            "reservation_holds",
            "How do requests for a hold end?",
            ["outcome"],
            registry=registry,
        )
        self.holds_expired = Counter(
            "reservation_holds_expired", "How many holds did the sweeper tidy up?", registry=registry
        )
        self.conversions = Counter(
            "reservation_conversions", "What do convert calls answer?", ["outcome"], registry=registry
        )
        self.bookings = Counter(
            "reservation_bookings", "Which statuses do bookings reach?", ["status"], registry=registry
        )
        self.saga_steps = Histogram(
            "reservation_saga_step_duration_seconds",
            "How long do the saga's outside steps take, and how do they end?",
            ["step", "direction", "outcome"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.sagas_live = Gauge("reservation_sagas_live", "How many sagas run in this process?", registry=registry)
        self.signals = Counter(
            "reservation_payment_signals", "What became of payment_service's messages?", ["result"], registry=registry
        )
