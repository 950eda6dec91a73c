"""What both services measure of themselves, under the same names: answers, background work, the connection pool."""

import asyncio
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Histogram

from shared.database import Database
from shared.http_edge import request_metric

_NAP_S = 0.25
_WAIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ProcessMetrics:
    """The common part of a service's `Metrics`; on a registry of its own, so that two apps do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = request_metric(registry)
        self.ticks = Histogram(
            "background_run_duration_seconds",
            "Does the background work run, and how long does a batch take?",
            ["task", "succeeded"],
            buckets=CALL_BUCKETS_S,
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
            buckets=_WAIT,
            registry=registry,
        )

        self.loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How late does the event loop wake who has slept? Alert when p99 is above 0.1: something blocks it.",
            buckets=_WAIT,
            registry=registry,
        )
        self.oldest_transaction = Gauge(
            "db_oldest_transaction_seconds",
            "For how long has somebody kept a transaction open? PostgreSQL cannot tidy up after it. Alert above 300.",
            registry=registry,
        )
        self.invariant_violations = Gauge(
            "invariant_violations",
            "How many rows violate an invariant, as of the last check? Alert above 0.",
            ["id"],
            registry=registry,
        )
        self.invariants_checked_at = Gauge(
            "invariants_checked_timestamp_seconds",
            "When did this process last check the invariants? Alert when no process has for an hour.",
            registry=registry,
        )

    def acquired(self, waited_s: float) -> None:
        self.pool_wait.observe(waited_s)

    def ticked(self, job: str, succeeded: bool, took_s: float) -> None:
        self.ticks.labels(job, str(succeeded).lower()).observe(took_s)

    async def watch_loop(self) -> int:
        """Sleep for a moment and note how much longer it was; nothing of it is left to do. Run by a ticker."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _NAP_S
        await asyncio.sleep(_NAP_S)
        self.loop_lag.observe(max(0.0, loop.time() - due))
        return 0

    async def watch_transactions(self, database: Database) -> int:
        """Measure the oldest transaction, whoever's it is; nothing of it is left to do. Run by a ticker."""
        self.oldest_transaction.set(await database.oldest_transaction_s())
        return 0

    def watch_pool(self, database: Database) -> None:
        """Let every scrape ask the pool itself."""
        database.watch = self
        for state in database.pool_state():
            self.pool.labels(state).set_function(partial(_count, database, state))


def _count(database: Database, state: str) -> float:
    return database.pool_state()[state]
