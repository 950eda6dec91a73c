"""Every metric of this service: its name, its labels, and the question it answers."""

from collections.abc import Callable, Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.payment_contract import Outcome
from shared.process_metrics import CALL_BUCKETS_S, ProcessMetrics

# A counter that appears with its first event has no increase that an alert could see, so these begin at 0.
_OPERATIONS = ("create_payment", "capture_payment", "cancel_payment", "refund_payment")
_RECEIVED = ("stored", "duplicate", "bad_signature", "malformed")
_DRIFT = ("event", "intent", "payment", "orphan")
_LAG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics(ProcessMetrics):
    """Declared on a registry of its own, so that two apps in one process do not share counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.outcomes = Counter(
            "payment_operations",
            "How do create, capture, cancel and refund end?",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation, outcome in product(_OPERATIONS, Outcome):
            self.outcomes.labels(operation, str(outcome))
        self.provider_calls = Histogram(
            "payment_provider_call_duration_seconds",
            "How long do calls to the provider take, retries included, and how do they end?",
            ["operation", "outcome"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.breaker_state = Gauge(
            "payment_breaker_state",
            "Are calls to the provider cut off? 0 no, 1 one may try, 2 yes. Alert on 2 for minutes.",
            ["breaker"],
            registry=registry,
        )
        self.breaker_changes = Counter(
            "payment_breaker_changes",
            "How often does a breaker change, as this process sees it?",
            ["breaker", "to"],
            registry=registry,
        )
        self.breaker_refusals = Counter(
            "payment_breaker_refusals", "How many calls were not even tried?", ["breaker"], registry=registry
        )
        self._count_messages(registry)

    def _count_messages(self, registry: CollectorRegistry) -> None:
        """Declare what comes from Stripe and what goes to reservation_service."""
        self.contradictions = Counter(
            "payment_contradictions", "How often did Stripe's object contradict ours? Never, please.", registry=registry
        )
        self.webhooks_received = Counter(
            "payment_webhooks_received", "What arrives at the webhook door?", ["result"], registry=registry
        )
        for result in _RECEIVED:
            self.webhooks_received.labels(result)
        self.webhooks_processed = Counter(
            "payment_webhooks_processed", "What became of the stored events?", ["type", "result"], registry=registry
        )
        self.webhooks_processed.labels("payment_intent.payment_failed", "processed")
        self.webhook_lag = Histogram(
            "payment_webhook_lag_seconds",
            "How long after its arrival has an event had its effect?",
            buckets=_LAG,
            registry=registry,
        )
        self.webhooks_waiting = Gauge(
            "payment_webhooks_waiting", "How many stored events still wait for their effect?", registry=registry
        )
        self.webhooks_forgotten = Counter(
            "payment_webhooks_forgotten",
            "How many handled events were deleted because of their age?",
            registry=registry,
        )
        self.dead_letters = Gauge(
            "payment_webhooks_dead", "How many events wait for an operator? Alert above 0.", registry=registry
        )
        self.dead_letters_by_reason = Gauge(
            "payment_webhooks_dead_by_reason", "Why are events dead?", ["reason"], registry=registry
        )
        self.event_types_missing = Gauge(
            "payment_webhook_event_types_missing",
            "How many event types that we need does no endpoint at Stripe send? Alert above 0; -1: not known.",
            registry=registry,
        )
        self.event_types_missing.set(-1)
        self._count_what_is_compared(registry)

    def _count_what_is_compared(self, registry: CollectorRegistry) -> None:
        """Declare what the comparison with Stripe finds, and what becomes of its news."""
        self.drift = Counter(
            "payment_reconciliation_drift",
            "What did only the comparison with Stripe tell us: an event, a payment's state, an intent, an orphan?",
            ["kind"],
            registry=registry,
        )
        for kind in _DRIFT:
            self.drift.labels(kind)
        self.reconciliation_age = Gauge(
            "payment_reconciliation_age_seconds",
            "How long ago was Stripe's list last read to its end? Never: how long this process has been up.",
            ["comparison"],
            registry=registry,
        )
        self.news_delivered = Counter(
            "payment_news_deliveries", "Does reservation_service get the news?", ["result"], registry=registry
        )
        self.news_spared = Counter(
            "payment_news_spared",
            "How much news need not be told, because an answer or newer news has said it?",
            registry=registry,
        )
        self.news_waiting = Gauge(
            "payment_news_waiting", "How much news has reservation_service not heard yet?", registry=registry
        )

    def count_dead_letters(self, by_reason: Mapping[str, int]) -> None:
        """Show how many events are dead, in all and by reason; a reason that nobody has any more disappears."""
        self.dead_letters.set(sum(by_reason.values()))
        self.dead_letters_by_reason.clear()
        for reason, count in by_reason.items():
            self.dead_letters_by_reason.labels(reason).set(count)

    def called(self, operation: str, outcome: Outcome, took_s: float) -> None:
        self.provider_calls.labels(operation, str(outcome)).observe(took_s)

    def breaker_changed(self, name: str, state: str) -> None:
        self.breaker_changes.labels(name, state).inc()

    def breaker_refused(self, name: str) -> None:
        self.breaker_refusals.labels(name).inc()

    def watch_breaker(self, name: str, level: Callable[[], float]) -> None:
        """Let every scrape ask the breaker itself."""
        self.breaker_state.labels(name).set_function(level)
