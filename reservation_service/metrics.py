"""Every metric of this service: its name, its labels, and the question it answers."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.database import Database
from shared.http_edge import request_metric

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_STEP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Declared on a registry of its own, so that two apps in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = request_metric(registry)
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
            buckets=_STEP,
            registry=registry,
        )
        self.sagas_live = Gauge("reservation_sagas_live", "How many sagas run in this process?", registry=registry)
        self.signals = Counter(
            "reservation_payment_signals", "What became of payment_service's messages?", ["result"], registry=registry
        )
        self.ticks = Histogram(
            "background_run_duration_seconds",
            "Does the background work run, and how long does a batch take?",
            ["job", "succeeded"],
            buckets=_STEP,
            registry=registry,
        )
        self.pool = Gauge(
            "db_client_connections",
            "How many pool connections are active, idle, waited for?",
            ["state"],
            registry=registry,
        )
        self.pool_wait = Histogram(
            "db_client_connection_wait_seconds",
            "How long does a request wait for a connection?",
            buckets=_FAST,
            registry=registry,
        )

    def acquired(self, waited_s: float) -> None:
        self.pool_wait.observe(waited_s)

    def ticked(self, job: str, succeeded: bool, took_s: float) -> None:
        self.ticks.labels(job, str(succeeded).lower()).observe(took_s)

    def watch_pool(self, database: Database) -> None:
        """Let every scrape ask the pool itself."""
        database.watch = self
        for state in database.pool_state():
            self.pool.labels(state).set_function(partial(_count, database, state))


def _count(database: Database, state: str) -> float:
    return database.pool_state()[state]
