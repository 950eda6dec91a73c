"""Every metric of this service: its name, its labels, and the question it answers."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.database import Database
from shared.http_edge import request_metric
from shared.payment_contract import Outcome

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_CALL = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 30)
_LAG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """Declared on a registry of its own, so that two apps in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = request_metric(registry)
        self.outcomes = Counter(
            "payment_operations",
            "How do create, capture, cancel and refund end?",
            ["operation", "outcome"],
            registry=registry,
        )
        self.provider_calls = Histogram(
            "payment_provider_call_duration_seconds",
            "How long do calls to the provider take, retries included, and how do they end?",
            ["operation", "outcome"],
            buckets=_CALL,
            registry=registry,
        )
        self.contradictions = Counter(
            "payment_contradictions", "How often did Stripe's object contradict ours? Never, please.", registry=registry
        )
        self.webhooks_received = Counter(
            "payment_webhooks_received", "What arrives at the webhook door?", ["result"], registry=registry
        )
        self.webhooks_processed = Counter(
            "payment_webhooks_processed", "What became of the stored events?", ["type", "result"], registry=registry
        )
        self.webhook_lag = Histogram(
            "payment_webhook_lag_seconds",
            "How long after its arrival has an event had its effect?",
            buckets=_LAG,
            registry=registry,
        )
        self.webhooks_waiting = Gauge(
            "payment_webhooks_waiting", "How many stored events still wait for their effect?", registry=registry
        )
        self.dead_letters = Gauge(
            "payment_webhooks_dead", "How many events wait for an operator? Alert above 0.", registry=registry
        )
        self.news_delivered = Counter(
            "payment_news_deliveries", "Does reservation_service get the news?", ["result"], registry=registry
        )
        self.news_waiting = Gauge(
            "payment_news_waiting", "How much news has reservation_service not heard yet?", registry=registry
        )
        self._declare_house_metrics(registry)

    def _declare_house_metrics(self, registry: CollectorRegistry) -> None:
        """Declare what both services measure, under the same names."""
        self.ticks = Histogram(
            "background_run_duration_seconds",
            "Does the background work run, and how long does a batch take?",
            ["job", "succeeded"],
            buckets=_CALL,
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

    def called(self, operation: str, outcome: Outcome, took_s: float) -> None:
        self.provider_calls.labels(operation, str(outcome)).observe(took_s)

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
